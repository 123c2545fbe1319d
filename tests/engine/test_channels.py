"""Modalities of one channel, and more than two modalities, from the recipe to the exported file."""

import copy
import os

import numpy as np
import pytest
import torch
from tables import read_csv
from training import run
from ultralytics import YOLO
from ultralytics.utils.torch_utils import unwrap_model

from mwam_det import MultimodalYOLO, MWAMTrainer, frequency_ratio_metric
from mwam_det.data.errors import DatasetError
from mwam_det.engine.validator import MultimodalValidator
from mwam_det.models.two_stream import SPLIT_LAYER, streams_of

pytestmark = pytest.mark.slow  # of all of them, the training that they look at takes longest


class Observed(MWAMTrainer):
    """Keeps what MWAM was shown, and the batch that it came from."""

    def preprocess_batch(self, batch):
        self.__dict__.setdefault("seen", []).append(batch["img"].clone())
        return super().preprocess_batch(batch)


@pytest.fixture(scope="module")
def section(demo_section):
    return {**demo_section, "channels": {"ir": 1}}


@pytest.fixture(scope="module")
def trained(section, tmp_path_factory):
    return run(Observed, section, tmp_path_factory.mktemp("grey"), epochs=1, plots=True)


def test_the_split_and_the_first_convolutions_follow_the_channels(trained):
    model = torch.load(trained.best, weights_only=False)["model"].float()
    assert model.yaml["modalities"] == {"rgb": 3, "ir": 1}
    assert torch.equal(model.model[SPLIT_LAYER].conv.weight[..., 0, 0], torch.eye(4))
    assert {name: stream[1].conv.in_channels for name, stream in streams_of(model).items()} == {"rgb": 3, "ir": 1}
    assert {type(m).__module__.split(".")[0] for m in model.modules()} <= {"ultralytics", "torch"}


def test_mwam_observes_the_channels_of_each_modality(trained):
    for row, images in zip(read_csv(trained.save_dir / "mwam.csv"), trained.seen, strict=False):
        assert images.shape[1] == 4
        flat = torch.stack([images.unfold(2, 8, 8).unfold(3, 8, 8).flatten(-2)]).squeeze(0)
        ignore = (flat.amax(-1) == flat.amin(-1)).all(1)
        for name, channels in (("rgb", slice(0, 3)), ("ir", slice(3, 4))):
            expected = frequency_ratio_metric(images[:, channels], ignore=ignore)
            assert float(row[f"frm_{name}"]) == pytest.approx(float(expected), rel=1e-4)


def test_batches_are_drawn_with_the_grey_modality_beside_the_other(trained):
    for name in ("train_batch0.jpg", "val_batch0_labels.jpg", "val_batch0_pred.jpg"):
        assert (trained.save_dir / name).is_file()


def test_every_combination_is_evaluated(trained, section, tmp_path):
    model = MultimodalYOLO(str(trained.best))
    arguments = {"imgsz": 64, "batch": 4, "workers": 0, "device": "cpu"}
    report = model.robustness(section, save_dir=tmp_path, **arguments)
    assert [result.available for result in report.results] == [("rgb",), ("ir",), ("rgb", "ir")]
    for result in report.results:
        missing = [name for name in ("rgb", "ir") if name not in result.available]
        box = model.val(data=section, missing=missing, rect=True, plots=False, **arguments).box
        assert result.metrics["mAP50"] == pytest.approx(box.map50, abs=1e-6)


@pytest.mark.parametrize(("missing", "planes"), [("rgb", [0, 0, 0, 1]), ("ir", [1, 1, 1, 0])])
def test_a_missing_modality_is_zero_in_its_own_planes(trained, missing, planes):
    validator = MultimodalValidator(args={"missing": [missing]})
    validator.data, validator.device = trained.data, torch.device("cpu")
    batch = {key: torch.zeros(1) for key in ("batch_idx", "cls", "bboxes")}
    images = validator.preprocess({**batch, "img": torch.full((2, 4, 16, 16), 255, dtype=torch.uint8)})["img"]
    assert images.mean((0, 2, 3)).tolist() == planes


def test_a_plain_yolo_opens_the_checkpoint_and_predicts_on_four_channels(trained):
    images = torch.rand(1, 4, 64, 64)
    (result,) = YOLO(str(trained.best)).predict(images, imgsz=64, verbose=False, device="cpu")
    assert result.boxes is not None


def test_other_channels_in_the_data_than_in_the_model_are_refused_with_both(trained, demo_section):
    model = MultimodalYOLO(str(trained.best))
    with pytest.raises(DatasetError) as caught:
        model.val(data=demo_section, imgsz=64, device="cpu")
    assert "{'rgb': 3, 'ir': 1}" in str(caught.value)
    assert "{'rgb': 3, 'ir': 3}" in str(caught.value)


def test_a_new_training_on_other_channels_does_not_take_the_weights_over(trained, demo_section, tmp_path):
    with pytest.raises(DatasetError, match="the model takes the modalities"):
        run(MWAMTrainer, demo_section, tmp_path, model=str(trained.best), epochs=1)


def test_the_exported_model_takes_four_channels(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = MultimodalYOLO(str(trained.best)).export(format="torchscript", imgsz=64, device="cpu")
    exported, own = torch.jit.load(file), torch.load(trained.best, weights_only=False)["model"].float().eval()
    images = torch.rand(1, 4, 64, 64)
    with torch.no_grad():
        assert torch.allclose(exported(images), copy.deepcopy(own).fuse(verbose=False)(images)[0], atol=1e-2)


# Real sets -----------------------------------------------------------------------------------------------------------


def linked(source, target, count):
    """Link the first files of a folder, so that a test reads few of them and writes nothing beside them."""
    target.mkdir(parents=True)
    for file in sorted(source.iterdir())[:count]:
        os.symlink(file, target / file.name)


@pytest.mark.slow
def test_three_real_modalities_train_with_three_streams(shared_data, tmp_path):
    root = tmp_path / "peach"
    for folder in ("rgb", "infrared", "depth", "labels"):
        for split in ("train", "val"):
            linked(shared_data / "peach3_640" / folder / split, root / folder / split, 4)
    section = {
        "path": str(root),
        "modalities": {"rgb": "rgb", "ir": "infrared", "depth": "depth"},
        "labels": "labels",
        "train": "train",
        "val": "val",
        "names": ["none", "leaf", "branch", "fruit"],
        "channels": {"depth": 1},
        "range": {"ir": "percentile", "depth": [300, 2500]},
    }
    trainer = run(MWAMTrainer, section, tmp_path, epochs=1, imgsz=96)
    model = unwrap_model(trainer.model)
    assert list(streams_of(model)) == ["rgb", "ir", "depth"]
    assert np.isfinite(trainer.losses).all()
    assert set(trainer.mwam.last.weight) == {"rgb", "ir", "depth"}
    image = trainer.train_loader.dataset.load_image(0)[0]
    assert image.shape[2] == 7
    assert all(image[..., channel].std() > 5 for channel in range(7))


def test_real_depth_trains_as_one_channel(shared_data, tmp_path):
    root = tmp_path / "nyu"
    for split in ("train", "test"):
        for folder in ("rgb", "depth", "boxes"):
            linked(shared_data / "nyuv2" / split / folder, root / split / folder, 4)
    section = {
        "path": str(root),
        "modalities": {"rgb": "{split}/rgb", "depth": "{split}/depth"},
        "labels": "{split}/boxes",
        "train": "train",
        "val": "test",
        "names": (shared_data / "nyuv2" / "box_classes.txt").read_text().split("\n")[:20],
        "channels": {"depth": 1},
        "range": {"depth": [0, 255]},
    }
    trainer = run(MWAMTrainer, section, tmp_path, epochs=1, imgsz=64)
    assert np.isfinite(trainer.losses).all()
    assert {name: stream[1].conv.in_channels for name, stream in streams_of(trainer.model).items()} == {
        "rgb": 3,
        "depth": 1,
    }


@pytest.mark.slow
def test_a_training_reads_from_the_disk_cache(demo_section, tmp_path):
    plain = run(MWAMTrainer, demo_section, tmp_path / "a", epochs=1, **dict.fromkeys(("mosaic", "translate"), 0.0))
    kept = run(
        MWAMTrainer, demo_section, tmp_path / "b", epochs=1, cache="disk", **dict.fromkeys(("mosaic", "translate"), 0.0)
    )
    assert kept.train_loader.dataset.cache == "disk"
    assert kept.losses == plain.losses
