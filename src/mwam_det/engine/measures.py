"""Ultralytics' metrics that a report shows, by task."""

from __future__ import annotations

from typing import Any

import numpy as np

from mwam_det.robustness.results import METRICS, RECALLS, ClassResult

PARTS = {"detect": "box", "obb": "box", "segment": "seg", "pose": "pose"}
"""The part of the metrics of tasks that detect objects: boxes, masks or keypoints."""

PIXELS = ("mIoU", "pixel accuracy")
"""The metrics of the task "semantic": the mean IoU over classes, and the share of correct pixels."""


CLASSES = ("accuracy", "top-5 accuracy")
"""The metrics of the task "classify"."""


def metrics_of(task: str) -> tuple[str, ...]:
    """Return the names of a task's metrics, that of PCR first."""
    return METRICS if task in PARTS else CLASSES if task == "classify" else PIXELS


def measure(task: str, metrics: Any) -> dict[str, float]:
    """Read the metrics of a task, in [0, 1], by name.

    Args:
        task: One of Ultralytics' tasks.
        metrics: Ultralytics' metrics of that task, processed.
    """
    if task in PARTS:
        part = getattr(metrics, PARTS[task])
        values = part.map50, part.map
    elif task == "classify":
        values = metrics.top1, metrics.top5
    else:
        values = metrics.miou, metrics.pixel_accuracy
    return dict(zip(metrics_of(task), map(float, values), strict=True))


def measure_classes(task: str, metrics: Any) -> tuple[ClassResult, ...]:
    """Read the metrics of each class that has labels; arguments as in `measure`."""
    counts, names = metrics.nt_per_class, metrics.names
    if task in PARTS:
        part = getattr(metrics, PARTS[task])
        values = {number: (part.ap50[index], part.ap[index]) for index, number in enumerate(part.ap_class_index)}
    else:
        values = {number: metrics.class_result(index) for index, number in enumerate(metrics.ap_class_index)}
    return tuple(
        ClassResult(str(names[number]), int(counts[number]), dict(zip(metrics_of(task), map(float, pair), strict=True)))
        for number, pair in values.items()
    )


def measure_precision(task: str, metrics: Any) -> tuple[float, ...]:
    """Read precision at IoU 0.5 (OKS for keypoints) at each of `RECALLS`, averaged over classes.

    Returns:
        One value for each, or none if there are no objects, or the task detects none. Arguments as in `measure`.
    """
    part = getattr(metrics, PARTS[task]) if task in PARTS else None
    if part is None or not len(part.ap_class_index):
        return ()
    return tuple(float(value) for value in np.interp(RECALLS, part.px, np.mean(part.prec_values, axis=0)))
