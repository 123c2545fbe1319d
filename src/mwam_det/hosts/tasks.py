"""What a host is trained for: the loss of its outputs, and the metric of its predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from mwam_det.hosts.data.samples import VOID

TINY = 1e-6
"""Keeps the mean over no pixels finite."""


class HostTask(Protocol):
    """What the loop asks of a task.

    Attributes:
        metric: Name of the metric; in [0, 1], higher is better.
    """

    metric: str

    def losses(self, outputs: Any, target: Tensor) -> Tensor:
        """Return the loss of every sample, shape (B,), float32, from outputs in training mode.

        Their mean is the loss of the mini-batch.
        """

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

        Their mean is the weighted mean over all labelled pixels of the mini-batch, summed over scales, as in ESANet's
        published code: a sample counts by the weight of its labelled pixels, and one without labels is 0.

        Args:
            outputs: Logits of shape (B, classes, h, w), or several of them; labels are taken at their size.
            target: Shape (B, H, W), `VOID` where there is no label.
        """
        total = torch.zeros(())
        for logits in [outputs] if isinstance(outputs, Tensor) else outputs:
            labels = target
            if logits.shape[2:] != target.shape[1:]:
                labels = F.interpolate(target[:, None].float(), logits.shape[2:], mode="nearest")[:, 0].long()
            share = (labels != VOID).float()
            if self._weights is not None:
                share = share * self._weights.to(labels.device)[labels.clamp(min=0)]
            each = F.cross_entropy(logits.float(), labels, ignore_index=VOID, reduction="none")
            total = total + (each * share).flatten(1).sum(1) * len(share) / share.sum().clamp(min=TINY)
        return total

    def new_metric(self) -> Metric:
        """Return the mean intersection over union of the classes."""
        return MulticlassJaccardIndex(self._classes, ignore_index=VOID)


def median_frequency_weights(counts: np.ndarray) -> Tensor:
    """Weigh classes by the median of their frequencies over their own, as ESANet's published code does.

    A class's frequency is its share of all pixels, void included, of the images that contain it; the median of an even
    number of classes is the mean of the middle two. A class that never occurs is left out of the median and weighs 0
    (ESANet's code refuses such a set).

    Args:
        counts: Pixels of each label in each image, shape (images, 1 + classes), the first column void, as
            `count_labels` returns them.

    Returns:
        Shape (classes,), float32.
    """
    pixels, sizes = counts[:, 1:], counts.sum(1, keepdims=True)
    beside = ((pixels > 0) * sizes).sum(0)
    weights = np.zeros(pixels.shape[1], np.float32)
    occurs = beside > 0
    frequencies = pixels.sum(0)[occurs] / beside[occurs]
    weights[occurs] = np.median(frequencies) / frequencies
    return torch.from_numpy(weights)
