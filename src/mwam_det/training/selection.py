"""The choice of the best checkpoint, where a model is validated with and without its modalities."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mwam_det.core.config import Settings, refuse_unknown_keys

SELECTIONS = ("full", "mean", "worst")

TIE_BREAK = 1e-3
"""Weight of the mean in a fitness that is the worst: a modality that finds nothing makes all epochs equal otherwise."""


@dataclass(frozen=True)
class Selection(Settings):
    """The choice of the best checkpoint, and of when training stops early.

    Args:
        select: "full", the fitness with all modalities; "mean", its mean over all combinations of
            modalities; "worst", the smallest of them, and where that is the same, the mean. Fitness is the host's:
            Ultralytics' own for detection (mAP50-95), the metric of the task for others.
        every: Where `select` or MWAM's preference needs combinations, they are validated in every `every`-th epoch and
            the last; the others validate complete input alone. Unless `select` is "full", those cannot become the best
            and do not count for early stopping.

    Raises:
        ValueError: If a value is outside its range; the message names key, value and choices.
    """

    select: str = "full"
    every: int = 1

    def __post_init__(self) -> None:
        if self.select not in SELECTIONS:
            raise ValueError(f"select={self.select!r} must be one of {', '.join(SELECTIONS)}")
        if isinstance(self.every, bool) or not isinstance(self.every, int) or self.every < 1:
            raise ValueError(f"every={self.every!r} must be a number of epochs, at least 1")


def selected_fitness(values: Iterable[float], select: str) -> float:
    """Return the fitness by `Selection.select`, "mean" or "worst", from that of all combinations of modalities."""
    values = list(values)
    mean = sum(values) / len(values)
    return min(values) + TIE_BREAK * mean if select == "worst" else mean


def score_name(metric: str, combination: Iterable[str]) -> str:
    """Return the name of the metric of a combination of modalities in logs, such as "mIoU(rgb+depth)"."""
    return f"{metric}({'+'.join(combination)})"


def selection_of(value: Any) -> Selection:
    """Read a recipe's key `select`.

    Args:
        value: One of `SELECTIONS`, or a mapping of "by", one of them, and "every"; None for the defaults. A checkpoint
            has "select" in place of "by".

    Raises:
        ValueError: If it is neither, or a value is outside its range; the message names key, value and choices.
    """
    if value is None or isinstance(value, str):
        return Selection() if value is None else Selection(value)
    if not isinstance(value, Mapping):
        raise ValueError(f"select={value!r} must be {', '.join(SELECTIONS)}, or a mapping like {{by: mean, every: 5}}")
    refuse_unknown_keys(value, ("by", "every", "select"))
    return Selection(**{"select" if key == "by" else key: item for key, item in value.items()})
