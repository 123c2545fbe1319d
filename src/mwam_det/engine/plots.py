"""Pictures for people: samples with their modalities side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ultralytics.utils.plotting import Annotator

from mwam_det.data.modality import Modality

MOST_SHOWN = 9
"""Number of samples in a picture of a batch; of more, objects would be too small to see."""

DRAWN_FROM = 0.25
"""Ultralytics draws predictions of a batch from this confidence on."""


def wide_batch(batch: dict[str, Any], modalities: Sequence[Modality]) -> dict[str, Any]:
    """Turn a batch of stacked images into one of wide images, which show the modalities beside each other.

    Ultralytics' plots show the first three channels alone; given this batch they show every modality with its labels.

    Args:
        batch: "img" of shape (B, ΣC_m, H, W); "im_file", B paths; of N objects "batch_idx", "cls", "bboxes" (centre and
            size first, in shares of the image) and perhaps "keypoints" (x and y first, likewise); of B images perhaps
            "masks", in which object i has the value i + 1, or "semantic_mask". "masks" may be of N objects too, and
            without "batch_idx" "cls" is of images.
        modalities: The M modalities of the stack.

    Returns:
        The first `MOST_SHOWN` images at most: "img" of shape (B', 3, H, M·W), a copy, with all labels in each modality,
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
    wide["bboxes"] = torch.cat([_moved(boxes, place, [0]) for place in range(count)])
    wide["bboxes"][:, [0, 2]] /= count
    if "keypoints" in batch:
        points = batch["keypoints"][kept]
        wide["keypoints"] = torch.cat([_moved(points, place, [0]) for place in range(count)])
        wide["keypoints"][..., 0] /= count
    if "masks" in batch and len(batch["masks"]) == len(batch["img"]):
        objects = torch.bincount(batch["batch_idx"][kept].flatten().long(), minlength=shown)
        masks = batch["masks"][:shown]
        numbers = [masks + place * objects.to(masks)[:, None, None] for place in range(count)]
        wide["masks"] = torch.cat([torch.where(masks > 0, own, masks) for own in numbers], 2)
    elif "masks" in batch:
        masks = batch["masks"][kept]
        wide["masks"] = torch.cat([_widened(masks, place, count) for place in range(count)])
    return wide


def predictions_beside(predictions: list[dict[str, torch.Tensor]] | torch.Tensor, count: int, width: int) -> Any:
    """Show the predictions of each image in every modality of the wide image that `wide_batch` makes of it.

    Args:
        predictions: For each image, a mapping of what was found, "bboxes" and "keypoints" in pixels (two corners, or
            centre, size and angle); or for all, a map of classes (B, H, W) or scores (B, K).
        count: Number M of modalities.
        width: Width W of an image in pixels.

    Returns:
        The same of the first `MOST_SHOWN` images at most. Only what Ultralytics draws of a mapping is left, and an
        object's copies follow each other, so that a limit of their number cuts no modality off.
    """
    if isinstance(predictions, torch.Tensor):
        shown = predictions[:MOST_SHOWN]
        return shown.repeat(1, 1, count) if shown.ndim == 3 else shown
    return [_copies(prediction, count, width) for prediction in predictions[:MOST_SHOWN]]


def _copies(prediction: Mapping[str, torch.Tensor], count: int, width: int) -> dict[str, torch.Tensor]:
    sure = prediction["conf"] > DRAWN_FROM
    found = {}
    for key, values in prediction.items():
        own = values[sure]
        if key == "bboxes":
            columns = [0] if own.shape[-1] == 5 else [0, 2]
            each = [_moved(own, place * width, columns) for place in range(count)]
        elif key == "keypoints":
            each = [_moved(own, place * width, [0]) for place in range(count)]
        elif key == "masks":
            each = [_widened(own, place, count) for place in range(count)]
        else:
            each = [own] * count
        found[key] = torch.stack(each, 1).flatten(0, 1)
    return found


def _moved(values: torch.Tensor, by: float, columns: Sequence[int]) -> torch.Tensor:
    """Return a copy with something added to columns of the last dimension."""
    values = values.clone()
    values[..., columns] += by
    return values


def _widened(masks: torch.Tensor, place: int, count: int) -> torch.Tensor:
    """Put masks (N, H, W) at a place of an empty ground, shape (N, H, count·W)."""
    return torch.cat([masks if own == place else torch.zeros_like(masks) for own in range(count)], 2)


def in_a_row(pictures: Mapping[str, np.ndarray]) -> np.ndarray:
    """Put pictures beside each other, each below its name.

    Args:
        pictures: By name, shape (H, W, 3), uint8, all of the same size.

    Returns:
        Shape (H', W', 3), uint8. A picture that is alone stays as it is.
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
