"""The few block-DCT coefficients that the frequency metrics read, and nothing else of the transform."""

from __future__ import annotations

from contextlib import contextmanager
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F


@lru_cache(maxsize=16)
def corner_basis(patch: int, band: int) -> Tensor:
    """Build the 2-D orthonormal DCT-II basis images of the two opposite corners of a patch.

    With u the vertical and v the horizontal frequency, the first `band`² images are the low corner (u, v < band) in
    row order; the others are the high corner flipped on both axes, so image `band² + k` holds the coefficient
    (patch − 1 − u, patch − 1 − v) that Eq. 4 pairs with the low coefficient (u, v) of image k.

    Args:
        patch: Side of a patch in pixels.
        band: Side of each corner block in coefficients, at most half of `patch`.

    Returns:
        Shape (2·band², patch, patch), float64, on the CPU. Shared between calls: do not write to it.

    Raises:
        ValueError: If the two corners would overlap or are empty.
    """
    if not 1 <= band <= patch // 2:
        raise ValueError(f"band={band} must lie in 1..{patch // 2} (half of patch={patch})")
    n = torch.arange(patch, dtype=torch.float64)
    cosines = torch.cos(torch.pi * (2 * n + 1) * n[:, None] / (2 * patch)) * (2 / patch) ** 0.5
    cosines[0] /= 2**0.5
    low = cosines[:band]
    high = cosines.flip(0)[:band]
    return torch.cat([torch.einsum("ux,vy->uvxy", rows, rows).flatten(0, 1) for rows in (low, high)])


@contextmanager
def full_precision(device: torch.device):
    """Run what is inside without autocast and without TF32: both move the metric by per cents."""
    cudnn = torch.backends.cudnn
    with torch.autocast(device.type, enabled=False):
        if device.type != "cuda":
            yield
            return
        with cudnn.flags(cudnn.enabled, cudnn.benchmark, deterministic=cudnn.deterministic, allow_tf32=False):
            yield


def pixel_scale(images: Tensor) -> float:
    """Return the factor that brings the pixels of a tensor to [0, 1]: 1/255 for uint8, 1 for floats.

    Raises:
        TypeError: If `images` is neither uint8 nor floating point.
    """
    if images.dtype == torch.uint8:
        return 1 / 255
    if images.is_floating_point():
        return 1.0
    raise TypeError(f"images must be uint8 or floating point in [0, 1], got {images.dtype}")


def block_dct_corners(images: Tensor, patch: int, band: int) -> tuple[Tensor, Tensor]:
    """Compute the low and the flipped high DCT corner of every whole patch in float32.

    One strided convolution with the 2·band² basis images is exact and touches each pixel once. It runs a group a
    channel, so that a slice of a stacked image is read in place.

    Args:
        images: Shape (B, C, H, W), uint8 or float in [0, 1].
        patch: Side of a patch in pixels. Rows and columns that fill no patch are left out.
        band: Side of a corner block in coefficients.

    Returns:
        `low` and `high`, each of shape (B, C, band², H // patch, W // patch), float32, on the device of `images`.
        `high[:, :, k]` is the coefficient that Eq. 4 divides `low[:, :, k]` by.
    """
    batch, channels, height, width = images.shape
    basis = (corner_basis(patch, band) * pixel_scale(images)).to(images.device, torch.float32)
    basis = basis[:, None].repeat(channels, 1, 1, 1)
    # On a CPU, image by image: what has to be converted to float32 then fits the cache.
    parts = images.split(1) if images.device.type == "cpu" else [images]
    with full_precision(images.device):
        corners = torch.cat([F.conv2d(part.to(torch.float32), basis, stride=patch, groups=channels) for part in parts])
    corners = corners.reshape(batch, channels, 2 * band**2, height // patch, width // patch)
    return corners.chunk(2, dim=2)


def split_patches(images: Tensor, patch: int) -> Tensor:
    """View images of shape (B, C, H, W) as whole patches, shape (B, C, H // patch, W // patch, patch, patch)."""
    height, width = (side // patch * patch for side in images.shape[-2:])
    blocks = images[..., :height, :width].unflatten(-1, (-1, patch)).unflatten(-3, (-1, patch))
    return blocks.transpose(-3, -2)
