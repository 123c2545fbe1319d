"""How strongly a network prefers a modality, read from its frequencies (Section 4.2 of the paper)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from mwam_det.core.dct import block_dct_corners, corner_basis, pixel_scale, split_patches

FLAT_TOLERANCE = 1e-6
"""Largest max − min of a patch, in pixels of [0, 1], that still counts as flat. uint8 input is compared exactly."""

ILL_CONDITIONED = 100
"""A ratio is recomputed in double precision where |high + σ| is below this many σ."""


@torch.no_grad()
def frequency_ratio_metric(
    images: Tensor, *, patch: int = 8, band: int = 2, sigma: float = 1e-6, ignore: Tensor | None = None
) -> Tensor:
    """Measure how much low-frequency energy one modality carries over its high frequencies (FRM, Eq. 4).

    FRM = Σ |low / (high + σ)| over the `band`×`band` corners of the orthonormal DCT-II of every `patch`×`patch` patch,
    summed over patches and averaged over channels and images, so that a 1-channel and a 3-channel modality and batches
    of any size are comparable. The high corner is flipped on both axes inside its patch (Fig. 2).

    The sum is governed by the few ratios whose denominator is nearly 0. There, float32 rounding is of the size of σ:
    on real infrared images a plain float32 convolution is off by more than 20 %. Those few patches are therefore read
    again in double precision. uint8 images keep every digit; float images are as exact as their own rounding allows.

    Args:
        images: One modality of a mini-batch, shape (B, C, H, W), uint8 or any float dtype in [0, 1].
        patch: Side p of a DCT patch, in pixels. Rows and columns that fill no patch are left out.
        band: Side q of the low and of the high corner block, in coefficients, at most patch / 2.
        sigma: σ, keeps a ratio finite where the high coefficient is 0.
        ignore: Patches to leave out, shape (B, H // patch, W // patch), bool. See `joint_flat_patches`.

    Returns:
        Scalar float32 on the device of `images`, without gradient. 0 for a modality that is 0 everywhere, NaN or Inf
        if `images` holds one.

    Raises:
        TypeError: If `images` is neither uint8 nor floating point.
        ValueError: If `images` is not 4-D or empty, no whole patch fits, or `band` exceeds patch / 2.
    """
    check_images(images, patch)
    low, high = block_dct_corners(images, patch, band)
    ratio = (low / (high + sigma)).abs().sum(2)
    ill = ((high + sigma).abs() < ILL_CONDITIONED * sigma).any(2)
    if ignore is not None:
        ratio = ratio.masked_fill(ignore[:, None], 0)
        ill &= ~ignore[:, None]
    if ill.any():
        ratio[ill] = _double_precision_ratio(split_patches(images, patch)[ill], patch, band, sigma).to(ratio)
    return ratio.sum() / (images.shape[0] * images.shape[1])


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
    flat = [_flat_patches(images, patch).to(modalities[0].device) for images in modalities]
    return torch.stack(flat).all(0)


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


def _flat_patches(images: Tensor, patch: int) -> Tensor:
    height, width = (side // patch * patch for side in images.shape[-2:])
    rows = images[..., :height, :width].unflatten(-1, (-1, patch))
    highest = rows.amax(-1).unflatten(-2, (-1, patch)).amax(-2)
    lowest = rows.amin(-1).unflatten(-2, (-1, patch)).amin(-2)
    return ((highest - lowest) * pixel_scale(images) <= FLAT_TOLERANCE).all(1)


def _double_precision_ratio(patches: Tensor, patch: int, band: int, sigma: float) -> Tensor:
    """Return Σ |low / (high + σ)| of single patches, shape (N, patch, patch) → (N,), computed in float64."""
    if patches.device.type == "mps":  # has no float64
        patches = patches.cpu()
    basis = corner_basis(patch, band).to(patches.device) * pixel_scale(patches)
    low, high = torch.einsum("nxy,kxy->nk", patches.double(), basis).chunk(2, dim=1)
    return (low / (high + sigma)).abs().sum(1)
