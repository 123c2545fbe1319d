"""Missing modalities: the possible combinations, how to remove a modality, and what its absence costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

from torch import Tensor


def modality_combinations(modalities: Sequence[str]) -> list[tuple[str, ...]]:
    """List all 2^M − 1 non-empty combinations of modalities, the smallest first and the complete one last."""
    return [c for size in range(1, len(modalities) + 1) for c in combinations(modalities, size)]


def drop_modalities(images: Tensor, slices: Mapping[str, slice], missing: Iterable[str]) -> Tensor:
    """Return a copy of a stacked batch in which the channels of the missing modalities are 0.

    Args:
        images: Stacked modalities after normalisation, shape (B, C, H, W).
        slices: The channels of each modality.
        missing: Names of the modalities to remove.

    Returns:
        Shape, dtype and device of `images`; `images` itself if nothing is missing.

    Raises:
        ValueError: If a name is unknown or nothing would be left.
    """
    missing = check_missing(missing, slices)
    if not missing:
        return images
    images = images.clone()
    for name in missing:
        images[:, slices[name]] = 0
    return images


def check_missing(missing: Iterable[str], modalities: Iterable[str]) -> tuple[str, ...]:
    """Return the names of missing modalities as a tuple in the order of `modalities`.

    Raises:
        ValueError: If a name is unknown or nothing would be left.
    """
    missing, modalities = set(missing), list(modalities)
    if unknown := missing - set(modalities):
        raise ValueError(f"unknown modality {', '.join(sorted(unknown))}: choose from {', '.join(modalities)}")
    if len(missing) == len(modalities):
        raise ValueError(f"all modalities ({', '.join(modalities)}) are missing: nothing is left")
    return tuple(name for name in modalities if name in missing)


def performance_collapse_rate(full: float, missing: float) -> float | None:
    """Return the share of a metric lost without some modalities: PCR = (A_full − A_miss) / A_full (Eq. 26).

    Args:
        full: The metric A with all modalities, at least 0, higher is better.
        missing: The same metric with some of them missing.

    Returns:
        PCR in per cent, negative if the incomplete input scores better; None if `full` is 0, where it is undefined.
    """
    return None if full == 0 else (full - missing) / full * 100


def collapse_without_each(
    scores: Mapping[tuple[str, ...], float], modalities: Sequence[str]
) -> dict[str, float] | None:
    """Return how much a model depends on each modality: the PCR when only that one is missing.

    Args:
        scores: The metric by available modalities, for all of them and for all but each one.
        modalities: All modalities, in the order in which combinations name them.

    Returns:
        PCR in per cent by missing modality, or None for a model that finds nothing yet.
    """
    full = scores[tuple(modalities)]
    rates: dict[str, float] = {}
    for name in modalities:
        rate = performance_collapse_rate(full, scores[tuple(other for other in modalities if other != name)])
        if rate is None:
            return None
        rates[name] = rate
    return rates
