"""Which pairs are looked at where a look at all would take too long."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

DEFAULT_SAMPLE = 500
"""Pairs whose pixels are looked at, of all splits together, if the user does not say."""

TRAINING_SAMPLE = 32
"""Pairs whose files are opened before a training, of all splits together, however large the dataset is."""


def evenly(count: int, wanted: int) -> list[int]:
    """Return `wanted` of the numbers 0 … count − 1, or all if there are fewer, evenly spread."""
    return sorted(set(np.linspace(0, count - 1, min(count, wanted)).round().astype(int).tolist()))


def divide_sample(counts: Mapping[str, int], wanted: int) -> dict[str, int]:
    """Divide a sample among splits in proportion to their pairs, at least one each."""
    total = sum(counts.values())
    return {name: min(count, max(1, round(wanted * count / total))) for name, count in counts.items()}
