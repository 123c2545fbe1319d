"""From the banked FRM of all modalities to the weight of each (Eq. 5 and 6)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

SMALLEST_SPREAD = 0.1
"""Shares closer to their mean than this count as nearly equal: adaptive scaling does not stretch them further."""


def share(frm: Tensor, *, sigma: float = 1e-6, mean_of: Tensor | None = None) -> Tensor:
    """Relate the FRM of every modality to the mean over modalities: T = F / (mean(F) + σ) (Eq. 6).

    Args:
        frm: Banked FRM, shape (M,), float, at least 0.
        sigma: σ of Eq. 6.
        mean_of: Values whose mean is taken, shape (M,); `frm` if left out.

    Returns:
        T, shape (M,), above 1 for a preferred modality; in [0, M] if `mean_of` is left out.
    """
    return frm / ((frm if mean_of is None else mean_of).mean() + sigma)


def weight(share: Tensor, *, alpha: float = 1.5, beta: float = 1.0, lam: float = 6.0, gamma: float = 0.7) -> Tensor:
    """Turn shares into weights: K = α − β / (1 + exp(−λ(T − γ))) (Eq. 5).

    Args:
        share: T, any shape.
        alpha: α, the largest weight.
        beta: β; α − β is the smallest weight.
        lam: λ, steepness.
        gamma: γ, the share at which the weight is halfway.

    Returns:
        K in (α − β, α), the shape of `share`; falling in T. With M = 2, equal FRMs and the defaults K ≈ 0.642 for both.
    """
    return alpha - beta * torch.sigmoid(lam * (share - gamma))


def adaptive_scale(share: Tensor) -> tuple[float, float]:
    """Choose λ and γ of Eq. 5 from the spread of the shares, so that the weights use their range without tuning.

    γ = 1, the mean of T, and λ = ln 19 / max(maxₘ |Tₘ − 1|, 0.1): the modality farthest from the mean moves 95 % of
    the way to an end of the range of K, the others in proportion, for any rule and number of modalities. Not in the
    paper, which leaves it open (A.14).

    Args:
        share: T of all modalities, shape (M,).

    Returns:
        λ and γ.
    """
    spread = (share - 1).abs().max().item()
    return math.log(19) / max(spread, SMALLEST_SPREAD), 1.0


def allocate_weights(
    frm: Tensor,
    *,
    alpha: float = 1.5,
    beta: float = 1.0,
    lam: float = 6.0,
    gamma: float = 0.7,
    sigma: float = 1e-6,
    normalize: str | None = None,
    mean_of: Tensor | None = None,
    scaling: str = "fixed",
) -> Tensor:
    """Allocate the weight of each modality, inversely to its share of the FRM (Eq. 5 of Eq. 6).

    Args:
        frm: Banked FRM of all modalities, shape (M,), float, at least 0.
        alpha: α of Eq. 5.
        beta: β of Eq. 5.
        lam: λ of Eq. 5.
        gamma: γ of Eq. 5.
        sigma: σ of Eq. 6.
        normalize: None for the paper's weights, "mean" to divide them by their mean (not in the paper).
        mean_of: Values whose mean Eq. 6 uses, shape (M,); `frm` if left out.
        scaling: "fixed" for λ and γ as given, "adaptive" to derive them from the shares, see `adaptive_scale`.

    Returns:
        K, shape (M,), dtype and device of `frm`.

    Raises:
        ValueError: If `frm` is not one-dimensional or is empty, or `normalize` or `scaling` is unknown.
    """
    if frm.ndim != 1 or not len(frm):
        raise ValueError(f"frm must have shape (M,) with M ≥ 1, got {tuple(frm.shape)}")
    if normalize not in (None, "mean"):
        raise ValueError(f"normalize={normalize!r} must be None or 'mean'")
    if scaling not in ("fixed", "adaptive"):
        raise ValueError(f"scaling={scaling!r} must be 'fixed' or 'adaptive'")
    shares = share(frm, sigma=sigma, mean_of=mean_of)
    if scaling == "adaptive":
        lam, gamma = adaptive_scale(shares)
    weights = weight(shares, alpha=alpha, beta=beta, lam=lam, gamma=gamma)
    return weights / weights.mean() if normalize == "mean" else weights
