"""Modality access: what a model makes of a modality that is missing."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def modality_access(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tell for each sample which modalities it has: the factors by which a model multiplies its streams' features.

    A modality that is 0 all over is missing. Without the factor its stream would still add what biases and batch
    normalisation make of zeros.

    Args:
        inputs: Every modality by name, normalised, shape (B, C_m, H_m, W_m).

    Returns:
        By name, 1 for a sample that has the modality and 0 for one that lacks it, shape (B, 1, 1, 1), in the dtype of
        the input.
    """
    return {name: (own != 0).flatten(1).any(1).to(own.dtype).view(-1, 1, 1, 1) for name, own in inputs.items()}
