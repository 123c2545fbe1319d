"""What must know that an image is a stack of modalities: colour augmentation and the order of channels.

Mosaic, MixUp, CutMix, affine, flips and letterbox of Ultralytics treat all channels alike and are used as they are.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from ultralytics.data.augment import Albumentations, Compose, Format, RandomHSV

from mwam_det.data.layout import DatasetError, Modality


class OnModality:
    """Apply a photometric transform to the channels of one modality; Ultralytics skips it above 3 channels.

    Args:
        transform: An Ultralytics transform that changes pixel values alone.
        modality: The modality whose channels it sees, as an image of their own.
    """

    def __init__(self, transform: Callable[[dict], dict], modality: Modality):
        self.transform = transform
        self.modality = modality

    def __call__(self, labels: dict[str, Any]) -> dict[str, Any]:
        """Transform `labels["img"]`, shape (H, W, C), in place of that modality's channels."""
        own = np.ascontiguousarray(labels["img"][..., self.modality.slice])
        labels["img"][..., self.modality.slice] = self.transform({**labels, "img": own})["img"]
        return labels


class StackedFormat(Format):
    """Ultralytics' formatting, with every colour modality of the stack turned from BGR to RGB.

    Args:
        modalities: The modalities in the order in which they are stacked.
        **kwargs: Arguments of `ultralytics.data.augment.Format`. `bgr` is the probability that the visible modality
            stays BGR, as augmentation.
    """

    def __init__(self, modalities: Sequence[Modality], **kwargs: Any):
        super().__init__(**kwargs)
        self.modalities = tuple(modalities)

    def apply_image(self, labels: dict[str, Any], params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Turn `labels["img"]`, shape (H, W, C) uint8, into a tensor of shape (C, H, W)."""
        keep_bgr = random.uniform(0, 1) <= self.bgr
        order = []
        for modality in self.modalities:
            channels = range(modality.start, modality.start + modality.channels)
            reverse = modality.channels == 3 and not (modality.visible and keep_bgr)
            order += reversed(channels) if reverse else channels
        labels["img"] = torch.from_numpy(np.ascontiguousarray(labels["img"][..., order].transpose(2, 0, 1)))
        return labels


def colour_on_visible(transforms: Compose, modalities: Sequence[Modality]) -> Compose:
    """Restrict Ultralytics' colour transforms to the visible modality, or take them out if there is none.

    Args:
        transforms: What `YOLODataset.build_transforms` returned.
        modalities: The modalities of the stack.

    Returns:
        A new list of transforms with HSV and Albumentations on the visible modality alone.

    Raises:
        DatasetError: If an Albumentations transform moves pixels: it would shift one modality against the others.
    """
    visible = next((modality for modality in modalities if modality.visible), None)
    kept = []
    for transform in transforms.tolist():
        if isinstance(transform, Albumentations) and getattr(transform, "contains_spatial", False):
            raise DatasetError(
                "augmentations holds a transform that moves pixels: it would shift the visible modality against "
                "the others; use degrees, translate, scale, shear, flipud or fliplr, which act on all alike"
            )
        if isinstance(transform, RandomHSV | Albumentations):
            if visible is None:
                continue
            transform = OnModality(transform, visible)
        kept.append(transform)
    return Compose(kept)
