"""MWAM's parameters, with the paper's values as defaults."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from typing import Any, TypeVar

from mwam_det.core.checks import is_finite_number
from mwam_det.core.frequency import LAYOUTS, PIXELS, check_rule

SettingsT = TypeVar("SettingsT", bound="Settings")


def refuse_unknown_keys(given: Iterable[str], known: Iterable[str]) -> None:
    """Check that every given key is a known one.

    Raises:
        ValueError: At the first unknown key; the message names the nearest known one, or all of them.
    """
    known = list(known)
    for key in given:
        if key not in known:
            raise ValueError(f"unknown key '{key}': {suggestion(str(key), known)}")


def suggestion(name: str, known: Sequence[str]) -> str:
    """Suggest the known name nearest to an unknown one, or all of them."""
    near = get_close_matches(name, known, n=1)
    return f"did you mean '{near[0]}'?" if near else f"choose from {', '.join(known)}"


def has_begun(start: float, epoch: int, epochs: int) -> bool:
    """Return whether what begins after a share of the training acts in an epoch: at the latest in the last one.

    Args:
        start: The share, in [0, 1).
        epoch: The epoch, from 0; before it, -1.
        epochs: Number of epochs.
    """
    return epoch / epochs >= start or epoch == epochs - 1


@dataclass(frozen=True)
class Settings:
    """Base of the dataclasses of settings: built from a mapping, such as a section of a recipe."""

    @classmethod
    def from_dict(cls: type[SettingsT], values: Mapping[str, Any]) -> SettingsT:
        """Build the settings from a mapping; fields it leaves out keep their defaults.

        Raises:
            ValueError: If a key is unknown (the nearest known one is named) or a value is outside its range.
        """
        refuse_unknown_keys(values, [field.name for field in fields(cls)])
        return cls(**values)


@dataclass(frozen=True)
class MWAMConfig(Settings):
    """Everything that shapes the weights, checked when built. `MWAMConfig()` follows the paper.

    Args:
        patch: p, side of a DCT patch, in pixels.
        band: q, side of the low and of the high corner block, in coefficients.
        sigma: σ, keeps a ratio finite where the high coefficient is 0 (Eq. 4, 6).
        omega: ω, weight of the past in the FRM bank (Eq. 2), in [0, 1).
        alpha: α, the largest weight (Eq. 5).
        beta: β; α − β is the smallest weight (Eq. 5), and 0 gives every modality the weight α.
        lam: λ, steepness of the weight in the share (Eq. 5).
        gamma: γ, the share at which the weight is halfway (Eq. 5).
        ignore: "joint_flat" leaves out patches that are flat in every modality (padding); None counts every patch, as
            the paper does.
        pixels: How a pixel x in 0 to 255 is read: "unit", x / 255; "signed", (x − 127.5) / 128, which is what the
            published code feeds its networks. Black is then as far from 0 as white, so padding counts.
        normalize: None for the paper's weights, "mean" to divide the weights of a step by their mean.
        rule: How preference is measured, see `mwam_det.core.frequency.modality_preference`. "frequency_ratio" is FRM.
        align: "patch" or "map", how FRM pairs low with high coefficients, see `frequency_ratio_metric`.
        layout: Axes of the inputs: "image", "volume", "slices" or "video", see `frequency_ratio_metric`.
        mode: What the weights multiply: "gradient", every gradient that reaches a stream; "update", the optimizer's
            step of a stream; "auto", "gradient" where it is exact (SGD), otherwise "update"; "loss", the loss of an
            auxiliary head on each stream (Eq. 7); "hybrid", "loss" and "auto" together; "observe", nothing: preference
            is only measured and recorded.
        preference: Source of the preference: "frequency", every mini-batch by `rule` (the paper); "measured", what the
            host passes to `MWAM.measure`: how much the model depends on each modality.
        bank_start: "first" starts the bank at the first FRM (Eq. 2), "zero" at 0, so that it holds (1 − ω)·F⁰ after
            the first mini-batch.
        share_of: What is divided by the mean of the banks: "bank", the banked FRM of a modality (Algorithm 1);
            "batch", its FRM in the mini-batch.
        scaling: "fixed" uses lam and gamma as given, "adaptive" derives both from the spread of the shares, see
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
            raise ValueError(f"beta={self.beta} must lie in 0..alpha={self.alpha}: weights must not be negative")
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
        """Return the settings of the authors' published code, where it differs from the paper.

        γ = 1 and λ = 10 instead of 0.7 and 6; the bank starts at (1 − ω)·F⁰ instead of F⁰; T is the FRM of the
        mini-batch over the mean of the banks instead of banked over banked; every patch counts, padding included; and
        pixels are read as the network sees them, from −1 to 1. The rounding of its float32 transform is not
        reproduced. For its training see the recipe cfg/hosts/casia_surf_published.yaml.
        """
        return cls(gamma=1.0, lam=10.0, bank_start="zero", share_of="batch", ignore=None, pixels="signed")

    @classmethod
    def small_batch(cls) -> MWAMConfig:
        """Return the paper's settings for small mini-batches and online learning: γ = 1 and λ = 4 (Table 10)."""
        return cls(gamma=1.0, lam=4.0)

    def to_dict(self) -> dict[str, Any]:
        """Return all values as a plain dictionary that `from_dict` accepts."""
        return asdict(self)


def mwam_config(value: Any) -> MWAMConfig | None:
    """Read the argument `mwam`.

    Args:
        value: True or {} for the paper's MWAM, False for none, or a mapping of `MWAMConfig` fields.

    Returns:
        The configuration, or None for a training without MWAM.

    Raises:
        ValueError: If it is anything else, or a key or value in it is invalid.
    """
    if value is False:
        return None
    if value is True:
        return MWAMConfig()
    if isinstance(value, Mapping):
        return MWAMConfig.from_dict(value)
    raise ValueError(f"mwam={value!r} must be true, false or a mapping of MWAM's parameters")
