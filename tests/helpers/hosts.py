"""Small hosts and small sets on disk, to train in a moment."""

from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from mwam_det import MWAMConfig
from mwam_det.hosts.data.layout import find_samples
from mwam_det.hosts.data.samples import Augmentation, MultimodalDataset
from mwam_det.hosts.loop import Host, HostTrainer
from mwam_det.hosts.models.access import modality_access
from mwam_det.hosts.settings import TrainSettings
from mwam_det.hosts.tasks import Classification
from mwam_det.training.config import RunConfig

SIZE = 16


class Toy(nn.Module):
    """Two streams of one convolution, concatenated."""

    def __init__(self):
        super().__init__()
        self.streams = nn.ModuleDict({name: stream() for name in ("rgb", "ir")})
        self.head = nn.Linear(8, 2)

    def forward(self, inputs):
        return self.head(torch.cat([stream(inputs[name]) for name, stream in self.streams.items()], 1))


class ToyMD(Toy):
    """The same with modality access: the features of a missing modality are 0."""

    def forward(self, inputs, views=None):
        access = modality_access(inputs, views)
        return self.head(torch.cat([access(name, stream(inputs[name])) for name, stream in self.streams.items()], 1))


def stream():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 4),
    )


def write_pictures(root: Path, count=8, splits=("train", "val"), modalities=("rgb", "ir"), classes=("a", "b")) -> Path:
    """Pictures in folders a class: the second class is brighter on its left, in every modality."""
    random = np.random.default_rng(0)
    for split in splits:
        for number, name in enumerate(classes):
            for modality in modalities:
                folder = root / split / modality / name
                folder.mkdir(parents=True)
                for place in range(count // len(classes)):
                    pixels = random.integers(40, 120, (SIZE, SIZE, 3)).astype(np.uint8)
                    pixels[:, : SIZE // 2] += np.uint8(60 * number)
                    cv2.imwrite(str(folder / f"{'day' if place % 2 else 'night'}_{place}.png"), pixels)
    return root


def write_rooms(root: Path, count=4, size=(64, 64), classes=3) -> Path:
    """Rooms in ESANet's layout: colour and 16-bit depth show the class of a pixel; a void border."""
    random = np.random.default_rng(0)
    for split in ("train", "test"):
        for kind in ("rgb", "depth", "labels_40"):
            (root / split / kind).mkdir(parents=True)
        for place in range(count):
            labels = random.integers(1, classes + 1, (4, 4)).repeat(size[0] // 4, 0).repeat(size[1] // 4, 1)
            labels[:2] = 0
            noise = random.integers(0, 20, (*size, 3))
            cv2.imwrite(
                str(root / split / "rgb" / f"{place:04}.png"), (labels[..., None] * 60 + noise).astype(np.uint8)
            )
            cv2.imwrite(
                str(root / split / "depth" / f"{place:04}.png"), (labels * 2000 + noise[..., 0]).astype(np.uint16)
            )
            cv2.imwrite(str(root / split / "labels_40" / f"{place:04}.png"), labels.astype(np.uint8))
    return root


def write_faces(root: Path, train=24, val=8, size=40) -> Path:
    """Faces cut out on black with lists as CASIA-SURF has them: a real one has depth and warmth, a fake one is flat."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:size, :size] / size - 0.5
    for name, count in (("train_list.txt", train), ("val_private_list.txt", val)):
        lines = []
        for number in range(count):
            real = number % 2
            face = np.hypot(rows * random.uniform(0.9, 1.3), columns * random.uniform(1.1, 1.5)) < 0.45
            relief = np.exp(-8 * (rows**2 + columns**2))
            shades = {
                "color": random.uniform(90, 150) + 40 * relief,
                "depth": 120 + 80 * real * relief,
                "ir": 70 + 60 * real + 20 * relief,
            }
            files = []
            for modality, shade in shades.items():
                pixels = (shade + random.normal(0, 8, (size, size))).clip(1, 255) * face
                file = Path(name.partition("_")[0]) / f"{number:03}-{modality}.png"
                (root / file.parent).mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(root / file), pixels.astype(np.uint8))
                files.append(file.as_posix())
            lines.append(" ".join([*files, str(real)]))
        (root / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


@contextmanager
def killed_after(steps: int, error: type[BaseException]):
    """Raise an error in training after so many steps, and see that it comes out."""
    step, seen = HostTrainer._step, []

    def fail_later(self, *args):
        seen.append(1)
        if len(seen) > steps:
            raise error
        return step(self, *args)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(error):
        patch.setattr(HostTrainer, "_step", fail_later)
        yield


def section(root: Path, **changes) -> dict:
    """The data section of `write_pictures`."""
    folders = {"rgb": "{split}/rgb", "ir": "{split}/ir"}
    return {"path": str(root), "modalities": folders, "train": "train", "val": "val", **changes}


def rooms_section(root: Path, **changes) -> dict:
    """The data section of `write_rooms`."""
    return {
        "path": str(root),
        "modalities": {"rgb": "{split}/rgb", "depth": "{split}/depth"},
        "labels": "{split}/labels_40",
        "channels": {"depth": 1},
        "range": {"depth": [0, 10000]},
        "train": "train",
        "val": "test",
        "names": ["wall", "floor", "cabinet"],
        **changes,
    }


def toy_trainer(root: Path, folder: Path, model=None, **values) -> HostTrainer:
    """A trainer of `Toy` on `write_pictures`, with MWAM; values are those of `TrainSettings` or of `RunConfig`."""
    given = {key: values.pop(key) for key in ("mwam", "incomplete", "balancing", "selection") if key in values}
    config = RunConfig(**{"mwam": MWAMConfig(), **given})
    settings = TrainSettings(**{"epochs": 2, "batch": 4, "imgsz": SIZE, "lr0": 0.1, "device": "cpu", **values})
    data = find_samples(section(root), segmentation=False)
    train, val = (
        MultimodalDataset(data.splits[split], data.modalities, settings.size, how, settings.seed)
        for split, how in (("train", Augmentation(settings.flip, settings.scale, settings.degrees)), ("val", None))
    )
    torch.manual_seed(settings.seed)
    model = model or Toy()
    folder.mkdir(parents=True, exist_ok=True)
    return HostTrainer(Host(model, model.streams, Classification(2), 2, train, val, folder, settings, config))
