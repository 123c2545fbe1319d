"""How strongly a network prefers a modality, read from its frequencies (Section 4.2 of the paper)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from mwam_det.core.dct import block_dct_corners, corner_basis, pixel_scale, split_patches

FLAT_TOLERANCE = 1e-6
"""Largest max − min of a patch, in pixels of [0, 1], that still counts as flat. uint8 input is compared exactly."""

ILL_CONDITIONED = 1e-4
"""A ratio is recomputed in double precision where |high + σ| is below this, or below 100 σ: float32 is off by 1e-8."""

RULES = ("frequency_ratio", "low_l1", "sum_l1", "weighted_l1", "ratio_of_sums", "ac_ratio")
ALIGNMENTS = ("patch", "map")

LOW_WEIGHT = 0.9
"""ω of Eq. 28."""


@torch.no_grad()
def frequency_ratio_metric(
    images: Tensor,
    *,
    patch: int = 8,
    band: int = 2,
    sigma: float = 1e-6,
    ignore: Tensor | None = None,
    align: str = "patch",
) -> Tensor:
    """Measure how much low-frequency energy one modality carries over its high frequencies (FRM, Eq. 4).

    FRM = Σ |low / (high + σ)| over the `band`×`band` corners of the orthonormal DCT-II of every `patch`×`patch` patch,
    summed over patches and averaged over channels and images, so that a 1-channel and a 3-channel modality and batches
    of any size are comparable.

    The sum is governed by the few ratios whose denominator is nearly 0. There, float32 rounding is of the size of σ:
    on real infrared images a plain float32 convolution is off by 36 %. Those few patches are therefore read again in
    double precision. uint8 images keep every digit; float images are as exact as their own rounding allows.

    Args:
        images: One modality of a mini-batch, shape (B, C, H, W), uint8 or any float dtype in [0, 1].
        patch: Side p of a DCT patch, in pixels. Rows and columns that fill no patch are left out.
        band: Side q of the low and of the high corner block, in coefficients, at most patch / 2.
        sigma: σ, keeps a ratio finite where the high coefficient is 0.
        ignore: Patches to leave out, shape (B, H // patch, W // patch), bool. See `joint_flat_patches`.
        align: Which high coefficient divides a low one. "patch": the high corner is flipped on both axes inside its
            patch (Fig. 2 and the published code). "map": the whole map of reassembled high corners is flipped (Eq. 4 to
            the letter), which pairs each patch with the one on the opposite side of the image; a pair is left out if
            either patch is.

    Returns:
        Scalar float32 on the device of `images`, without gradient. 0 for a modality that is 0 everywhere, NaN or Inf
        if `images` holds one.

    Raises:
        TypeError: If `images` is neither uint8 nor floating point.
        ValueError: If `images` is not 4-D or empty, no whole patch fits, `band` exceeds patch / 2, or `align` is
            unknown.
    """
    if align not in ALIGNMENTS:
        raise ValueError(f"align={align!r} must be one of {', '.join(ALIGNMENTS)}")
    check_images(images, patch)
    low, high = block_dct_corners(images, patch, band)
    high = _aligned(high, (-2, -1), align)
    ratio = (low / (high + sigma)).abs().sum(2)
    ill = ((high + sigma).abs() < max(ILL_CONDITIONED, 100 * sigma)).any(2)
    if ignore is not None:
        ignore = (ignore | _aligned(ignore, (-2, -1), align))[:, None]
        ratio = ratio.masked_fill(ignore, 0)
        ill &= ~ignore
    if ill.any():
        patches = split_patches(images, patch)
        low_basis, high_basis = corner_basis(patch, band).chunk(2)
        numerator = _in_double_precision(patches[ill], low_basis)
        denominator = _in_double_precision(_aligned(patches, (2, 3), align)[ill], high_basis)
        ratio[ill] = (numerator / (denominator + sigma)).abs().sum(1).to(ratio)
    return ratio.sum() / (images.shape[0] * images.shape[1])


@torch.no_grad()
def modality_preference(
    images: Tensor,
    *,
    rule: str = "frequency_ratio",
    patch: int = 8,
    band: int = 2,
    sigma: float = 1e-6,
    ignore: Tensor | None = None,
    align: str = "patch",
) -> Tensor:
    """Measure how strongly a network will prefer a modality, by one of several rules (Table 8 and two of ours).

    With low and high the corner blocks of all patches, summed over patches and averaged over channels and images:

    - "frequency_ratio": Σ |low / (high + σ)|, the paper's FRM (Eq. 4), see `frequency_ratio_metric`.
    - "low_l1": Σ |low| (Eq. 3).
    - "sum_l1": Σ (|low| + |high|) (Eq. 27).
    - "weighted_l1": Σ (0.9·|low| + 0.1·|high|) (Eq. 28).
    - "ratio_of_sums": Σ |low| / (Σ |high| + σ), not in the paper: no single ratio can govern it.
    - "ac_ratio": the same without the DC coefficient in low, so that brightness does not count. Not in the paper.

    Args:
        images: As in `frequency_ratio_metric`.
        rule: One of the rules above.
        patch: As in `frequency_ratio_metric`.
        band: As in `frequency_ratio_metric`.
        sigma: As in `frequency_ratio_metric`.
        ignore: As in `frequency_ratio_metric`.
        align: As in `frequency_ratio_metric`; for that rule alone, the others do not pair coefficients.

    Returns:
        Scalar float32 on the device of `images`, without gradient.

    Raises:
        TypeError: As in `frequency_ratio_metric`.
        ValueError: As in `frequency_ratio_metric`, or if `rule` is unknown or does not go with `align` or
            `band`.
    """
    check_rule(rule, align, band)
    if rule == "frequency_ratio":
        return frequency_ratio_metric(images, patch=patch, band=band, sigma=sigma, ignore=ignore, align=align)
    check_images(images, patch)
    low, high = (corner.abs() for corner in block_dct_corners(images, patch, band))
    if ignore is not None:
        low, high = (corner.masked_fill(ignore[:, None, None], 0) for corner in (low, high))
    if rule == "ac_ratio":
        low = low[:, :, 1:]
    low, high = low.sum((2, 3, 4)), high.sum((2, 3, 4))
    values = {
        "low_l1": low,
        "sum_l1": low + high,
        "weighted_l1": LOW_WEIGHT * low + (1 - LOW_WEIGHT) * high,
        "ratio_of_sums": low / (high + sigma),
        "ac_ratio": low / (high + sigma),
    }
    return values[rule].mean()


def check_rule(rule: str, align: str, band: int) -> None:
    """Check the name of a rule and that `align` and `band` mean something to it.

    Raises:
        ValueError: If a name is unknown, `align` is not "patch" for a rule that pairs no coefficients, or `band` leaves
            "ac_ratio" without a low coefficient.
    """
    if rule not in RULES:
        raise ValueError(f"rule={rule!r} must be one of {', '.join(RULES)}")
    if align not in ALIGNMENTS:
        raise ValueError(f"align={align!r} must be one of {', '.join(ALIGNMENTS)}")
    if align != "patch" and rule != "frequency_ratio":
        raise ValueError(f"align={align!r} belongs to rule='frequency_ratio': rule={rule!r} pairs no coefficients")
    if rule == "ac_ratio" and band < 2:
        raise ValueError("rule='ac_ratio' needs band of at least 2: with 1, the low corner is the DC coefficient alone")


def joint_flat_patches(modalities: Iterable[Tensor], *, patch: int = 8) -> Tensor | None:
    """Find the patches that are flat (max = min in each channel) in every modality at once.

    Letterbox, mosaic and affine borders are such patches. A flat patch has high = 0 and counts low / σ, hundreds of
    times a patch of content, alike in all modalities, so that counting them makes every weight equal. One that is flat
    in one modality only is a trait of that modality and is not marked.

    Args:
        modalities: Tensors of shape (B, C_m, H, W), uint8 or float in [0, 1]; channel counts may differ.
        patch: Side of a patch in pixels.

    Returns:
        Shape (B, H // patch, W // patch), bool, or None if batch or image sizes differ: no patch is joint then.

    Raises:
        ValueError: If a tensor is not 4-D or empty, or no whole patch fits.
    """
    modalities = list(modalities)
    for images in modalities:
        check_images(images, patch)
    if len({(images.shape[0], *images.shape[-2:]) for images in modalities}) != 1:
        return None
    # Two opposite pixels tell most patches apart; the others are read in full.
    flat = torch.stack([_flat(_opposite_pixels(images, patch), images) for images in modalities]).all(0)
    if flat.any():
        candidates = flat.clone()
        for images in modalities:
            flat[candidates] &= _flat(split_patches(images, patch).transpose(1, 3).transpose(1, 2)[candidates], images)
    return flat


def check_images(images: Tensor, patch: int) -> None:
    """Refuse what no whole patch can be cut from.

    Raises:
        TypeError: If `images` is neither uint8 nor floating point.
        ValueError: If `images` is not 4-D or empty, or no whole patch fits.
    """
    pixel_scale(images)
    if images.ndim != 4 or 0 in images.shape:
        raise ValueError(f"images must have a non-empty shape (B, C, H, W), got {tuple(images.shape)}")
    if min(images.shape[-2:]) < patch:
        height, width = images.shape[-2:]
        raise ValueError(f"no {patch}×{patch} patch fits into an image of {height}×{width} pixels")


def _flat(pixels: Tensor, images: Tensor) -> Tensor:
    """Tell where every channel is flat, shape (..., C, h, w) → (...). `images` is where the pixels come from."""
    spread = pixels.amax((-1, -2)) - pixels.amin((-1, -2))
    return (spread * pixel_scale(images) <= FLAT_TOLERANCE).all(-1)


def _opposite_pixels(images: Tensor, patch: int) -> Tensor:
    """Return the first and the last pixel of every patch, shape (B, h, w, C, 2, 1)."""
    height, width = (side // patch * patch for side in images.shape[-2:])
    first = images[..., :height:patch, :width:patch]
    last = images[..., patch - 1 : height : patch, patch - 1 : width : patch]
    return torch.stack([first, last], -1)[..., None].permute(0, 2, 3, 1, 4, 5)


def _aligned(values: Tensor, dims: tuple[int, int], align: str) -> Tensor:
    """Bring the values of the patches that are divided by to the places of the patches that are divided."""
    return values.flip(dims) if align == "map" else values


def _in_double_precision(patches: Tensor, basis: Tensor) -> Tensor:
    """Project single patches, shape (N, p, p), on K basis images, shape (K, p, p), in float64. Shape (N, K)."""
    if patches.device.type == "mps":  # has no float64
        patches = patches.cpu()
    return torch.einsum("nxy,kxy->nk", patches.double(), basis.to(patches.device) * pixel_scale(patches))
