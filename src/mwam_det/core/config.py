"""MWAM's parameters, with the paper's values as defaults."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from typing import Any, TypeVar

from mwam_det.core.checks import is_finite_number
from mwam_det.core.frequency import LAYOUTS, PIXELS, check_rule

Own = TypeVar("Own", bound="Settings")


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
class Settings:
    """What dataclasses of settings share: they can be read from a mapping, such as a section of a recipe."""

    @classmethod
    def from_dict(cls: type[Own], values: Mapping[str, Any]) -> Own:
        """Build the settings from a mapping; what it does not name keeps its default.

        Raises:
            ValueError: If a key is unknown (the nearest known one is named) or a value is outside its range.
        """
        refuse_unknown_keys(values, [field.name for field in fields(cls)])
        return cls(**values)


@dataclass(frozen=True)
class MWAMConfig(Settings):
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
        pixels: What a pixel x of 0 to 255 is read as: "unit", x / 255; "signed", (x − 127.5) / 128, which is what the
            published code feeds its networks. Black is then as far from 0 as white, and counts like any padding.
        normalize: None for the paper's weights, "mean" to divide the weights of a step by their mean.
        rule: What measures preference, see `mwam_det.core.frequency.modality_preference`. "frequency_ratio" is FRM.
        align: "patch" or "map", how FRM pairs low with high coefficients, see `frequency_ratio_metric`.
        layout: What the axes of the inputs are: "image", "volume", "slices" or "video", see `frequency_ratio_metric`.
        mode: What the weights multiply: "gradient", every gradient that reaches a stream; "update", the optimizer's
            step of a stream; "auto", the first where it is exact (SGD) and else the second; "loss", the loss of an
            auxiliary head on each stream (Eq. 7); "hybrid", "loss" and "auto" together; "observe", nothing: preference
            is measured and recorded alone.
        preference: Where preference is read from: "frequency", every mini-batch by `rule` (the paper); "measured", what
            the host passes to `MWAM.measure`: how much the model depends on each modality.
        bank_start: "first" lets the bank start at the first FRM (Eq. 2), "zero" at 0, so that it holds (1 − ω)·F⁰ after
            the first mini-batch.
        share_of: "bank" relates the banked FRM of a modality to the mean of the banks (Algorithm 1), "batch" the FRM of
            the mini-batch.
        scaling: "fixed" takes lam and gamma as they are, "adaptive" lets both follow the spread of the shares, see
            `mwam_det.core.allocation.adaptive_scale`.

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
    pixels: str = "unit"
    normalize: str | None = None
    rule: str = "frequency_ratio"
    align: str = "patch"
    layout: str = "image"
    mode: str = "gradient"
    preference: str = "frequency"
    bank_start: str = "first"
    share_of: str = "bank"
    scaling: str = "fixed"

    def __post_init__(self) -> None:
        for key in ("patch", "band"):
            if isinstance(value := getattr(self, key), bool) or not isinstance(value, int):
                raise ValueError(f"{key}={value!r} must be a whole number")
        for key in ("sigma", "omega", "alpha", "beta", "lam", "gamma"):
            if not is_finite_number(value := getattr(self, key)):
                raise ValueError(f"{key}={value!r} must be a finite number")
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
        check_rule(self.rule, self.align, self.band)
        choices = {
            "layout": LAYOUTS,
            "ignore": ("joint_flat", None),
            "pixels": PIXELS,
            "normalize": ("mean", None),
            "mode": ("gradient", "update", "auto", "loss", "hybrid", "observe"),
            "preference": ("frequency", "measured"),
            "bank_start": ("first", "zero"),
            "share_of": ("bank", "batch"),
            "scaling": ("fixed", "adaptive"),
        }
        for key, values in choices.items():
            if (value := getattr(self, key)) not in values:
                names = " or ".join("null" if choice is None else f"'{choice}'" for choice in values)
                raise ValueError(f"{key}={value!r} must be {names}")

    @classmethod
    def published_code(cls) -> MWAMConfig:
        """Return the arithmetic of the authors' published code, where it differs from the paper.

        γ = 1 and λ = 10 instead of 0.7 and 6; the bank starts at (1 − ω)·F⁰ instead of F⁰; T is the FRM of the
        mini-batch over the mean of the banks instead of banked over banked; every patch counts, padding included; and
        pixels are read as the network sees them, from −1 to 1. What it does not take over is the rounding of a float32
        transform. The training around it is the recipe cfg/hosts/casia_surf_published.yaml.
        """
        return cls(gamma=1.0, lam=10.0, bank_start="zero", share_of="batch", ignore=None, pixels="signed")

    @classmethod
    def small_batch(cls) -> MWAMConfig:
        """Return the paper's setting for small mini-batches and online learning: γ = 1 and λ = 4 (Table 10)."""
        return cls(gamma=1.0, lam=4.0)

    def to_dict(self) -> dict[str, Any]:
        """Return all values as a plain dictionary that `from_dict` takes back."""
        return asdict(self)


def mwam_config(value: Any) -> MWAMConfig | None:
    """Read the argument `mwam`.

    Args:
        value: True or {} for the paper's MWAM, False for none, or a mapping with values of `MWAMConfig`.

    Returns:
        The configuration, or None for a training without MWAM.

    Raises:
        ValueError: If the value or a key in it is not one of these.
    """
    if value is False:
        return None
    if value is True:
        return MWAMConfig()
    if isinstance(value, Mapping):
        return MWAMConfig.from_dict(value)
    raise ValueError(f"mwam={value!r} must be true, false or a mapping of MWAM's parameters")
