"""Ultralytics' validators, for stacked modalities, some of which may be missing."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from ultralytics.engine.validator import BaseValidator
from ultralytics.models.yolo.detect import DetectionValidator
from ultralytics.nn.tasks import load_checkpoint

from mwam_det.core.missing import check_missing, drop_modalities
from mwam_det.data.build import build_paired_dataset
from mwam_det.data.dataset import PairedDataset
from mwam_det.data.errors import DatasetError
from mwam_det.data.modality import Modality, modalities_of
from mwam_det.data.paired_data import save_dataset_yaml
from mwam_det.data.section import resolve_dataset
from mwam_det.data.splits import groups_of, source_of
from mwam_det.engine.arguments import check_selected, without_own_arguments
from mwam_det.engine.compat import use_bundled_font
from mwam_det.engine.deployment import describe, stacked_inputs
from mwam_det.engine.plots import predictions_beside, wide_batch


class PairValidator(BaseValidator):
    """Validate on pairs, for any task: a mixin to list before a validator of Ultralytics.

    The channels of missing modalities are 0 after normalisation. The arguments are those of `BaseValidator`; `args` may
    also have `missing`, the names of the missing modalities, and its `data` may be a recipe's data section, or a
    resolved one.

    Attributes:
        stretch: Whether images are stretched to a square.
    """

    stretch = False

    # Attributes that Ultralytics' validators declare as None, or only in the class of a task.
    data: Any
    dataloader: Any
    stride: Any
    seen: Any
    names: Any
    metrics: Any
    _prepare_batch: Any

    def __init__(self, dataloader=None, save_dir=None, args=None, _callbacks: dict | None = None):
        args = dict(args or {})
        self.missing = tuple(args.pop("missing", ()))
        super().__init__(dataloader, save_dir, without_own_arguments(args), _callbacks)
        use_bundled_font()

    def __call__(self, trainer=None, model=None, **kwargs: Any) -> dict[str, Any] | None:
        """Validate; see `ultralytics.engine.validator.BaseValidator.__call__`.

        Raises:
            DatasetError: If the dataset cannot be used, or its modalities or classes are not those of the model.
            ValueError: If a missing modality is unknown, all are missing, or `classes` selects one that does not exist.
        """
        if trainer is not None:
            check_missing(self.missing, trainer.data["modalities"])
            return super().__call__(trainer, model, **kwargs)
        requested, data = self.args.data, resolve_dataset(self.args.data)
        check_missing(self.missing, data.channels)
        model = model or self.args.model
        if str(model).endswith(".pt") and not isinstance(model, nn.Module):
            model, _ = load_checkpoint(model)
        check_modalities(model, data.channels)
        check_task(model, self.args.task)
        check_selected(self.args.classes, len(data.names))
        if self.args.single_cls:
            data = data.as_single_class()
        else:
            check_classes(model, data.names)
        content = data.as_dict()
        # Ultralytics checks that the path of each split exists, and does not know several folders or lists.
        content |= dict.fromkeys(content["splits"], content["path"])
        with tempfile.TemporaryDirectory() as folder:  # Ultralytics expects a file
            self.args.data = save_dataset_yaml(content, Path(folder))
            if not isinstance(model, nn.Module):
                model = stacked_inputs(model, folder)
            try:
                return super().__call__(None, model, **kwargs)
            finally:
                self.args.data = requested

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """The modalities of the dataset."""
        return modalities_of(self.data)

    def build_dataset(self, img_path: str, mode: str = "val", batch: int | None = None) -> PairedDataset:
        """Build the dataset of pairs of the split; arguments as in `DetectionValidator.build_dataset`."""
        source = source_of(groups_of(self.data["splits"][self.args.split]), self.modalities[0].name)
        rect, stretch = self.args.rect, self.stretch
        return build_paired_dataset(self.args, source, batch, self.data, mode, rect, self.stride, stretch)

    def preprocess(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Normalise a batch and remove the missing modalities from it."""
        batch = super().preprocess(batch)
        slices = {modality.name: modality.slice for modality in self.modalities}
        batch["img"] = drop_modalities(batch["img"], slices, self.missing)
        return batch

    def take_over(self, other: PairValidator) -> None:
        """Copy the state that preprocessing a batch sets in a validator; nothing for most tasks."""

    def plot_val_samples(self, batch: dict[str, Any], ni: int) -> None:
        """Draw the labels of a batch, with modalities side by side."""
        super().plot_val_samples(wide_batch(batch, self.modalities), ni)

    def plot_predictions(
        self, batch: dict[str, Any], preds: list[dict[str, torch.Tensor]] | torch.Tensor, ni: int, *args: Any
    ) -> None:
        """Draw the predictions of a batch, with modalities side by side."""
        beside = predictions_beside(preds, len(self.modalities), batch["img"].shape[3])
        super().plot_predictions(wide_batch(batch, self.modalities), beside, ni, *args)


class MultimodalValidator(PairValidator, DetectionValidator):
    """Validate a detector with a stream for each modality."""


def check_task(model: Any, task: str) -> None:
    """Check that a model has the task to be validated.

    Raises:
        ValueError: If it has another task.
    """
    model_task = getattr(model, "task", task) if isinstance(model, nn.Module) else task
    if model_task != task:
        raise ValueError(f"the model is made for the task '{model_task}', not for '{task}'")


def check_modalities(model: Any, channels: Mapping[str, int]) -> None:
    """Check that a model is made for the modalities of a dataset: their names, order and channels.

    Raises:
        DatasetError: If it is made for others, or has no streams. Checkpoint files are not opened; for exported files
            the metadata are read.
    """
    modalities = describe(model).get("modalities")
    if modalities is None:
        if not isinstance(model, nn.Module):
            return
        raise DatasetError("the model has a single stream: train one with mwam_det on the modalities of this dataset")
    if list(modalities.items()) != list(channels.items()):
        raise DatasetError(f"the model takes the modalities {modalities}, the dataset gives {dict(channels)}")


def check_classes(model: Any, dataset_names: Mapping[int, str]) -> None:
    """Check that class numbers have the same names in a model and a dataset.

    Raises:
        DatasetError: If a number has two names. Models without class names pass.
    """
    names = describe(model).get("names", {})
    if all(str(number) == name for number, name in names.items()):
        return
    for number, name in dataset_names.items():
        if number in names and names[number] != name:
            raise DatasetError(f"class {number} is '{names[number]}' in the model but '{name}' in the dataset")
