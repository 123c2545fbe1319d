"""The position of an image in the network's input, and the mapping of predictions back to the pixels of its file.

Images are prepared in two steps, in validation and prediction alike: they are resized, and then padded by Ultralytics'
letterbox, which may resize them again. Ultralytics' predictors assume one step, whose rounding differs by up to a
pixel; its `ops` undo both steps if given `ratio_pad`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from ultralytics.utils import ops

Size = tuple[int, int]
"""(height, width) in pixels."""

MASK_LOGITS = 16_000_000
"""Maximum number of float values of file-sized masks that are thresholded at once."""


@dataclass(frozen=True)
class Placement:
    """The position of an image in the network's input.

    Attributes:
        network: Size of the network's input.
        file: Size of the image in its file.
        top: First row of the image in the network's input.
        left: First column of the image.
        height: Rows of the image in the network's input.
        width: Columns of the image.
    """

    network: Size
    file: Size
    top: int
    left: int
    height: int
    width: int

    @classmethod
    def of(cls, network: Size, resized: Size, file: Size) -> Placement:
        """Compute the position of an image that was resized and then letterboxed as in Ultralytics.

        Args:
            network: Size of the network's input.
            resized: Size of the resized image before the letterbox.
            file: Size of the image in its file.
        """
        scale = min(network[0] / resized[0], network[1] / resized[1])
        height, width = (max(round(side * scale), 1) for side in resized)
        top, left = round((network[0] - height) / 2 - 0.1), round((network[1] - width) / 2 - 0.1)
        return cls(network, file, top, left, height, width)

    @property
    def ratio_pad(self) -> tuple[tuple[float, float], tuple[int, int]]:
        """((gain of the height, gain of the width), (left, top)), as used in `ultralytics.utils.ops`."""
        return (self.height / self.file[0], self.width / self.file[1]), (self.left, self.top)

    def boxes(self, boxes: Tensor, xywh: bool = False) -> Tensor:
        """Map boxes to the file.

        Args:
            boxes: Shape (N, 4), pixels of the network's input.
            xywh: Whether they are centre, width and height rather than two corners.

        Returns:
            Shape (N, 4), pixels of the file; corners are clipped to it.
        """
        return torch.as_tensor(ops.scale_boxes(self.network, boxes.clone(), self.file, self.ratio_pad, xywh=xywh))

    def keypoints(self, keypoints: Tensor) -> Tensor:
        """Map keypoints to the file.

        Args:
            keypoints: Shape (N, K, 2 or 3), x and y in pixels of the network's input first.

        Returns:
            The same shape, pixels of the file, clipped to it.
        """
        return ops.scale_coords(self.network, keypoints.clone(), self.file, self.ratio_pad)

    def scores(self, scores: Tensor, mode: str = "bilinear") -> Tensor:
        """Map score maps of the network's input to the file.

        Args:
            scores: Shape (C, h, w), float, any resolution.
            mode: Interpolation, "bilinear" or "nearest".

        Returns:
            Shape (C, height, width) of the file, float32.
        """
        scores = scores[None].float()
        if tuple(scores.shape[2:]) != self.network:  # the letterbox border must be a whole number of pixels
            scores = functional.interpolate(scores, self.network, mode=mode)
        return ops.scale_masks(scores, self.file, ratio_pad=self.ratio_pad, mode=mode)[0]

    def native_masks(self, protos: Tensor, coefficients: Tensor, boxes: Tensor) -> Tensor:
        """Compute masks of objects at the size of the file, as `ops.process_mask_native` does for one step.

        Args:
            protos: Shape (P, h, w).
            coefficients: Shape (N, P).
            boxes: Shape (N, 4), two corners in pixels of the file.

        Returns:
            Shape (N, height, width) of the file, uint8, 0 or 1.
        """
        logits = (coefficients @ protos.float().flatten(1)).view(-1, *protos.shape[1:])
        masks = logits.new_zeros((len(logits), *self.file), dtype=torch.uint8)
        at_once = max(1, MASK_LOGITS // (self.file[0] * self.file[1] + self.network[0] * self.network[1]))
        for start in range(0, len(logits), at_once):
            chunk = slice(start, start + at_once)
            torch.gt(self.scores(logits[chunk]), 0, out=masks[chunk])
        return ops.crop_mask(masks, boxes)

    def as_one_step(self, masks: Tensor) -> Tensor:
        """Move masks to where they would be if the image had been letterboxed in one step.

        Ultralytics' results assume this for masks that do not have the file's size.

        Args:
            masks: Shape (N, height, width) of the network's input, uint8, 0 or 1.

        Returns:
            The same shape; the same tensor if both positions are equal.
        """
        target = Placement.of(self.network, self.file, self.file)
        if target == self or not len(masks):
            return masks
        content = masks[:, self.top : self.top + self.height, self.left : self.left + self.width]
        content = functional.interpolate(content[None].float(), (target.height, target.width), mode="bilinear")[0] > 0.5
        moved = torch.zeros_like(masks)
        moved[:, target.top : target.top + target.height, target.left : target.left + target.width] = content
        return moved


def areas_of_images(batch: Mapping[str, Any]) -> list[tuple[int, int, int, int]]:
    """Return the area of each image of a validation batch in the network's input, without the border.

    Args:
        batch: With "img" of shape (B, C, height, width), and for each image "ori_shape", its (height, width) in the
            file, and "ratio_pad", see `Placement.ratio_pad`.

    Returns:
        (top, bottom, left, right) of each image, pixels, within the network's input.
    """
    height, width = batch["img"].shape[2:]
    areas = []
    for (rows, columns), (ratio, (left, top)) in zip(batch["ori_shape"], batch["ratio_pad"], strict=True):
        top, left = round(top), round(left)
        bottom, right = top + round(rows * ratio[0]), left + round(columns * ratio[1])
        areas.append((max(top, 0), min(bottom, height), max(left, 0), min(right, width)))
    return areas
