"""How far the raw outputs of one of Ultralytics' heads are from another's: the loss of following a complete view."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mwam_det.training.incomplete import confident_divergence


def follow(student: Any, teacher: Any, gains: Mapping[str, float]) -> Tensor:
    """Return how far the outputs of a head in training are from a teacher's, weighted by the teacher's confidence.

    Args:
        student: What a head puts out in training for B samples: a dictionary with "scores" of shape (B, nc, A) and
            "boxes" of shape (B, 4·r, A) at A places, perhaps more of shape (B, …, A); one of two of these, "one2many"
            and "one2one"; or logits of classes of shape (B, nc, …), or a tuple of these, of which the first counts.
        teacher: The same of the complete view; no gradient reaches it.
        gains: Ultralytics' "cls" and "dfl", which weigh classes and boxes; 1 where they are left out.

    Returns:
        The loss times B, as Ultralytics' losses are, 0-d, float32.
    """
    if isinstance(student, Tensor):
        return confident_divergence(student, teacher) * len(student)
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
    places = target.shape[-1]
    for key, own in student.items():
        aim = teacher[key]
        if key == "scores" or not isinstance(own, Tensor) or own.shape[-1] != places:
            continue
        far = _box_divergence(own, aim) if key == "boxes" else _distance(own, aim)
        loss = loss + gains.get("dfl", 1.0) * (far * confidence[:, 0]).sum() / total
    return loss * len(target)


def _box_divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """Compare the four sides of boxes, shape (B, 4·r, A), as distributions over r bins, or as numbers: (B, A)."""
    if student.shape[1] == 4:
        return _distance(student, teacher)
    logs, aims = (own.float().unflatten(1, (4, -1)).log_softmax(2) for own in (student, teacher.detach()))
    return F.kl_div(logs, aims, reduction="none", log_target=True).sum(2).mean(1)


def _distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Compare numbers at A places, shape (B, …, A): (B, A)."""
    far = F.smooth_l1_loss(student.float(), teacher.detach().float(), reduction="none")
    return torch.flatten(far, 1, -2).mean(1) if far.ndim > 2 else far
