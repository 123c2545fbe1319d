"""Pictures for people: samples with their modalities side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ultralytics.utils.plotting import Annotator

from mwam_det.data.modality import Modality


def unstack_batch(batch: dict[str, Any], modalities: Sequence[Modality]) -> dict[str, Any]:
    """Turn a batch of stacked images into one in which the modalities of an image follow each other as images.

    Ultralytics' plots show the first three channels alone; given this batch they show every modality with its labels.

    Args:
        batch: "img" of shape (B, ΣC_m, H, W); "im_file", B paths; of N objects "batch_idx", "cls", "bboxes" and perhaps
            "keypoints"; of B images perhaps "masks" or "semantic_mask". "masks" may be of N objects too, and without
            "batch_idx" "cls" is of images.
        modalities: The M modalities of the stack.

    Returns:
        "img" of shape (B·M, 3, H, W), a copy; what is of objects M times, what is of images for each modality;
        "im_file" followed by the modality's name.
    """
    count = len(modalities)
    views = [batch["img"][:, m.slice].expand(-1, 3, -1, -1) for m in modalities]
    repeated: dict[str, Any] = {}
    for key in ("cls", "bboxes", "keypoints", "masks", "semantic_mask"):
        if key not in batch:
            continue
        masks = key in ("masks", "semantic_mask") and len(batch[key]) == len(batch["img"])
        if masks or key == "cls" and "batch_idx" not in batch:
            repeated[key] = batch[key].repeat_interleave(count, 0)
        else:
            repeated[key] = batch[key].repeat(count, *[1] * (batch[key].ndim - 1))
    if "batch_idx" in batch:
        repeated["batch_idx"] = torch.cat([batch["batch_idx"] * count + place for place in range(count)])
    return {
        **repeated,
        "img": torch.stack(views, 1).flatten(0, 1).clone(),
        "im_file": [f"{Path(file).name} {m.name}" for file in batch["im_file"] for m in modalities],
    }


def repeat_predictions(predictions: list[dict[str, torch.Tensor]] | torch.Tensor, times: int) -> Any:
    """Repeat the predictions of each image, a mapping or a map of classes, as `unstack_batch` repeats the images."""
    if isinstance(predictions, torch.Tensor):
        return predictions.repeat_interleave(times, 0)
    return [dict(prediction) for prediction in predictions for _ in range(times)]


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
