"""Find partners that get distorted and files unlike all others, by their sizes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

DISTORTED = 0.02
"""Relative difference of aspect ratios above which partners are distorted to fit."""

UNLIKE_SHAPE = 0.05
"""Difference from the median of a file's aspect ratio relative to its partner, above which it is unlike the others."""

UNLIKE_SIDE = 2.0
"""The same for the ratio of its sides relative to its partner."""

UNLIKE_ALONE = 4.0
"""The same for the sides of the first modality, if most of its files have one size."""

FEW = 0.2
"""Maximum share of files unlike the others; if there are more, none is."""


def other_shapes(sizes: Sequence[Sequence[tuple[int, int]]], index: int) -> list[int]:
    """Return the pairs in which a modality has another aspect ratio than the first.

    Args:
        sizes: The (height, width) of every modality's file, by pair.
        index: Index of the modality.
    """
    shape, first_shape = (_logarithms(sizes, i)[0] for i in (index, 0))
    return np.flatnonzero(np.abs(shape - first_shape) > DISTORTED).tolist()


def unlike_others(sizes: Sequence[Sequence[tuple[int, int]]], index: int) -> list[int]:
    """Return the pairs whose file of a modality has an unusual shape or size, if they are few.

    Usual is the median, relative to the first modality's file of the pair, or of the first modality itself.

    Args:
        sizes: The (height, width) of every modality's file, by pair.
        index: Index of the modality.
    """
    shape, side = _logarithms(sizes, index)
    if index:
        first_shape, first_side = _logarithms(sizes, 0)
        shape, side = shape - first_shape, side - first_side
        odd = (np.abs(shape - np.median(shape)) > UNLIKE_SHAPE) | (np.abs(side - np.median(side)) > np.log(UNLIKE_SIDE))
    else:
        off = np.abs(side - np.median(side))
        one_size = (off < np.log(1.5)).mean() >= 1 - FEW
        odd = (off > np.log(UNLIKE_ALONE)) & one_size
    found = np.flatnonzero(odd)
    return found.tolist() if len(found) <= FEW * len(sizes) else []


def _logarithms(sizes: Sequence[Sequence[tuple[int, int]]], index: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the logarithms of width over height and of the geometric mean of both, by pair."""
    height, width = np.log(np.array([pair[index] for pair in sizes], float)).T
    return width - height, (width + height) / 2
