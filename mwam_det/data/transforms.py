"""What must know that an image is a stack of modalities: colour augmentation and the order of channels.

Mosaic, MixUp, CutMix, affine, flips and letterbox of Ultralytics treat all channels alike and are used as they are, but
for the letterbox's order in memory.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from ultralytics.data.augment import Albumentations, Compose, Format, LetterBox, RandomHSV

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
        """Transform `labels["img"]`, shape (H, W, C) uint8, in place of that modality's channels."""
        image = labels["img"] = np.ascontiguousarray(labels["img"])
        first, count = self.modality.start, self.modality.channels
        own = np.empty((*image.shape[:2], count), np.uint8)
        # several times as fast as slices of the last axis
        cv2.mixChannels([image], [own], [place for i in range(count) for place in (first + i, i)])
        changed = np.ascontiguousarray(self.transform({**labels, "img": own})["img"])
        cv2.mixChannels([changed], [image], [place for i in range(count) for place in (i, first + i)])
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
        """Turn `labels["img"]`, shape (H, W, C) uint8, into a tensor of shape (C, H, W).

        What lies in memory plane by plane comes from `PlanarLetterBox`, belongs to this sample alone, and is kept.
        """
        keep_bgr = random.uniform(0, 1) <= self.bgr
        turned = [m.slice for m in self.modalities if m.channels == 3 and not (m.visible and keep_bgr)]
        planes = labels["img"].transpose(2, 0, 1)
        if planes.flags.c_contiguous:
            for channels in turned:
                blue, _, red = planes[channels]
                kept = blue.copy()
                blue[:], red[:] = red, kept
        else:
            order = np.arange(len(planes))
            for channels in turned:
                order[channels] = order[channels][::-1].copy()
            planes = np.empty(planes.shape, np.uint8)
            copy_channels(labels["img"], list(zip(order.tolist(), planes, strict=True)))
        labels["img"] = torch.from_numpy(planes)
        return labels


class PlanarLetterBox(LetterBox):
    """Ultralytics' letterbox of a stack, whose result lies in memory plane by plane, as the model reads it.

    Values and shapes are those of `LetterBox`. Above four channels, OpenCV and numpy are many times slower with pixels
    side by side than with planes, and formatting must take them apart in the end.
    """

    def apply_image(self, labels: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
        """Pad `labels["img"]`, shape (H, W, C) uint8; one that is to be resized besides is left to Ultralytics."""
        image, (width, height) = labels["img"], params["new_unpad"]
        if image.shape[:2] != (height, width):
            return super().apply_image(labels, params)
        top, left = params["top"], params["left"]
        size = top + height + params["bottom"], left + width + params["right"]
        planes = np.empty((image.shape[2], *size), np.uint8)
        inner = planes[:, top : top + height, left : left + width]
        for border in np.s_[:top, :], np.s_[top + height :, :], np.s_[:, :left], np.s_[:, left + width :]:
            planes[(slice(None), *border)] = self.padding_value
        if image.transpose(2, 0, 1).flags.c_contiguous:
            inner[:] = image.transpose(2, 0, 1)
        else:
            copy_channels(image, list(enumerate(inner)))
        labels["img"] = planes.transpose(1, 2, 0)
        labels["resized_shape"] = params["new_shape"]
        return labels


def planar_letterbox(transforms: Compose) -> Compose:
    """Put `PlanarLetterBox` in place of Ultralytics' letterbox."""
    replaced = []
    for transform in transforms.tolist():
        if type(transform) is LetterBox:
            transform, settings = PlanarLetterBox(), vars(transform)
            vars(transform).update(settings)
        replaced.append(transform)
    return Compose(replaced)


def copy_channels(image: np.ndarray, places: Sequence[tuple[int, np.ndarray]]) -> None:
    """Copy channels of an image into planes, several times as fast as slices of numpy's last axis.

    Args:
        image: Shape (H, W, C), uint8.
        places: Pairs of a channel and the array of shape (H, W) that it is written to.
    """
    pairs = [index for place, (channel, _) in enumerate(places) for index in (channel, place)]
    cv2.mixChannels([np.ascontiguousarray(image)], [plane for _, plane in places], pairs)


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
        if isinstance(transform, RandomHSV | Albumentations) and _acts(transform):
            if visible is None:
                continue
            transform = OnModality(transform, visible)
        kept.append(transform)
    return Compose(kept)


def _acts(transform: RandomHSV | Albumentations) -> bool:
    """Tell whether a colour transform does anything, so that nothing is copied for one that does not."""
    if isinstance(transform, RandomHSV):
        return bool(transform.hgain or transform.sgain or transform.vgain)
    return transform.transform is not None
