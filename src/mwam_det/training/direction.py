"""Does the modality that MWAM holds back agree with the one that the model depends on?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CLEAR_SHARE = 0.05
"""Shares T closer to each other than this show no preference."""

CLEAR_METRIC = 0.02
"""Metrics closer to each other than this show no dependence."""

LASTING = 3
"""Number of consecutive contradictions before the warning."""


def contradiction(shares: Mapping[str, float], alone: Mapping[str, float]) -> tuple[str, str] | None:
    """Compare which modality is measured to be preferred with which one the model depends on.

    Args:
        shares: T of every modality (Eq. 6); the largest marks the preferred one, whose gradient is reduced.
        alone: A metric in [0, 1] with each modality alone; the largest marks the one that the model depends on.

    Returns:
        The preferred modality and the one depended on, if they differ and both are clear; else None.
    """
    preferred, depended = max(shares, key=shares.__getitem__), max(alone, key=alone.__getitem__)
    clear = (
        shares[preferred] - shares[depended] > CLEAR_SHARE and alone[depended] - alone[preferred] > CLEAR_METRIC
    )  # also False where a share is NaN
    return (preferred, depended) if clear else None


def explain(shares: Mapping[str, float], alone: Mapping[str, float], metric: str = "mAP50") -> str | None:
    """Describe a contradiction, with both figures and a remedy; None without a contradiction."""
    found = contradiction(shares, alone)
    if found is None:
        return None
    preferred, depended = found
    return (
        f"MWAM measures {preferred} as the preferred modality (share T {shares[preferred]:.2f}, {depended} "
        f"{shares[depended]:.2f}), but alone the model does better with {depended} ({metric} {alone[depended]:.3f}, "
        f"{preferred} {alone[preferred]:.3f}): weights by it hold back the stream that it depends on less. "
        "Try mwam.rule=ac_ratio or mwam.preference=measured"
    )


class DirectionCheck:
    """Warn once when a contradiction lasts."""

    def __init__(self) -> None:
        self._row = 0
        self._warned = False

    def update(self, shares: Mapping[str, float], alone: Mapping[str, float], metric: str = "mAP50") -> str | None:
        """Take one validation, as `explain` does; return the warning at the third contradiction in a row."""
        self._row = self._row + 1 if contradiction(shares, alone) else 0
        if self._warned or self._row < LASTING:
            return None
        self._warned = True
        return f"{explain(shares, alone, metric)} ({LASTING} validations in a row)"

    def state_dict(self) -> dict[str, Any]:
        """Return the length of the current contradiction and whether it was warned of, as plain values."""
        return {"row": self._row, "said": self._warned}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned."""
        self._row, self._warned = state["row"], state["said"]
