"""Validation on every combination of modalities in one pass over the split."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.utils import RANK

from mwam_det.core.missing import check_missing, drop_modalities, modality_combinations
from mwam_det.engine.validator import MultimodalValidator
from mwam_det.models.replay import FeatureTap, run_from_levels, run_stream


@dataclass(frozen=True)
class Condition:
    """What a detector gets to see.

    Attributes:
        missing: The modalities that are missing.
    """

    missing: tuple[str, ...] = ()


def missing_conditions(modalities: Iterable[str]) -> list[Condition]:
    """List the conditions in which something is missing, 2^M − 2 of them, the fewest modalities left first."""
    modalities = tuple(modalities)
    return [
        Condition(tuple(name for name in modalities if name not in available))
        for available in modality_combinations(modalities)[:-1]
    ]


class OnePassValidator(MultimodalValidator):
    """Validate on complete input and, in the same pass over the split, under other conditions.

    Images are read and preprocessed once, and each stream's backbone runs once on them. What a stream makes of its
    missing input is computed once for each shape. Fusion, neck, head and NMS run for every condition. The metrics are
    those of a validation of each condition alone.

    Args:
        dataloader: As in `MultimodalValidator`.
        save_dir: As in `MultimodalValidator`. Predictions of a condition, if saved, go to a folder below it.
        args: As in `MultimodalValidator`, but nothing may be missing, and `conditions`, a list of `Condition`.
        _callbacks: As in `MultimodalValidator`.

    Attributes:
        others: A validator for each condition, which holds its metrics.

    Raises:
        ValueError: If `augment` is asked for: test-time augmentation runs the model several times.
    """

    def __init__(self, dataloader=None, save_dir=None, args=None, _callbacks: dict | None = None):
        args = dict(args or {})
        self.conditions: tuple[Condition, ...] = tuple(args.pop("conditions", ()))
        super().__init__(dataloader, save_dir, args, _callbacks)
        if self.args.augment:
            raise ValueError("augment=True runs the model several times an image: validate each combination alone")
        self.others = [
            MultimodalValidator(None, Path(self.save_dir), {**args, "plots": False}, self.callbacks)
            for _ in self.conditions
        ]
        self._model: Any = None
        self._hooks: list[Any] = []
        self._predictions: list[list[dict[str, Tensor]]] = []
        self._streams_of_nothing: dict[tuple, list[Tensor]] = {}

    def __call__(self, trainer=None, model=None, **kwargs: Any) -> dict[str, Any] | None:
        """Validate; see `MultimodalValidator.__call__`."""
        try:
            return super().__call__(trainer, model, **kwargs)
        finally:
            for hook in self._hooks:
                hook.remove()
            self._hooks, self._model = [], None
            self._streams_of_nothing.clear()

    def init_metrics(self, model: nn.Module) -> None:
        """Prepare the metrics of every condition, and hear of each forward pass of the model."""
        super().init_metrics(model)
        for condition, other in zip(self.conditions, self.others, strict=True):
            check_missing(condition.missing, self.data["modalities"])
            for name in ("dataloader", "data", "device", "stride", "training", "batch_i"):
                setattr(other, name, getattr(self, name))
            other.args.max_det = self.args.max_det
            other.init_metrics(model)
        self._model = model
        native = model.model if getattr(model, "format", None) == "pt" else model
        if "streams" in getattr(native, "yaml", {}):
            tap = FeatureTap(native)
            self._hooks = [tap, native.register_forward_hook(lambda *call: self._replay(native, tap, call[1][0]))]

    def _replay(self, model: nn.Module, tap: FeatureTap, images: Tensor) -> None:
        """Run the model that has just seen complete images under the other conditions."""
        features = tap.take()
        for condition, other in zip(self.conditions, self.others, strict=True):
            changed = {name: self._stream_of_nothing(model, name, images) for name in condition.missing}
            predictions = run_from_levels(model, {**features, **changed})
            with torch.autocast(images.device.type, enabled=False):  # as where Ultralytics calls it
                self._predictions.append(other.postprocess(predictions))

    def _stream_of_nothing(self, model: nn.Module, name: str, images: Tensor) -> list[Tensor]:
        """Return the levels of a stream whose input is 0, for as many images."""
        key = (name, images.shape[2:], images.dtype)
        if key not in self._streams_of_nothing:
            channels = self.data["modalities"][name]
            self._streams_of_nothing[key] = run_stream(model, name, images.new_zeros(1, channels, *images.shape[2:]))
        return [level.expand(len(images), -1, -1, -1) for level in self._streams_of_nothing[key]]

    def update_metrics(self, preds: list[dict[str, Tensor]], batch: dict[str, Any]) -> None:
        """Update the metrics of every condition."""
        super().update_metrics(preds, batch)
        if not self._hooks:  # an exported model: it can but run again
            slices = {modality.name: modality.slice for modality in self.modalities}
            for condition, other in zip(self.conditions, self.others, strict=True):
                images = drop_modalities(batch["img"], slices, condition.missing)
                self._predictions.append(other.postprocess(self._model(images)))
        for other, predictions in zip(self.others, self._predictions, strict=True):
            other.update_metrics(predictions, batch)
        self._predictions = []

    def gather_stats(self) -> None:
        """Gather the statistics of every condition from all devices."""
        super().gather_stats()
        for other in self.others:
            other.gather_stats()

    def get_stats(self) -> dict[str, Any]:
        """Compute the metrics of every condition and return those of complete input."""
        stats = super().get_stats()
        if RANK in {-1, 0}:
            for other in self.others:
                other.get_stats()
        return stats
