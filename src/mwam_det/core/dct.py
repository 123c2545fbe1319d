"""The few block-DCT coefficients that the frequency metrics need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, reduce
from operator import add

import torch
from torch import Tensor
from torch.nn import functional as F


def corner_basis(patch: int, band: int, dims: int = 2) -> Tensor:
    """Build the orthonormal DCT-II basis images of the two opposite corners of a patch.

    In 2-D, with u the vertical and v the horizontal frequency, the first `band`² images are the low corner
    (u, v < band) in row order; the others are the high corner flipped on both axes, so image `band² + k` holds the
    coefficient (patch − 1 − u, patch − 1 − v) that Eq. 4 pairs with the low coefficient (u, v) of image k. In 3-D
    likewise, on three axes.

    Args:
        patch: Side of a patch in pixels.
        band: Side of each corner block in coefficients, at most half of `patch`.
        dims: Number of axes of a patch.

    Returns:
        Shape (2·band^dims, patch, …, patch), float64, on the CPU.

    Raises:
        ValueError: If the two corners would overlap or are empty.
    """
    if not 1 <= band <= patch // 2:
        raise ValueError(f"band={band} must lie in 1..{patch // 2} (half of patch={patch})")
    n = torch.arange(patch, dtype=torch.float64)
    cosines = torch.cos(torch.pi * (2 * n + 1) * n[:, None] / (2 * patch)) * (2 / patch) ** 0.5
    cosines[0] /= 2**0.5
    # Row k of a Kronecker product of bases is the basis image of the k-th combination of their frequencies.
    corners = [reduce(torch.kron, [rows] * dims) for rows in (cosines[:band], cosines.flip(0)[:band])]
    return torch.unflatten(torch.cat(corners), 1, (patch,) * dims)


def scaled_basis(images: Tensor, patch: int, band: int, dims: int, dtype: torch.dtype) -> Tensor:
    """Return `corner_basis`, scaled for the pixels of `images` as stored, on their device. Do not write to it."""
    # A compiled graph cannot hold a cache; there the basis becomes part of the graph.
    build = _scaled_basis.__wrapped__ if torch.compiler.is_compiling() else _scaled_basis
    return build(patch, band, dims, pixel_scale(images), images.device, dtype)


@lru_cache(maxsize=16)
def _scaled_basis(patch: int, band: int, dims: int, scale: float, device: torch.device, dtype: torch.dtype) -> Tensor:
    return (corner_basis(patch, band, dims) * scale).to(device, dtype)


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Disable autocast and TF32 inside the block: each changes the metric by several per cent."""
    cudnn = torch.backends.cudnn
    with torch.autocast(device.type, enabled=False):
        if device.type != "cuda":
            yield
            return
        with cudnn.flags(cudnn.enabled, cudnn.benchmark, deterministic=cudnn.deterministic, allow_tf32=False):
            yield


def pixel_scale(images: Tensor) -> float:
    """Return the factor that scales the pixels of a tensor to [0, 1]: 1/255 for uint8, 1 for floats.

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

    One strided convolution with the 2·band² (volumes: 2·band³) basis images is exact and touches each pixel once.

    Args:
        images: Shape (B, C, H, W), or (B, C, D, H, W) for cubic patches of volumes, uint8 or float in [0, 1].
        patch: Side of a patch in pixels. A remainder at the end of an axis is left out.
        band: Side of a corner block in coefficients.

    Returns:
        `low` and `high`, each of shape (B, C, band², H // patch, W // patch), or with volumes
        (B, C, band³, D // patch, H // patch, W // patch), float32, on the device of `images`. `high[:, :, k]` is the
        coefficient that Eq. 4 divides `low[:, :, k]` by.
    """
    dims = images.ndim - 2
    weight = scaled_basis(images, patch, band, dims, torch.float32)[:, None]
    # Channels become images of one channel. That is a view of a slice of a stacked image too, if it is one image.
    planes = images.flatten(0, 1)[:, None].to(torch.float32)
    convolve = F.conv2d if dims == 2 else F.conv3d
    with full_precision(images.device):
        corners = convolve(planes, weight, stride=patch)
    low, high = torch.unflatten(corners, 0, images.shape[:2]).chunk(2, dim=2)
    return low, high


def split_patches(images: Tensor, patch: int, dims: int = 2) -> Tensor:
    """View the last `dims` axes as whole patches: (…, H, W) → (…, H // patch, W // patch, patch, patch)."""
    for axis in range(images.ndim - dims, images.ndim):
        images = images.unfold(axis, patch, patch)  # appends an axis with the pixels of each patch
    return images


def take_patches(images: Tensor, places: tuple[Tensor, ...], patch: int) -> Tensor:
    """Copy a few patches: `split_patches(images, patch, dims)[places]` in a quarter of the time.

    Each row of pixels is copied in one piece, wherever it lies in memory.

    Args:
        images: Shape (B, C, H, W), or (B, C, D, H, W), with any strides.
        places: Image, channel and grid position of each patch, as `nonzero(as_tuple=True)` returns them.
        patch: Side of a patch in pixels.

    Returns:
        Shape (N, patch, …, patch), dtype of `images`.
    """
    strides = images.stride()
    steps = (*strides[:2], *(patch * stride for stride in strides[2:]))
    starts = reduce(add, (place * step for place, step in zip(places, steps, strict=True)))
    inside = torch.arange(patch, device=images.device)
    for stride in strides[2:-1]:
        starts = starts[..., None] + inside * stride
    reach = 1 + sum((side - 1) * stride for side, stride in zip(images.shape, strides, strict=True))
    rows = images.as_strided((reach - (patch - 1) * strides[-1], patch), (1, strides[-1]))
    return torch.unflatten(rows.index_select(0, starts.flatten()), 0, starts.shape)
