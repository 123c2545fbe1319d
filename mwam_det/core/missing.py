"""Missing modalities: which combinations there are, how one is removed or drawn, and what its absence costs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from mwam_det.core.config import Settings

ALLOCATIONS = ("uniform", "mwam")

SMALLEST_WEIGHT = 1e-3
"""Smaller weights count as this where they tell what is missing; β = α lets them come down to 0."""


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
        The shape, dtype and device of `images`; `images` itself if nothing is missing.

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


@dataclass(frozen=True)
class DropoutConfig(Settings):
    """How often modalities are missing in training, so that the model learns to do without them.

    Args:
        p: Probability that a sample lacks something, in [0, 1].
        allocation: Which of the incomplete combinations it gets. "uniform": each with the same probability (modality
            dropout). "mwam": the preferred modality is missing more often, see `draw_missing`.

    Raises:
        ValueError: If a value is outside its range; the message names key, value and choices.
    """

    p: float = 0.5
    allocation: str = "uniform"

    def __post_init__(self):
        if isinstance(self.p, bool) or not isinstance(self.p, Real) or not 0 <= self.p <= 1:
            raise ValueError(f"p={self.p!r} must be a number in [0, 1]")
        if self.allocation not in ALLOCATIONS:
            raise ValueError(f"allocation={self.allocation!r} must be one of {', '.join(ALLOCATIONS)}")


def dropout_config(value: Any) -> DropoutConfig | None:
    """Read the argument `missing`: None or False for no modality dropout, or a mapping with values of `DropoutConfig`.

    Raises:
        ValueError: If the value or a key in it is not one of these.
    """
    if value is None or value is False:
        return None
    if isinstance(value, Mapping):
        return DropoutConfig.from_dict(value)
    raise ValueError(f"missing={value!r} must be false or a mapping with p and allocation, like {{p: 0.5}}")


def draw_missing(
    count: int,
    modalities: Sequence[str],
    p: float,
    weights: Mapping[str, float] | None = None,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """Draw for every sample of a mini-batch which modalities it lacks; never all of them.

    A sample lacks something with probability p, and then the set S of modalities with a probability in proportion to
    Π_{m ∈ S} 1 / K_m, over all 2^M − 2 sets. With equal weights each set is equally likely. With the weights of Eq. 6
    the modality that the network prefers is missing more often: MWAM in input space, which is not in the paper. With
    K = 0.5 and 1.5, the first of two modalities is missing three times as often as the second.

    Args:
        count: Number of samples B.
        modalities: All modalities, at least two.
        p: Probability in [0, 1] that a sample lacks something.
        weights: K of every modality, at least 0, see `SMALLEST_WEIGHT`; all 1 if left out.
        generator: Source of randomness, on the CPU.

    Returns:
        By modality, which samples lack it, shape (B,), bool, on the CPU.

    Raises:
        ValueError: If there is one modality alone, or a weight is negative.
    """
    if len(modalities) < 2:
        raise ValueError(f"of the modalities {', '.join(modalities)} none can be missing: two are needed at least")
    weights = {name: float(weights[name]) if weights else 1.0 for name in modalities}
    if bad := [name for name, weight in weights.items() if not weight >= 0]:
        raise ValueError(f"the weight of {', '.join(bad)} must be 0 at least: {weights}")
    sets = [set(modalities) - set(available) for available in modality_combinations(modalities)[:-1]]
    odds = torch.tensor(
        [math.prod(1 / max(weights[name], SMALLEST_WEIGHT) for name in names) for names in sets], dtype=torch.float64
    )
    drawn = torch.multinomial(odds, count, replacement=True, generator=generator)
    lacking = torch.rand(count, generator=generator) < p
    members = torch.tensor([[name in names for names in sets] for name in modalities])
    return {name: member[drawn] & lacking for name, member in zip(modalities, members, strict=True)}


def check_missing(missing: Iterable[str], modalities: Iterable[str]) -> tuple[str, ...]:
    """Return the names of missing modalities as a tuple in the order of `modalities`.

    Raises:
        ValueError: If a name is unknown or nothing would be left.
    """
    missing, modalities = set(missing), list(modalities)
    if unknown := missing - set(modalities):
        raise ValueError(f"unknown modality {', '.join(sorted(unknown))}: choose from {', '.join(modalities)}")
    if len(missing) == len(modalities):
        raise ValueError(f"all modalities ({', '.join(modalities)}) are missing: nothing is left to look at")
    return tuple(name for name in modalities if name in missing)


def performance_collapse_rate(full: float, missing: float) -> float | None:
    """Tell how much of a metric is lost without some modalities: PCR = (A_full − A_miss) / A_full (Eq. 26).

    Args:
        full: The metric A with all modalities, at least 0, higher is better.
        missing: The same metric with some of them missing.

    Returns:
        PCR in per cent, negative where the incomplete input is better, or None where `full` is 0 and it is undefined.
    """
    return None if full == 0 else (full - missing) / full * 100


def collapse_without_each(
    scores: Mapping[tuple[str, ...], float], modalities: Sequence[str]
) -> dict[str, float] | None:
    """Tell how much a model depends on each modality: PCR where that one alone is missing.

    Args:
        scores: The metric by available modalities; all of them, and all but each one, are there.
        modalities: All modalities, in the order in which combinations name them.

    Returns:
        PCR in per cent by the modality that is missing, or None for a model that finds nothing yet: it tells nothing.
    """
    rest = {name: tuple(other for other in modalities if other != name) for name in modalities}
    full = scores[tuple(modalities)]
    rates = {name: performance_collapse_rate(full, scores[others]) for name, others in rest.items()}
    return None if None in rates.values() else rates
