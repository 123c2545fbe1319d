"""The figures of a robustness report and the arithmetic on them; nothing here writes, draws or prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mwam_det.core.missing import performance_collapse_rate
from mwam_det.robustness.origin import Origin

METRICS = ("mAP50", "mAP50-95")
"""The metrics of a report unless it says others; the first decides: PCR is of it."""

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
"""Samples show predictions from this confidence on, as Ultralytics' predict does."""

IOU = 0.5
"""In samples, a prediction is a hit from this overlap with an object of its class on."""

RECALLS = tuple(step / 100 for step in range(101))
"""Precision-recall curves are given at these values of recall, as in the COCO protocol."""


@dataclass(frozen=True)
class ClassResult:
    """The metrics of a model on one class.

    Attributes:
        name: The class.
        objects: How many objects of it the split holds; pixels, where a report is on pixels.
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
        metrics: The metrics of the report by name, in [0, 1]. Where classes are measured, means over those of which the
            split holds objects.
        classes: The metrics of each such class.
        precision: Precision at IoU 0.5 for every one of `RECALLS`, the mean over these classes; or nothing.
        coco: The same metrics and others as pycocotools measures them (see `mwam_det.engine.coco`), or None.
    """

    available: tuple[str, ...]
    metrics: dict[str, float]
    classes: tuple[ClassResult, ...] = ()
    precision: tuple[float, ...] = ()
    coco: dict[str, float | None] | None = None


@dataclass(frozen=True)
class DegradationResult:
    """The metrics of a model with one modality degraded and the others as they are.

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
        coordinates: Left, top, right, bottom in pixels, shape (N, 4), float; of rotated boxes the centre x and y, the
            width and the height in pixels and the angle in radians, shape (N, 5).
        classes: Numbers of the classes, shape (N,).
        scores: Confidences, shape (N,); 1 for labels.
    """

    coordinates: np.ndarray
    classes: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True, eq=False)
class Sample:
    """An image of the split, to be shown.

    Attributes:
        name: What its file is called.
        images: What the model saw, by modality, without the border of the letterbox: RGB of shape (H, W, 3), uint8.
        labels: Its objects, or where classes are of pixels the number of each, (H, W), uint8, 255 where nothing counts.
        found: What was found with each combination, likewise, by its available modalities.
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
        results: One result a combination.
        split: The split that was evaluated.
        weights: The evaluated checkpoint.
        fill: What stood in for missing modalities, see `mwam_det.robustness.degradation.fill`.
        degradations: The results with a degraded modality.
        notes: Sentences that a reader of the figures should know.
        images: How many images the split holds; 0 if that is not known.
        visible: The modality that people see best, if any; pictures show it where it is available.
        samples: Images to be shown.
        task: What the model does, one of Ultralytics' tasks or of those of other hosts.
        metrics: What is measured, by name, the metric of PCR first.
        names: The classes in the order of their numbers, where samples hold numbers.
        groups: The same on parts of the split, by name, such as images of day and of night.
        origin: What was trained, by which releases, and when the report was made.

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
        """Return the result with every modality but one; None if that combination was not measured."""
        rest = set(self.modalities) - {modality}
        return next((result for result in self.results if set(result.available) == rest), None)

    @property
    def primary(self) -> str:
        """The metric that PCR is of."""
        return self.metrics[0]

    def collapse_rate(self, result: CombinationResult | DegradationResult, metric: str | None = None) -> float | None:
        """Return the PCR of a result in per cent; None for the complete one, or where the metric of that is 0."""
        if result == self.full:
            return None
        metric = metric or self.primary
        return performance_collapse_rate(self.full.metrics[metric], result.metrics[metric])

    def average(self, metric: str | None = None) -> float:
        """Average a metric over all combinations, the complete one included."""
        metric = metric or self.primary
        return sum(result.metrics[metric] for result in self.results) / len(self.results)

    def average_collapse_rate(self, metric: str | None = None) -> float | None:
        """Average PCR over the incomplete combinations, in per cent; None where it is undefined."""
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
