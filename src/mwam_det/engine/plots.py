"""Pictures of samples with their modalities side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ultralytics.utils.plotting import Annotator

from mwam_det.data.modality import Modality

MOST_SHOWN = 9
"""Maximum number of samples in a picture of a batch; with more, objects would be too small to see."""

DRAWN_FROM = 0.25
"""Minimum confidence of predictions that Ultralytics draws in a batch."""


def wide_batch(batch: dict[str, Any], modalities: Sequence[Modality]) -> dict[str, Any]:
    """Convert a batch of stacked images to wide images, which show the modalities side by side.

    Ultralytics' plots only show the first three channels; given this batch they show every modality with its labels.

    Args:
        batch: "img" of shape (B, ΣC_m, H, W); "im_file", B paths; for N objects "batch_idx", "cls", "bboxes" (centre
            and size first, relative to the image) and possibly "keypoints" (x and y first, likewise); for B images
            possibly "masks", in which object i has the value i + 1, or "semantic_mask". "masks" may also be of N
            objects; without "batch_idx", "cls" is of images.
        modalities: The M modalities of the stack.

    Returns:
        At most the first `MOST_SHOWN` images: "img" of shape (B', 3, H, M·W), a copy, with all labels in each modality,
        and "im_file" followed by the modalities' names.
    """
    shown, count = len(batch["img"][:MOST_SHOWN]), len(modalities)
    views = [batch["img"][:shown, m.slice].expand(-1, 3, -1, -1) for m in modalities]
    names = " | ".join(m.name for m in modalities)
    wide: dict[str, Any] = {
        "img": torch.cat(views, 3),
        "im_file": [f"{Path(file).name} {names}" for file in batch["im_file"][:shown]],
    }
    if "semantic_mask" in batch:
        wide["semantic_mask"] = batch["semantic_mask"][:shown].repeat(1, 1, count)
    if "batch_idx" not in batch:
        return {**wide, **({"cls": batch["cls"][:shown]} if "cls" in batch else {})}
    kept = batch["batch_idx"].flatten() < shown
    wide["batch_idx"] = batch["batch_idx"][kept].repeat(count)
    wide["cls"] = batch["cls"][kept].repeat(count, *[1] * (batch["cls"].ndim - 1))
    boxes = batch["bboxes"][kept]
    wide["bboxes"] = torch.cat([_moved(boxes, index, [0]) for index in range(count)])
    wide["bboxes"][:, [0, 2]] /= count
    if "keypoints" in batch:
        points = batch["keypoints"][kept]
        wide["keypoints"] = torch.cat([_moved(points, index, [0]) for index in range(count)])
        wide["keypoints"][..., 0] /= count
    if "masks" in batch and len(batch["masks"]) == len(batch["img"]):
        objects = torch.bincount(batch["batch_idx"][kept].flatten().long(), minlength=shown)
        masks = batch["masks"][:shown]
        numbers = [masks + index * objects.to(masks)[:, None, None] for index in range(count)]
        wide["masks"] = torch.cat([torch.where(masks > 0, shifted, masks) for shifted in numbers], 2)
    elif "masks" in batch:
        masks = batch["masks"][kept]
        wide["masks"] = torch.cat([_widened(masks, index, count) for index in range(count)])
    return wide


def predictions_beside(predictions: list[dict[str, torch.Tensor]] | torch.Tensor, count: int, width: int) -> Any:
    """Repeat the predictions of each image in every modality of the wide image of `wide_batch`.

    Args:
        predictions: For each image, a mapping of predictions, with "bboxes" and "keypoints" in pixels (two corners, or
            centre, size and angle); or for all, a map of classes (B, H, W) or scores (B, K).
        count: Number M of modalities.
        width: Width W of an image in pixels.

    Returns:
        The same for at most the first `MOST_SHOWN` images. Predictions that Ultralytics does not draw are left out, and
        the copies of an object are adjacent, so that a limit on their number drops no modality.
    """
    if isinstance(predictions, torch.Tensor):
        shown = predictions[:MOST_SHOWN]
        return shown.repeat(1, 1, count) if shown.ndim == 3 else shown
    return [_copies(prediction, count, width) for prediction in predictions[:MOST_SHOWN]]


def _copies(prediction: Mapping[str, torch.Tensor], count: int, width: int) -> dict[str, torch.Tensor]:
    sure = prediction["conf"] > DRAWN_FROM
    repeated = {}
    for key, values in prediction.items():
        values = values[sure]
        if key == "bboxes":
            columns = [0] if values.shape[-1] == 5 else [0, 2]
            copies = [_moved(values, index * width, columns) for index in range(count)]
        elif key == "keypoints":
            copies = [_moved(values, index * width, [0]) for index in range(count)]
        elif key == "masks":
            copies = [_widened(values, index, count) for index in range(count)]
        else:
            copies = [values] * count
        repeated[key] = torch.stack(copies, 1).flatten(0, 1)
    return repeated


def _moved(values: torch.Tensor, by: float, columns: Sequence[int]) -> torch.Tensor:
    """Return a copy with something added to columns of the last dimension."""
    values = values.clone()
    values[..., columns] += by
    return values


def _widened(masks: torch.Tensor, index: int, count: int) -> torch.Tensor:
    """Put masks (N, H, W) at one of `count` positions in a row, shape (N, H, count·W)."""
    return torch.cat([masks if position == index else torch.zeros_like(masks) for position in range(count)], 2)


def in_a_row(pictures: Mapping[str, np.ndarray]) -> np.ndarray:
    """Put pictures side by side, each below its name.

    Args:
        pictures: By name, shape (H, W, 3), uint8, all of the same size.

    Returns:
        Shape (H', W', 3), uint8. A single picture is returned unchanged.
    """
    if len(pictures) == 1:
        return next(iter(pictures.values()))
    height, width = next(iter(pictures.values())).shape[:2]
    size = max(round((height + width) / 2 * 0.03), 10)
    gap = np.full((height + 2 * size, max(size // 3, 2), 3), 255, np.uint8)
    panels = []
    for name, picture in pictures.items():
        head = Annotator(np.full((2 * size, width, 3), 255, np.uint8), font_size=size, pil=True)
        head.text([size // 2, size // 2], name, txt_color=(0, 0, 0))
        panels += [gap, np.concatenate([head.result(), picture])]
    return np.concatenate(panels[1:], axis=1)
