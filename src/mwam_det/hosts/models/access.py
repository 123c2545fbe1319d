"""Modality access: features of a missing modality are 0."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from mwam_det.training.incomplete import Views

Access = Callable[[str, Tensor], Tensor]
"""Takes a modality's name and features behind its stream; returns them with 0 where the modality is missing."""


def modality_access(inputs: Mapping[str, Tensor], views: Views | None = None) -> Access:
    """Return a function that sets the features of missing modalities to 0.

    Otherwise a stream would still add what biases and batch normalisation make of zeros. A modality that is 0 all over
    is missing. In training, `views` may name the samples that lack it instead: streams have then seen complete inputs.

    Args:
        inputs: Every modality by name, normalised, shape (B, C_m, H_m, W_m).
        views: How a training step sees the mini-batch at the level of features, V times each sample.

    Returns:
        A function that takes features of shape (B, …), or of all views, (V·B, …), and returns them in all views.
    """
    if views is None:
        present = {name: (images != 0).flatten(1).any(1) for name, images in inputs.items()}
        return lambda name, features: _masked(features, present[name])
    present = {name: rows.flatten() for name, rows in views.present.items()}

    def of_views(name: str, features: Tensor) -> Tensor:
        if len(features) == len(present[name]):
            return _masked(features, present[name])
        return views.mix(name, features)

    return of_views


def _masked(features: Tensor, present: Tensor) -> Tensor:
    return features * present.to(features).view(-1, *[1] * (features.ndim - 1))
