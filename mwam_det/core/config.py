"""MWAM's parameters, with the paper's values as defaults."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from numbers import Real
from typing import Any


def refuse_unknown_keys(given: Iterable[str], known: Iterable[str]) -> None:
    """Check that every given key is a known one.

    Raises:
        ValueError: At the first unknown key; the message names the nearest known one, or all of them.
    """
    known = list(known)
    for key in given:
        if key not in known:
            near = get_close_matches(str(key), known, n=1)
            raise ValueError(
                f"unknown key '{key}': " + (f"did you mean '{near[0]}'?" if near else f"choose from {', '.join(known)}")
            )


@dataclass(frozen=True)
class MWAMConfig:
    """Everything that shapes the weights, checked when built. `MWAMConfig()` is the paper.

    Args:
        patch: p, side of a DCT patch, in pixels.
        band: q, side of the low and of the high corner block, in coefficients.
        sigma: σ, keeps a ratio finite where the high coefficient is 0 (Eq. 4, 6).
        omega: ω, weight of the past in the FRM bank (Eq. 2), in [0, 1).
        alpha: α, the largest weight (Eq. 5).
        beta: β, so that α − β is the smallest weight (Eq. 5); 0 gives every modality the weight α.
        lam: λ, steepness of the weight in the share (Eq. 5).
        gamma: γ, the share at which the weight is halfway (Eq. 5).
        ignore: "joint_flat" leaves out patches that are flat in every modality (padding); None counts every patch, the
            literal paper.
        normalize: None for the paper's weights, "mean" to divide the weights of a step by their mean.

    Raises:
        ValueError: If a value is outside its range; the message names key, value and choices.
    """

    patch: int = 8
    band: int = 2
    sigma: float = 1e-6
    omega: float = 0.5
    alpha: float = 1.5
    beta: float = 1.0
    lam: float = 6.0
    gamma: float = 0.7
    ignore: str | None = "joint_flat"
    normalize: str | None = None

    def __post_init__(self):
        for key in ("patch", "band"):
            if isinstance(value := getattr(self, key), bool) or not isinstance(value, int):
                raise ValueError(f"{key}={value!r} must be a whole number")
        for key in ("sigma", "omega", "alpha", "beta", "lam", "gamma"):
            if isinstance(value := getattr(self, key), bool) or not isinstance(value, Real):
                raise ValueError(f"{key}={value!r} must be a number")
        if self.patch < 2:
            raise ValueError(f"patch={self.patch} must be at least 2")
        if not 1 <= self.band <= self.patch // 2:
            raise ValueError(f"band={self.band} must lie in 1..{self.patch // 2} (half of patch={self.patch})")
        if not self.sigma > 0:
            raise ValueError(f"sigma={self.sigma} must be above 0")
        if not 0 <= self.omega < 1:
            raise ValueError(f"omega={self.omega} must lie in [0, 1)")
        if not 0 <= self.beta <= self.alpha:
            raise ValueError(f"beta={self.beta} must lie in 0..alpha={self.alpha}: a weight may not fall below 0")
        if self.ignore not in (None, "joint_flat"):
            raise ValueError(f"ignore={self.ignore!r} must be 'joint_flat' or null")
        if self.normalize not in (None, "mean"):
            raise ValueError(f"normalize={self.normalize!r} must be 'mean' or null")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MWAMConfig:
        """Build a configuration from a mapping; what it does not name keeps its default.

        Raises:
            ValueError: If a key is unknown (the nearest known one is named) or a value is outside its range.
        """
        refuse_unknown_keys(values, [field.name for field in fields(cls)])
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return all values as a plain dictionary that `from_dict` takes back."""
        return asdict(self)
