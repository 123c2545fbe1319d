"""Transforms that depend on the modalities of a stack: colour augmentation and the order of channels.

Ultralytics' mosaic, MixUp, CutMix, affine and flips treat all channels alike and are used unchanged; so does the
letterbox, which is fused with formatting if it directly precedes it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from ultralytics.data.augment import Albumentations, Compose, Format, LetterBox, RandomHSV

from mwam_det.data.errors import DatasetError
from mwam_det.data.modality import Modality


class OnModality:
    """Apply a photometric transform to the channels of one modality; Ultralytics skips it above 3 channels.

    Args:
        transform: An Ultralytics transform that changes pixel values only.
        modality: The modality whose channels it sees, as a separate image.
    """

    def __init__(self, transform: Callable[[dict], dict], modality: Modality):
        self.transform = transform
        self.modality = modality

    def __call__(self, labels: dict[str, Any]) -> dict[str, Any]:
        """Transform the modality's channels of `labels["img"]`, shape (H, W, C) uint8, in place."""
        image = labels["img"] = np.ascontiguousarray(labels["img"])
        first, count = self.modality.start, self.modality.channels
        part = np.empty((*image.shape[:2], count), np.uint8)
        # several times as fast as slices of the last axis
        cv2.mixChannels([image], [part], [channel for i in range(count) for channel in (first + i, i)])
        changed = np.ascontiguousarray(self.transform({**labels, "img": part})["img"])
        cv2.mixChannels([changed], [image], [channel for i in range(count) for channel in (i, first + i)])
        return labels


class StackedFormat(Format):
    """Ultralytics' formatting, with every colour modality of the stack converted from BGR to RGB.

    Args:
        modalities: The modalities in the order of the stack.
        **kwargs: Arguments of `ultralytics.data.augment.Format`. `bgr` is the probability that the visible modality
            stays BGR, as augmentation.
    """

    def __init__(self, modalities: Sequence[Modality], **kwargs: Any):
        super().__init__(**kwargs)
        self.modalities = tuple(modalities)

    def apply_image(self, labels: dict[str, Any], params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Turn `labels["img"]`, shape (H, W, C) uint8, into a tensor of shape (C, H, W)."""
        image = labels["img"]
        planes = np.empty((image.shape[2], *image.shape[:2]), np.uint8)
        copy_channels(image, list(zip(self.draw_order(), planes, strict=True)))
        labels["img"] = torch.from_numpy(planes)
        return labels

    def apply_instances(self, labels: dict[str, Any], params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Format classes and boxes as Ultralytics does, but several times as fast, without indexing tensors."""
        more = self.return_mask or self.return_keypoint or self.return_obb or not self.normalize
        if more or params is None or not params["nl"]:
            return super().apply_instances(labels, params)
        size = np.array([params["w"], params["h"]] * 2, np.float32)
        labels["cls"] = torch.from_numpy(params["cls"])
        labels["bboxes"] = torch.from_numpy(params["instances"].bboxes / size)
        if self.batch_idx:
            labels["batch_idx"] = torch.zeros(params["nl"])
        return labels

    def draw_order(self) -> list[int]:
        """Return the channel of the stack for each channel of the tensor, with a new draw of `bgr`."""
        keep_bgr = random.uniform(0, 1) <= self.bgr
        order: list[int] = []
        for modality in self.modalities:
            to_rgb = modality.channels == 3 and not (modality.visible and keep_bgr)
            channels = range(len(order), len(order) + modality.channels)
            order += reversed(channels) if to_rgb else channels
        return order


@dataclass(frozen=True)
class Frame:
    """Position of an image in the input tensor of the model.

    Attributes:
        shape: (C, H, W) of the tensor.
        rows: The rows of the image.
        columns: The columns of the image.
    """

    shape: tuple[int, int, int]
    rows: slice
    columns: slice


class LetterBoxedFormat(StackedFormat):
    """Ultralytics' letterbox and `StackedFormat` in one, copying every channel once, into the model's input tensor.

    Values, shapes and labels equal those of the two transforms in sequence, with fewer passes over the pixels: above
    four channels, OpenCV and numpy are many times slower with interleaved channels than with planes. Labels and pixels
    are separate, because the labels of a sample do not change, and its pixels can be decoded into the tensor.

    Args:
        letterbox: Ultralytics' letterbox.
        formatting: The formatting after it.
    """

    def __init__(self, letterbox: LetterBox, formatting: StackedFormat):
        vars(self).update(vars(formatting))
        self.letterbox = letterbox

    def __call__(self, labels: dict[str, Any]) -> dict[str, Any]:
        """Pad and format a sample, whose "img" has the shape (H, W, C), uint8."""
        image, arranged = labels["img"], self.arrange(labels)
        if arranged is None:
            return super().__call__(self.letterbox(labels))
        labels, frame = arranged
        planes = np.empty(frame.shape, np.uint8)
        copy_channels(image, list(zip(self.draw_order(), self.pad(planes, frame), strict=True)))
        return {**labels, "img": torch.from_numpy(planes)}

    def arrange(self, labels: dict[str, Any]) -> tuple[dict[str, Any], Frame] | None:
        """Format everything but the pixels.

        Args:
            labels: A sample, modified in place; only the shape of its "img" is read, (H, W, C).

        Returns:
            The formatted sample without "img", and the position of the image; None, with the sample unchanged, if the
            letterbox resizes images of this shape.
        """
        params = self.letterbox.get_params(dict(labels))  # of a copy, from which it removes keys
        (height, width), channels = labels["img"].shape[:2], labels["img"].shape[2]
        if params["new_unpad"] != (width, height):
            return None
        labels.pop("rect_shape", None)
        labels = self.letterbox.apply_instances(labels, params)
        top, left = params["top"], params["left"]
        padded = top + height + params["bottom"], left + width + params["right"]
        labels["img"], labels["resized_shape"] = np.broadcast_to(np.uint8(), (*padded, channels)), params["new_shape"]
        labels = super().__call__(labels)
        return labels, Frame((channels, *padded), np.s_[top : top + height], np.s_[left : left + width])

    def pad(self, planes: np.ndarray, frame: Frame) -> np.ndarray:
        """Fill the border in planes of shape `frame.shape`, uint8, and return the part for the image."""
        rows, columns = frame.rows, frame.columns
        for border in (
            np.s_[:, : rows.start],
            np.s_[:, rows.stop :],
            np.s_[..., : columns.start],
            np.s_[..., columns.stop :],
        ):
            planes[border] = self.letterbox.padding_value
        return planes[:, rows, columns]

    def apply_image(self, labels: dict[str, Any], params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Format an image, or remove a placeholder that only has a shape, see `arrange`."""
        if any(labels["img"].strides):
            return super().apply_image(labels, params)
        del labels["img"]
        return labels


def fuse_letterbox(transforms: Compose) -> Compose:
    """Replace a letterbox and formatting by one `LetterBoxedFormat`, if there are no other transforms."""
    if [type(transform) for transform in transforms.tolist()] != [LetterBox, StackedFormat]:
        return transforms
    return Compose([LetterBoxedFormat(*transforms.tolist())])


def are_planes(image: np.ndarray) -> bool:
    """Return whether an image of shape (H, W, C) is planar in memory."""
    return image.transpose(2, 0, 1).flags.c_contiguous


def copy_channels(image: np.ndarray, places: Sequence[tuple[int, np.ndarray]]) -> None:
    """Copy channels of an image into planes, several times as fast as slices of numpy's last axis.

    Args:
        image: Shape (H, W, C), uint8.
        places: Pairs of a channel and its target of shape (H, W).
    """
    if are_planes(image):
        for channel, plane in places:
            plane[:] = image[..., channel]
    else:
        pairs = [number for target, (channel, _) in enumerate(places) for number in (channel, target)]
        cv2.mixChannels([np.ascontiguousarray(image)], [plane for _, plane in places], pairs)


def colour_on_visible(transforms: Compose, modalities: Sequence[Modality]) -> Compose:
    """Restrict HSV and Albumentations to the visible modality, or remove them if there is none.

    Args:
        transforms: The result of `YOLODataset.build_transforms`.
        modalities: The modalities of the stack.

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
    """Return whether a colour transform changes anything, to avoid copies for one that does not."""
    if isinstance(transform, RandomHSV):
        return bool(transform.hgain or transform.sgain or transform.vgain)
    return transform.transform is not None
