"""The distance between raw outputs of Ultralytics' heads: the distillation loss towards a complete view."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mwam_det.training.incomplete import confident_divergence


def follow(student: Any, teacher: Any, gains: Mapping[str, float]) -> Tensor:
    """Return the distance of a head's training outputs from a teacher's, weighted by the teacher's confidence.

    Args:
        student: Training output of a head for B samples: a dictionary with "scores" of shape (B, nc, A) and "boxes" of
            shape (B, 4·r, A) at A anchors, possibly more of shape (B, …, A); a dictionary of two of these, "one2many"
            and "one2one"; or class logits of shape (B, nc, …), or a tuple of these, of which the first is used.
        teacher: The same for the complete view; it gets no gradient.
        gains: Ultralytics' "cls" and "dfl", which weight classes and boxes; 1 if left out.

    Returns:
        The mean over samples, 0-d, float32.
    """
    if isinstance(student, Tensor):
        return confident_divergence(student, teacher)
    if isinstance(student, tuple):
        return follow(student[0], teacher[0], gains)
    if "one2many" in student:
        many, one = (follow(student[key], teacher[key], gains) for key in ("one2many", "one2one"))
        return many + one
    target = teacher["scores"].detach().float().sigmoid()
    confidence = target.amax(1, keepdim=True)  # (B, 1, A)
    total = confidence.sum().clamp(min=1)
    scores = F.binary_cross_entropy_with_logits(student["scores"].float(), target, reduction="none")
    entropy = torch.special.entr(target) + torch.special.entr(1 - target)
    loss = gains.get("cls", 1.0) * ((scores - entropy) * confidence).sum() / total
    for key, values in student.items():
        if key == "scores" or not isinstance(values, Tensor) or values.shape[-1] != target.shape[-1]:
            continue
        distance = (_box_divergence if key == "boxes" else _distance)(values, teacher[key])
        loss = loss + gains.get("dfl", 1.0) * (distance * confidence[:, 0]).sum() / total
    return loss


def _box_divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """Compare the four sides of boxes, shape (B, 4·r, A), as distributions over r bins, or as numbers: (B, A)."""
    if student.shape[1] == 4:
        return _distance(student, teacher)
    logs, targets = (sides.float().unflatten(1, (4, -1)).log_softmax(2) for sides in (student, teacher.detach()))
    return F.kl_div(logs, targets, reduction="none", log_target=True).sum(2).mean(1)


def _distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Compare numbers at A anchors, shape (B, …, A): (B, A)."""
    distance = F.smooth_l1_loss(student.float(), teacher.detach().float(), reduction="none")
    return torch.flatten(distance, 1, -2).mean(1) if distance.ndim > 2 else distance
