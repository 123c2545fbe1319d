"""Validation under several conditions, modalities missing or degraded, in one pass over the split."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from ultralytics.utils import RANK

from mwam_det.core.missing import check_missing, modality_combinations
from mwam_det.data.modality import Modality
from mwam_det.engine.geometry import areas_of_images
from mwam_det.engine.measures import measure, metrics_of
from mwam_det.engine.validator import MultimodalValidator, PairValidator
from mwam_det.models.replay import FeatureTap, run_from_levels, run_stream, run_stream_on_zeros
from mwam_det.models.stock import StockModel
from mwam_det.robustness.degradation import DEGRADATIONS, FILLS, degrade, fill
from mwam_det.training.run import ModalityRun
from mwam_det.training.selection import score_name

IMAGES_FOR_MEANS = 100
"""Number of images, evenly spaced over the split, for the fill "mean"."""


@dataclass(frozen=True)
class Condition:
    """The input of a detector: which modalities are missing or degraded.

    Attributes:
        missing: The modalities that are missing.
        fill: Their replacement, see `mwam_det.robustness.degradation.fill`.
        degraded: (modality, degradation, severity), see `mwam_det.robustness.degradation.degrade`; or None.

    Raises:
        ValueError: If the fill is unknown.
    """

    missing: tuple[str, ...] = ()
    fill: str = "zero"
    degraded: tuple[str, str, int] | None = None

    def __post_init__(self) -> None:
        if self.fill not in FILLS:
            raise ValueError(f"fill={self.fill!r}: choose from {', '.join(FILLS)}")


def missing_conditions(modalities: Iterable[str], fill: str = "zero") -> list[Condition]:
    """List the 2^M − 2 conditions with missing modalities, those with the fewest remaining ones first."""
    modalities = tuple(modalities)
    return [
        Condition(tuple(name for name in modalities if name not in available), fill)
        for available in modality_combinations(modalities)[:-1]
    ]


class OnePass(PairValidator):
    """Validate on complete input and, in the same pass over the split, under other conditions, for any task.

    A mixin to list before a `PairValidator`, which it names as `plain`.

    Images are read and preprocessed once, and each stream's backbone runs once on them. The levels of a stream for an
    input of zeros are computed once for each shape; for another fill or a degraded image, in each batch. Fusion, neck,
    head and NMS run for every condition. The metrics equal those of a separate validation of each condition.

    The arguments are those of `PairValidator`; `args` has no `missing`, but `conditions`, a list of `Condition`.

    Attributes:
        plain: The validator of pairs that measures one condition.
        conditions: The conditions beside complete input. May be changed between validations.
        others: A validator for each condition, which holds its metrics, once validated.
        run: The training that is validated, or None.

    Raises:
        ValueError: With `augment`: test-time augmentation runs the model several times.
    """

    plain: type[PairValidator]

    def __init__(self, dataloader=None, save_dir=None, args=None, _callbacks: dict | None = None):
        args = dict(args or {})
        self.conditions: Sequence[Condition] = tuple(args.pop("conditions", ()))
        super().__init__(dataloader, save_dir, args, _callbacks)
        if self.args.augment:
            raise ValueError("augment=True runs the model several times per image: validate each combination alone")
        self.others: list[PairValidator] = []
        self.run: ModalityRun | None = None
        self._arguments = {**args, "plots": False, "save_txt": False, "save_json": False}  # they share the folder
        self._model: Any = None
        self._hooks: list[Any] = []
        self._batch: dict[str, Any] = {}
        self._predictions: list[list[dict[str, Tensor]]] = []
        self._streams_of_zeros: dict[tuple, list[Tensor]] = {}
        self._means: dict[str, Tensor] = {}
        self._before: Tensor | None = None

    @property
    def by_combination(self) -> dict[tuple[str, ...], Any]:
        """The metrics by available modalities, those of complete input last, without those of degraded input."""
        metrics = {
            tuple(m.name for m in self.modalities if m.name not in condition.missing): other.metrics
            for condition, other in zip(self.conditions, self.others, strict=True)
            if condition.degraded is None
        }
        return {**metrics, tuple(m.name for m in self.modalities): self.metrics}

    @property
    def scores(self) -> dict[tuple[str, ...], float]:
        """The task's first metric by available modalities, in [0, 1]."""
        first = metrics_of(self.args.task)[0]
        return {available: measure(self.args.task, m)[first] for available, m in self.by_combination.items()}

    def __call__(self, trainer=None, model=None, **kwargs: Any) -> dict[str, Any] | None:
        """Validate; see `PairValidator.__call__`."""
        try:
            return super().__call__(trainer, model, **kwargs)
        finally:
            for hook in self._hooks:
                hook.remove()
            self._hooks, self._model, self._batch, self._before = [], None, {}, None
            self._streams_of_zeros.clear()

    def init_metrics(self, model: nn.Module) -> None:
        """Prepare the metrics of every condition, and hook the forward pass of the model."""
        super().init_metrics(model)
        self.others = []
        for condition in self.conditions:
            self._check(condition)
            other = self.plain(None, Path(self.save_dir), dict(self._arguments), self.callbacks)
            for name in ("dataloader", "data", "device", "stride", "training", "batch_i"):
                setattr(other, name, getattr(self, name))
            other.args.max_det = self.args.max_det
            other.init_metrics(model)
            self.others.append(other)
        self._model = model
        native: Any = model.model if getattr(model, "format", None) == "pt" else model
        if self.conditions and "streams" in getattr(native, "yaml", {}):
            tap = FeatureTap(native)
            self._hooks = [tap, native.register_forward_hook(lambda *call: self._replay(native, tap, call[1][0]))]

    def _check(self, condition: Condition) -> None:
        check_missing(condition.missing, self.data["modalities"])
        if condition.degraded is not None and condition.degraded[0] not in self.data["modalities"]:
            choices = ", ".join(self.data["modalities"])
            raise ValueError(f"unknown modality {condition.degraded[0]} to degrade: choose from {choices}")

    def preprocess(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Normalise a batch."""
        self._batch = batch = super().preprocess(batch)
        for other in self.others:
            other.take_over(self)
        return batch

    def _replay(self, model: StockModel, tap: FeatureTap, images: Tensor) -> None:
        """Run the model, which has just seen complete images, under the other conditions."""
        features = tap.take()
        for condition, other in zip(self.conditions, self.others, strict=True):
            changed = {
                name: self._stream_of_zeros(model, name, images)
                if replacement is None
                else run_stream(model, name, replacement.to(images.dtype))
                for name, replacement in self._replacements(condition, images).items()
            }
            predictions = run_from_levels(model, {**features, **changed})
            with torch.autocast(images.device.type, enabled=False):  # as where Ultralytics calls it
                self._predictions.append(other.postprocess(predictions))

    def _replacements(self, condition: Condition, images: Tensor) -> dict[str, Tensor | None]:
        """Return the images that a condition replaces, by modality; None for zeros."""
        replaced: dict[str, Tensor | None] = dict.fromkeys(condition.missing)
        for modality in self.modalities:
            clean, keys = images[:, modality.slice], self._batch["im_file"]
            if modality.name in condition.missing and condition.fill != "zero":
                mean = self._mean(modality) if condition.fill == "mean" else None
                replaced[modality.name] = fill(clean, condition.fill, mean=mean, keys=keys)
            elif condition.degraded is not None and condition.degraded[0] == modality.name:
                _, name, severity = condition.degraded
                other = self._frames_before(clean, modality) if DEGRADATIONS[name].needs == "other" else None
                areas = areas_of_images(self._batch)
                replaced[modality.name] = degrade(clean, name, severity, keys=keys, other=other, areas=areas)
        return replaced

    def _stream_of_zeros(self, model: StockModel, name: str, images: Tensor) -> list[Tensor]:
        """Return the levels of a stream for an input of zeros, expanded to the number of images."""
        key = (name, images.shape[2:], images.dtype)
        if key not in self._streams_of_zeros:
            self._streams_of_zeros[key] = run_stream_on_zeros(model, name, images)
        return [level.expand(len(images), -1, -1, -1) for level in self._streams_of_zeros[key]]

    def _mean(self, modality: Modality) -> Tensor:
        """Return the mean of every channel of a modality over the split, in [0, 1]."""
        if modality.name not in self._means:
            dataset = self.dataloader.dataset
            indices = torch.linspace(0, len(dataset) - 1, min(len(dataset), IMAGES_FOR_MEANS)).round().int().tolist()
            stacks = [dataset.load_image(index)[0] for index in indices]
            means = torch.stack([torch.from_numpy(stack).double().mean((0, 1)) / 255 for stack in stacks]).mean(0)
            # A colour modality is loaded as BGR.
            self._means.update({m.name: means[m.slice].flip(0) if m.channels == 3 else means[m.slice]
                                for m in self.modalities})  # fmt: skip
        return self._means[modality.name]

    def _frames_before(self, images: Tensor, modality: Modality) -> Tensor:
        """Return for each image the previous one of the split, resized to it; for the first, the last."""
        if self._before is None:
            self._before = self.dataloader.dataset[len(self.dataloader.dataset) - 1]["img"].to(images) / 255
        first = self._before[None, modality.slice]
        if first.shape[2:] != images.shape[2:]:
            first = F.interpolate(first.float(), images.shape[2:], mode="bilinear").to(images)
        return torch.cat([first, images[:-1]])

    def update_metrics(self, preds: Any, batch: dict[str, Any]) -> None:
        """Update the metrics of every condition; `preds` are those of the task."""
        super().update_metrics(preds, batch)
        if not self._hooks:  # an exported model can only run again
            slices = {modality.name: modality.slice for modality in self.modalities}
            for condition, other in zip(self.conditions, self.others, strict=True):
                images = batch["img"].clone()
                for name, replacement in self._replacements(condition, batch["img"]).items():
                    images[:, slices[name]] = 0 if replacement is None else replacement
                self._predictions.append(other.postprocess(self._model(images)))
        for other, predictions in zip(self.others, self._predictions, strict=True):
            other.update_metrics(predictions, batch)
        self.observe(batch, [preds, *self._predictions])
        self._predictions = []
        if any(condition.degraded is not None for condition in self.conditions):
            self._before = batch["img"][-1].clone()

    def observe(self, batch: dict[str, Any], predictions: Sequence[list[dict[str, Tensor]]]) -> None:
        """Called after the metrics of each batch; subclasses may override it.

        Args:
            batch: The preprocessed batch.
            predictions: Predictions for each image, with complete input first, then under each of `conditions`.
        """

    def gather_stats(self) -> None:
        """Gather the statistics of every condition from all devices."""
        super().gather_stats()
        for other in self.others:
            other.gather_stats()

    def get_stats(self) -> dict[str, Any]:
        """Compute the metrics of every condition.

        Returns:
            The metrics of complete input. In a training also the first metric of each other combination, or its last
            value in an epoch that does not measure it, and the fitness that the run selects by, 0 if not measured.
        """
        stats = super().get_stats()
        if RANK not in {-1, 0}:
            return stats
        for other in self.others:
            other.get_stats()
        if self.training and self.run is not None:
            first, complete = f"metrics/{metrics_of(self.args.task)[0]}", self.run.modalities
            known = {**self.run.scores, **self.scores}
            stats |= {score_name(first, c): score for c, score in known.items() if c != complete}
            fitness = self.run.fitness({c: float(metrics.fitness) for c, metrics in self.by_combination.items()})
            stats["fitness"] = fitness or 0.0
        return stats


class OnePassValidator(OnePass, MultimodalValidator):
    """Validate a detector under several conditions."""

    plain = MultimodalValidator
