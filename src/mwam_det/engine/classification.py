"""Ultralytics' classification trainer, validator and predictor, for stacks of 8-bit images.

The originals read one modality through Pillow and torchvision; everything else is reused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from ultralytics.data import build_dataloader
from ultralytics.models.yolo.classify import ClassificationPredictor, ClassificationTrainer, ClassificationValidator
from ultralytics.utils.metrics import ClassifyMetrics
from ultralytics.utils.torch_utils import torch_distributed_zero_first

from mwam_det.data.classes import centre_crop
from mwam_det.engine.compat import without_task


class StackedClassificationTrainer(ClassificationTrainer):
    """Train a classifier on the dataset of `build_dataset`."""

    def get_dataloader(self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train") -> DataLoader:
        """Build the loader of a split; arguments as in `ClassificationTrainer.get_dataloader`."""
        with torch_distributed_zero_first(rank):
            dataset = self.build_dataset(dataset_path, mode, batch_size)
        training = mode == "train"
        drop_last = bool(self.args.compile) and training
        return build_dataloader(
            dataset, batch_size, self.args.workers, shuffle=training, rank=rank, drop_last=drop_last, device=self.device
        )

    def set_model_names_for_load(self, model: nn.Module) -> nn.Module:
        """Give a model its class names before it loads weights, as the trainers of other tasks do."""
        model.names = self.data["names"]
        return model

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Move a batch to the device, and scale its images from 0…255 to [0, 1]."""
        batch = super().preprocess_batch(batch)
        batch["img"] = batch["img"].float() / 255
        return batch


class ClassMetrics(ClassifyMetrics):
    """Ultralytics' classification metrics, also by class.

    Attributes:
        names: Name of each class by number.
        nt_per_class: Number of images of each class, shape (classes,).
        ap_class_index: The classes with images.
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: dict[int, str] = {}
        self.nt_per_class = np.zeros(0, int)
        self.ap_class_index: list[int] = []
        self._results: list[tuple[float, float]] = []

    def process(self, targets: list[Tensor], pred: list[Tensor]) -> None:
        """Compute the metrics; arguments as in `ClassifyMetrics.process`."""
        super().process(targets, pred)
        labels = torch.cat(targets)
        right = labels[:, None] == torch.cat(pred)
        self.nt_per_class = np.bincount(labels, minlength=len(self.names))
        self.ap_class_index = np.flatnonzero(self.nt_per_class).tolist()
        by_class = [right[labels == number].float() for number in self.ap_class_index]
        self._results = [(hits[:, 0].mean().item(), hits.amax(1).mean().item()) for hits in by_class]

    def class_result(self, index: int) -> tuple[float, float]:
        """Return top-1 and top-5 accuracy of the class at an index of `ap_class_index`."""
        return self._results[index]


class StackedClassificationValidator(ClassificationValidator):
    """Validate a classifier on the dataset of `build_dataset`."""

    build_dataset: Any  # from the class before this one among the base classes
    device: Any  # Ultralytics declares it and the names as None
    names: Any
    metrics: ClassMetrics

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.metrics = ClassMetrics()

    def __call__(self, trainer=None, model=None, **kwargs: Any) -> dict[str, Any] | None:
        """Validate; see `ClassificationValidator.__call__`."""
        if trainer is not None:
            return super().__call__(trainer, model, **kwargs)
        with without_task(self.args):  # until `get_dataloader`, which sets it
            return super().__call__(trainer, model, **kwargs)

    def get_dataloader(self, dataset_path: Path | str, batch_size: int) -> DataLoader:
        """Build the loader of a split, in its order; arguments as in `ClassificationValidator.get_dataloader`."""
        self.args.task = "classify"
        dataset = self.build_dataset(dataset_path, batch=batch_size)
        return build_dataloader(dataset, batch_size, self.args.workers, shuffle=False, rank=-1, device=self.device)

    def init_metrics(self, model: nn.Module) -> None:
        """Prepare the metrics."""
        super().init_metrics(model)
        self.metrics.names = self.names

    def preprocess(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Move a batch to the device, and scale its images from 0…255 to [0, 1]."""
        batch = super().preprocess(batch)
        batch["img"] /= 255
        return batch


class StackedClassificationPredictor(ClassificationPredictor):
    """Predict the classes of the loader's stacks."""

    device_transform = None
    imgsz: Any  # (height, width) once there is a source; Ultralytics declares it as None

    def setup_source(self, source: Any, stride: int | None = None) -> None:
        """Set the source, without Ultralytics' transforms of one modality."""
        super(ClassificationPredictor, self).setup_source(source, stride)

    def pre_transform(self, im: list[np.ndarray]) -> list[np.ndarray]:
        """Crop the centre of each stack, shape (H, W, C)."""
        height, width = self.imgsz
        return [centre_crop(stack, (height, width)) for stack in im]
