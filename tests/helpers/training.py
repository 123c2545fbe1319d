"""Short trainings for tests."""

import math
from collections import Counter
from pathlib import Path

import torch
from labels import labelled_batch
from ultralytics.models.yolo.detect import DetectionTrainer
from untrained import TINY

from mwam_det import MultimodalYOLO, MWAMTrainer
from mwam_det.data.dataset import PairedDataset
from mwam_det.data.paired_data import save_dataset_yaml
from mwam_det.data.section import resolve_dataset
from mwam_det.experiments import load

SHORT = {
    "model": TINY,
    "epochs": 2,
    "imgsz": 64,
    "batch": 4,
    "optimizer": "SGD",
    "plots": False,
    "workers": 0,
    "device": "cpu",
}


class StockTrainer(DetectionTrainer):
    """Ultralytics' own trainer, given the paired dataset and the two-stream model and nothing else of ours."""

    def get_dataset(self):
        data = resolve_dataset(self.args.data).as_dict()
        self.args.data = save_dataset_yaml(data, self.save_dir)
        return data

    def get_model(self, cfg=None, weights=None, verbose=True):
        from mwam_det.models.two_stream import build_two_stream, two_stream_cfg

        return self.set_model_names_for_load(build_two_stream(two_stream_cfg(cfg), self.data["nc"]))

    build_dataset, plain = MWAMTrainer.build_dataset, MWAMTrainer.plain


def run(trainer_class, section: dict, folder: Path, **overrides):
    """Train for a moment and return the trainer, with the loss of each mini-batch as `losses`."""
    arguments = {**SHORT, "data": section, "project": str(folder), "name": "run", **overrides}
    trainer = trainer_class(overrides=arguments)
    trainer.losses = []
    trainer.add_callback("on_train_batch_end", lambda t: t.losses.append(t.loss.item()))
    trainer.train()
    return trainer


def at_start(section: dict, folder: Path, **overrides) -> MWAMTrainer:
    """Return a trainer as it stands before its first mini-batch; seeded, so that two are equal."""
    trainer = MWAMTrainer(overrides={**SHORT, "data": section, "project": str(folder), **overrides})
    trainer._setup_train()
    trainer.epoch = 0
    trainer._model_train()
    return trainer


def batch_of_bytes() -> dict:
    """Return a mini-batch of two images with boxes, as a loader of three channels for each of two modalities does."""
    batch = labelled_batch("detect", 6)
    return {**batch, "img": (batch["img"] * 255).byte()}


def step(trainer: MWAMTrainer, batch: dict, precision: torch.dtype = torch.float32) -> float:
    """Do what Ultralytics' loop does with a mini-batch on a CPU, step the optimizer at once, and return the loss."""
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        loss, _ = trainer.model(trainer.preprocess_batch(dict(batch)))
    trainer.scaler.scale(loss.sum()).backward()
    trainer.optimizer_step()
    return loss.sum().item()


def train_recipe(file: Path, folder: Path, *overrides: str) -> MWAMTrainer:
    """Train one epoch of a recipe, small, as the command line does, and return the trainer as `run` does."""
    small = ("epochs=1", "imgsz=32", "batch=2", "workers=0", "device=cpu", "plots=false", f"project={folder}")
    recipe = load(file, [*overrides, *(f"train.{argument}" for argument in small)]).recipe
    losses = []
    model = MultimodalYOLO(recipe.model, fusion=recipe.fusion)
    model.add_callback("on_train_batch_end", lambda t: losses.append(t.loss.item()))
    model.train(data=recipe.data, mwam=recipe.mwam, incomplete=recipe.incomplete, robustness=False, **recipe.train)
    model.trainer.losses = losses
    return model.trainer


def check_training(trainer: MWAMTrainer, record: dict, channels: dict[str, int] | None = None) -> None:
    """Check that a run with MWAM on saw all that a conversion wrote, in the modalities expected, and came to its end.

    Args:
        trainer: What `train_recipe` returned.
        record: What `convert` returned; it must have boxes in the training and the validation split.
        channels: Channels by modality, three for rgb and ir if left out.
    """
    channels = channels or {"rgb": 3, "ir": 3}
    seen = {"train": trainer.train_loader.dataset, "val": trainer.test_loader.dataset}
    assert {split: seen_in(dataset) for split, dataset in seen.items()} == record["splits"]
    assert all(sum(split["boxes"].values()) > 0 for split in record["splits"].values())
    assert trainer.model.yaml["modalities"] == channels
    assert {len(dataset[0]["img"]) for dataset in seen.values()} == {sum(channels.values())}
    assert trainer.mwam is not None and list(trainer.mwam.last.weight) == list(channels)
    assert isinstance(trainer.optimizer, torch.optim.SGD)  # the kin of Adam would undo MWAM's scaling
    assert trainer.losses and all(map(math.isfinite, trainer.losses))
    assert trainer.last.is_file()


def seen_in(dataset: PairedDataset) -> dict:
    """Count the pairs and the boxes a class that a dataset holds, as conversion.json does."""
    boxes = Counter(int(class_id) for labels in dataset.labels for class_id in labels["cls"].ravel())
    return {"pairs": len(dataset), "boxes": {name: boxes[i] for i, name in dataset.data["names"].items()}}
