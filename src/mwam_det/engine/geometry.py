"""Where an image lies in the network's input, and how what is found there is brought back to the pixels of its file.

Images come to the network in two steps, in validation and in prediction alike: they are resized, and then padded by
Ultralytics' letterbox, which may resize once more. Ultralytics' predictors assume one step, which rounds other sizes by
up to a pixel; its `ops` undo both if they are given `ratio_pad`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from ultralytics.utils import ops

Size = tuple[int, int]
"""(height, width) in pixels."""

MASK_LOGITS = 16_000_000
"""Largest number of float values that masks of a file's size take at once while they are thresholded."""


@dataclass(frozen=True)
class Placement:
    """Where an image lies in the network's input.

    Attributes:
        network: Size of the network's input.
        file: Size of the image as its file holds it.
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
        """Compute where an image lies that was resized and then letterboxed as Ultralytics does it.

        Args:
            network: Size of the network's input.
            resized: Size to which the image was resized before the letterbox.
            file: Size of the image as its file holds it.
        """
        scale = min(network[0] / resized[0], network[1] / resized[1])
        height, width = (max(round(side * scale), 1) for side in resized)
        top, left = round((network[0] - height) / 2 - 0.1), round((network[1] - width) / 2 - 0.1)
        return cls(network, file, top, left, height, width)

    @property
    def ratio_pad(self) -> tuple[tuple[float, float], tuple[int, int]]:
        """((gain of the height, gain of the width), (left, top)), as functions of `ultralytics.utils.ops` take it."""
        return (self.height / self.file[0], self.width / self.file[1]), (self.left, self.top)

    def boxes(self, boxes: Tensor, xywh: bool = False) -> Tensor:
        """Bring boxes back to the file.

        Args:
            boxes: Shape (N, 4), pixels of the network's input.
            xywh: Whether they are centre, width and height rather than two corners.

        Returns:
            Shape (N, 4), pixels of the file; corners are clipped to it.
        """
        return torch.as_tensor(ops.scale_boxes(self.network, boxes.clone(), self.file, self.ratio_pad, xywh=xywh))

    def keypoints(self, keypoints: Tensor) -> Tensor:
        """Bring keypoints back to the file.

        Args:
            keypoints: Shape (N, K, 2 or 3), x and y in pixels of the network's input first.

        Returns:
            The same shape, pixels of the file, clipped to it.
        """
        return ops.scale_coords(self.network, keypoints.clone(), self.file, self.ratio_pad)

    def scores(self, scores: Tensor, mode: str = "bilinear") -> Tensor:
        """Bring maps over the network's input back to the file.

        Args:
            scores: Shape (C, h, w), float, any resolution.
            mode: Interpolation, "bilinear" or "nearest".

        Returns:
            Shape (C, height, width) of the file, float32.
        """
        scores = scores[None].float()
        if tuple(scores.shape[2:]) != self.network:  # the border of the letterbox must lie on whole pixels
            scores = functional.interpolate(scores, self.network, mode=mode)
        return ops.scale_masks(scores, self.file, ratio_pad=self.ratio_pad, mode=mode)[0]

    def native_masks(self, protos: Tensor, coefficients: Tensor, boxes: Tensor) -> Tensor:
        """Compute masks of objects at the size of the file, as `ops.process_mask_native` does it for one step.

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
        """Move masks over the network's input to where they would lie if the image had been letterboxed in one step.

        Ultralytics' results assume that of masks which are not of the file's size.

        Args:
            masks: Shape (N, height, width) of the network's input, uint8, 0 or 1.

        Returns:
            The same shape; the same tensor if both ways lead to the same place.
        """
        there = Placement.of(self.network, self.file, self.file)
        if there == self or not len(masks):
            return masks
        own = masks[:, self.top : self.top + self.height, self.left : self.left + self.width]
        own = functional.interpolate(own[None].float(), (there.height, there.width), mode="bilinear")[0] > 0.5
        moved = torch.zeros_like(masks)
        moved[:, there.top : there.top + there.height, there.left : there.left + there.width] = own
        return moved
