"""The FRM bank: a running average of the metric over mini-batches."""

from __future__ import annotations

import math
from collections.abc import Mapping


class FRMBank:
    """Exponential average of the FRM of every modality (Eq. 2).

    F̂⁰ = F⁰ and F̂ʲ = ω·F̂ʲ⁻¹ + (1 − ω)·Fʲ. A modality missing from an update keeps its value. The bank is identical
    on all ranks as long as its updates are (`MWAM` averages over ranks first).

    Args:
        omega: ω, the weight of the past, in [0, 1).
        start: "first" for F̂⁰ = F⁰ (Eq. 2), "zero" for F̂⁰ = (1 − ω)·F⁰ (the published code).

    Raises:
        ValueError: If `omega` lies outside [0, 1) or `start` is unknown.
    """

    def __init__(self, omega: float = 0.5, start: str = "first"):
        if start not in ("first", "zero"):
            raise ValueError(f"start={start!r} must be 'first' or 'zero'")
        if not 0 <= omega < 1:
            raise ValueError(f"omega={omega} must lie in [0, 1)")
        self.omega = omega
        self.start = start
        self.values: dict[str, float] = {}

    def update(self, frm: Mapping[str, float]) -> dict[str, float]:
        """Add the FRM of one mini-batch, by modality, and return the banked values of all modalities seen so far.

        Raises:
            ValueError: If a value is negative or not finite; the bank is then unchanged.
        """
        for name, value in frm.items():
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"the FRM of '{name}' must be finite and at least 0, got {value}")
        for name, value in frm.items():
            past = self.values.get(name, value if self.start == "first" else 0.0)
            self.values[name] = self.omega * past + (1 - self.omega) * value
        return dict(self.values)

    def reset(self) -> None:
        """Forget everything."""
        self.values.clear()

    def state_dict(self) -> dict[str, float]:
        """Return the banked values as plain floats."""
        return dict(self.values)

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Restore what `state_dict` returned."""
        self.values = {str(name): float(value) for name, value in state.items()}
