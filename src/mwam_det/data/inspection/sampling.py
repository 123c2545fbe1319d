"""Sample pairs where reading all would take too long."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

DEFAULT_SAMPLE = 500
"""Default number of pairs whose pixels are read by an inspection, over all splits."""

TRAINING_SAMPLE = 32
"""Number of pairs whose files are opened before training, over all splits."""


def evenly(count: int, wanted: int) -> list[int]:
    """Return `wanted` of the numbers 0 … count − 1, or all if there are fewer, evenly spaced."""
    return sorted(set(np.linspace(0, count - 1, min(count, wanted)).round().astype(int).tolist()))


def divide_sample(counts: Mapping[str, int], wanted: int) -> dict[str, int]:
    """Divide a sample among splits in proportion to their pairs, at least one each."""
    total = sum(counts.values())
    return {name: min(count, max(1, round(wanted * count / total))) for name, count in counts.items()}
