"""Sizes of files: which partners get distorted, and which files are unlike all others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

DISTORTED = 0.02
"""Partners whose ratios of width to height differ by more, as a share, are distorted to fit."""

UNLIKE_SHAPE = 0.05
"""A file is unlike the others if its ratio of width to height, beside its partner's, is off the usual by more."""

UNLIKE_SIDE = 2.0
"""Likewise if its sides are so many times longer or shorter than they usually are beside its partner's."""

UNLIKE_ALONE = 4.0
"""Likewise, where a modality's files have one size but for some, if its sides are so many times those of the usual."""

FEW = 0.2
"""Of more than this share no file is called unlike the others: there is no usual one."""


def other_shapes(sizes: Sequence[Sequence[tuple[int, int]]], place: int) -> list[int]:
    """Return the pairs in which a modality has another ratio of width to height than the first.

    Args:
        sizes: By pair the (height, width) of every modality's file.
        place: Number of the modality.
    """
    own, first = (_logarithms(sizes, p)[0] for p in (place, 0))
    return np.flatnonzero(np.abs(own - first) > DISTORTED).tolist()


def unlike_others(sizes: Sequence[Sequence[tuple[int, int]]], place: int) -> list[int]:
    """Return the pairs whose file of a modality has a shape or a size unlike what is usual, if these are few.

    Usual is the median: beside the first modality's file of the pair, or of the first modality by itself.

    Args:
        sizes: By pair the (height, width) of every modality's file.
        place: Number of the modality.
    """
    shape, side = _logarithms(sizes, place)
    if place:
        first_shape, first_side = _logarithms(sizes, 0)
        shape, side, limit = shape - first_shape, side - first_side, UNLIKE_SIDE
        odd = (np.abs(shape - np.median(shape)) > UNLIKE_SHAPE) | (np.abs(side - np.median(side)) > np.log(limit))
    else:
        off = np.abs(side - np.median(side))
        one_size = (off < np.log(1.5)).mean() >= 1 - FEW
        odd = (off > np.log(UNLIKE_ALONE)) & one_size
    found = np.flatnonzero(odd)
    return found.tolist() if len(found) <= FEW * len(sizes) else []


def _logarithms(sizes: Sequence[Sequence[tuple[int, int]]], place: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the logarithms of width over height and of the geometric mean of both, by pair."""
    height, width = np.log(np.array([pair[place] for pair in sizes], float)).T
    return width - height, (width + height) / 2
