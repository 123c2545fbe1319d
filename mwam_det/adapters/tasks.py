"""What a host is trained for: the loss of its outputs, and the metric of its predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from mwam_det.adapters.samples import VOID

TINY = 1e-6
"""Keeps the mean over no pixels finite."""


class Task(Protocol):
    """What the loop asks of a task.

    Attributes:
        metric: Name of the metric; in [0, 1], higher is better.
    """

    metric: str

    def losses(self, outputs: Tensor | Sequence[Tensor], target: Tensor) -> Tensor:
        """Return the loss of every sample, shape (B,), float32, in training mode's outputs."""

    def new_metric(self) -> Metric:
        """Return a metric that takes logits and targets."""


class Classification:
    """One class a sample: cross-entropy, and accuracy over all samples.

    Args:
        classes: Number of classes.
    """

    metric = "accuracy"

    def __init__(self, classes: int):
        self._classes = classes

    def losses(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Return the cross-entropy of every sample, shape (B,), from logits of shape (B, classes)."""
        return F.cross_entropy(outputs.float(), target, reduction="none")

    def new_metric(self) -> Metric:
        """Return the share of samples whose class is right."""
        return MulticlassAccuracy(self._classes, average="micro")


class Segmentation:
    """One class a pixel: cross-entropy at every scale that a host gives in training, and mIoU.

    Classes that are neither labelled nor predicted in a split do not count in its mIoU.

    Args:
        classes: Number of classes.
        weights: Weight of each class in the loss, shape (classes,), or None.
    """

    metric = "mIoU"

    def __init__(self, classes: int, weights: Tensor | None = None):
        self._classes = classes
        self._weights = weights

    def losses(self, outputs: Tensor | Sequence[Tensor], target: Tensor) -> Tensor:
        """Return the cross-entropy of every sample, shape (B,).

        It is the weighted mean over the labelled pixels, summed over scales; 0 for a sample without labels.

        Args:
            outputs: Logits of shape (B, classes, h, w), or several of them; labels are taken at their size.
            target: Shape (B, H, W), `VOID` where there is no label.
        """
        total = 0
        for logits in [outputs] if isinstance(outputs, Tensor) else outputs:
            labels = target
            if logits.shape[2:] != target.shape[1:]:
                labels = F.interpolate(target[:, None].float(), logits.shape[2:], mode="nearest")[:, 0].long()
            share = (labels != VOID).float()
            if self._weights is not None:
                share = share * self._weights.to(labels.device)[labels.clamp(min=0)]
            each = F.cross_entropy(logits.float(), labels, ignore_index=VOID, reduction="none")
            total = total + (each * share).flatten(1).sum(1) / share.flatten(1).sum(1).clamp(min=TINY)
        return total

    def new_metric(self) -> Metric:
        """Return the mean intersection over union of the classes."""
        return MulticlassJaccardIndex(self._classes, ignore_index=VOID)


def median_frequency_weights(counts: Sequence[int]) -> Tensor:
    """Weigh classes by the median of their frequencies over their own; 0 for a class that never occurs.

    Args:
        counts: Labelled pixels of each class.

    Returns:
        Shape (classes,), float32.
    """
    frequencies = torch.as_tensor(counts, dtype=torch.float64)
    present = frequencies > 0
    weights = torch.zeros_like(frequencies)
    weights[present] = frequencies[present].median() / frequencies[present]
    return weights.float()
