"""Material for the benchmarks: generated images, and trainers on a tiny generated dataset. Nothing to run here."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from ultralytics.utils import LOGGER

from mwam_det import MWAMTrainer
from mwam_det.data import dataset
from mwam_det.data.synthetic import CLASS_NAMES, write_demo


def pictures(shape: tuple[int, int, int, int], seed: int) -> Tensor:
    """Return smooth images with slight noise, like a camera's: uint8, no pixel at 0 or 255, no flat patch."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(*shape[:2], 12, 12, generator=generator) * 140 + 55
    smooth = F.interpolate(coarse, shape[2:], mode="bicubic")
    return (smooth + 2 * torch.randn(shape, generator=generator)).clamp(0, 255).round().byte()


def demo_data(folder: Path, *, train: int = 8, val: int = 2, size: tuple[int, int] = (64, 64)) -> dict[str, Any]:
    """Write a tiny paired set and return its data section."""
    dataset.SCANS = folder / "scans"  # leave nothing in the user's cache
    with redirect_stdout(io.StringIO()):  # a progress bar
        written = write_demo(folder / "set", train=train, val=val, size=size)
    return {
        "path": str(written),
        "modalities": {"rgb": "visible", "ir": "infrared"},
        "labels": "labels",
        "train": "train",
        "val": "val",
        "names": dict(CLASS_NAMES),
    }


def trainer_at_start(data: dict[str, Any], folder: Path, **arguments: Any) -> MWAMTrainer:
    """Return a trainer of two-stream YOLOv8n just before its first mini-batch; seeded, so that two are equal.

    Args:
        data: The data section.
        folder: Folder for its run folder.
        **arguments: As in `MWAMTrainer`.
    """
    LOGGER.setLevel("ERROR")
    defaults = {"model": "yolov8n.yaml", "device": "cpu", "workers": 0, "plots": False, "project": str(folder)}
    trainer = MWAMTrainer(overrides={**defaults, "data": data, **arguments})
    trainer._setup_train()
    trainer.epoch = 0
    trainer._model_train()
    return trainer


def train_step(trainer: MWAMTrainer, batch: dict[str, Any], precision: torch.dtype = torch.float16) -> None:
    """Train on a mini-batch as in Ultralytics' training loop, and step the optimizer at once.

    Args:
        trainer: The result of `trainer_at_start`.
        batch: A mini-batch of its loader.
        precision: Type that autocast uses: float16 if the trainer uses mixed precision, or bfloat16, on a CPU too.
    """
    enabled = precision == torch.bfloat16 or trainer.amp
    with torch.autocast(trainer.device.type, precision, enabled=enabled):
        loss, _ = trainer.model(trainer.preprocess_batch(dict(batch)))
    trainer.scaler.scale(loss.sum()).backward()
    trainer.optimizer_step()
