"""The numbers of a robustness report and the arithmetic on them, without output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mwam_det.core.missing import performance_collapse_rate
from mwam_det.robustness.origin import Origin

METRICS = ("mAP50", "mAP50-95")
"""The default metrics of a report; PCR is that of the first."""

FILES = (
    "robustness.json",
    "robustness.csv",
    "robustness.md",
    "robustness.tex",
    "robustness_classes.csv",
    "robustness_groups.csv",
    "robustness_degradations.csv",
    "robustness_curves.png",
    "robustness_bars.png",
    "robustness_degradations.png",
    "robustness_samples.png",
    "report.html",
)
"""All files that a report may consist of."""

CONFIDENCE = 0.25
"""Minimum confidence of the predictions in samples, as in Ultralytics' predict."""

IOU = 0.5
"""In samples, minimum overlap of a hit with an object of its class."""

RECALLS = tuple(step / 100 for step in range(101))
"""Values of recall at which precision-recall curves are given, as in the COCO protocol."""


@dataclass(frozen=True)
class ClassResult:
    """The metrics of a model on one class.

    Attributes:
        name: The class.
        objects: Number of its objects in the split, or of its pixels in a report on pixels.
        metrics: The metrics of the report by name, in [0, 1].
    """

    name: str
    objects: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class CombinationResult:
    """The metrics of a model on one combination of modalities.

    Attributes:
        available: The modalities that were not missing.
        metrics: The metrics of the report by name, in [0, 1]. If classes are measured, means over those with objects in
            the split.
        classes: The metrics of each such class.
        precision: Precision at IoU 0.5 at each of `RECALLS`, averaged over these classes; may be empty.
        coco: These metrics and others as measured by pycocotools (see `mwam_det.engine.coco`), or None.
    """

    available: tuple[str, ...]
    metrics: dict[str, float]
    classes: tuple[ClassResult, ...] = ()
    precision: tuple[float, ...] = ()
    coco: dict[str, float | None] | None = None


@dataclass(frozen=True)
class DegradationResult:
    """The metrics of a model with one modality degraded and the others unchanged.

    Attributes:
        modality: The degraded modality.
        name: The degradation, one of `mwam_det.robustness.degradation.DEGRADATIONS`.
        severity: 1 to 5.
        metrics: The metrics of the report by name, in [0, 1].
    """

    modality: str
    name: str
    severity: int
    metrics: dict[str, float]


@dataclass(frozen=True, eq=False)
class Boxes:
    """Objects in an image, labelled or found.

    Attributes:
        coordinates: Left, top, right, bottom in pixels, shape (N, 4), float; for rotated boxes the centre x and y, the
            width and the height in pixels and the angle in radians, shape (N, 5).
        classes: Class numbers, shape (N,).
        scores: Confidences, shape (N,); 1 for labels.
    """

    coordinates: np.ndarray
    classes: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True, eq=False)
class Sample:
    """An image of the split for the figure of samples.

    Attributes:
        name: Name of its file.
        images: What the model saw, by modality, without the letterbox border: RGB of shape (H, W, 3), uint8.
        labels: Its objects, or the class number of each pixel, (H, W), uint8, 255 for ignored ones.
        found: Predictions in the same form, by available modalities.
    """

    name: str
    images: dict[str, np.ndarray]
    labels: Boxes | np.ndarray
    found: dict[tuple[str, ...], Boxes | np.ndarray]


@dataclass(frozen=True)
class RobustnessResults:
    """The metrics on all 2^M − 1 combinations of modalities, with the Performance Collapse Rate of each.

    PCR = (A_full − A_miss) / A_full in per cent (Eq. 26), A being the first of the metrics. The average of a metric
    is over all combinations, the complete one included; the average of PCR is over the incomplete ones (Table 12).

    Args:
        modalities: All modalities.
        results: One result per combination.
        split: The evaluated split.
        weights: The evaluated checkpoint.
        fill: Input in place of missing modalities, see `mwam_det.robustness.degradation.fill`.
        degradations: The results with a degraded modality.
        notes: Remarks that readers of the numbers should know.
        images: Number of images in the split; 0 if unknown.
        visible: The modality that people see best, if any; pictures show it where it is available.
        samples: Images for the figure of samples.
        task: One of Ultralytics' tasks or of the other hosts'.
        metrics: Names of the metrics, that of PCR first.
        names: The classes in the order of their numbers, if samples hold class numbers.
        groups: The same on parts of the split, by name, such as images of day and of night.
        origin: What was trained, with which releases, and when the report was made.

    Raises:
        ValueError: If the complete combination is not among the results.
    """

    modalities: tuple[str, ...]
    results: tuple[CombinationResult, ...]
    split: str = "val"
    weights: str = ""
    fill: str = "zero"
    degradations: tuple[DegradationResult, ...] = ()
    notes: tuple[str, ...] = ()
    images: int = 0
    visible: str | None = None
    samples: tuple[Sample, ...] = field(default=(), compare=False, repr=False)
    task: str = "detect"
    metrics: tuple[str, ...] = METRICS
    names: tuple[str, ...] = ()
    groups: Mapping[str, RobustnessResults] = field(default_factory=dict)
    origin: Origin = field(default_factory=Origin, compare=False)

    def __post_init__(self):
        if all(set(result.available) != set(self.modalities) for result in self.results):
            raise ValueError(f"the results lack the combination of all modalities ({', '.join(self.modalities)})")

    @property
    def full(self) -> CombinationResult:
        """The result with every modality."""
        return next(result for result in self.results if set(result.available) == set(self.modalities))

    def without(self, modality: str) -> CombinationResult | None:
        """Return the result without one modality; None if that combination was not measured."""
        rest = set(self.modalities) - {modality}
        return next((result for result in self.results if set(result.available) == rest), None)

    @property
    def primary(self) -> str:
        """The metric of PCR."""
        return self.metrics[0]

    def collapse_rate(self, result: CombinationResult | DegradationResult, metric: str | None = None) -> float | None:
        """Return the PCR of a result in per cent; None for the complete one, or if its metric is 0."""
        if result == self.full:
            return None
        metric = metric or self.primary
        return performance_collapse_rate(self.full.metrics[metric], result.metrics[metric])

    def average(self, metric: str | None = None) -> float:
        """Average a metric over all combinations, the complete one included."""
        metric = metric or self.primary
        return sum(result.metrics[metric] for result in self.results) / len(self.results)

    def average_collapse_rate(self, metric: str | None = None) -> float | None:
        """Average PCR over the incomplete combinations, in per cent; None if undefined."""
        rates = [rate for result in self.results if (rate := self.collapse_rate(result, metric)) is not None]
        return sum(rates) / len(rates) if rates else None

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the samples as plain values, an undefined PCR as None."""
        return {
            "weights": self.weights,
            "origin": self.origin.to_dict(),
            "task": self.task,
            "metrics": list(self.metrics),
            "split": self.split,
            "images": self.images,
            "missing_input": self.fill,
            "modalities": list(self.modalities),
            **self._combinations(),
            "groups": {name: {"images": each.images, **each._combinations()} for name, each in self.groups.items()},
            "classes": [
                {"available": list(result.available), "class": each.name, "objects": each.objects, **each.metrics}
                for result in self.results
                for each in result.classes
            ],
            "precision_recall": {
                "recall": list(RECALLS),
                "precision": [
                    {"available": list(result.available), "precision": list(result.precision)}
                    for result in self.results
                    if result.precision
                ],
            },
            "degradations": [
                {
                    "modality": result.modality,
                    "degradation": result.name,
                    "severity": result.severity,
                    **result.metrics,
                    "PCR": self.collapse_rate(result),
                }
                for result in self.degradations
            ],
            "notes": list(self.notes),
        }

    def _combinations(self) -> dict[str, Any]:
        return {
            "combinations": [
                {
                    "available": list(result.available),
                    "missing": [name for name in self.modalities if name not in result.available],
                    **result.metrics,
                    "PCR": self.collapse_rate(result),
                    "coco": result.coco,
                }
                for result in self.results
            ],
            "average": {**{m: self.average(m) for m in self.metrics}, "PCR": self.average_collapse_rate()},
        }
