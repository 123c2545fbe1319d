"""How strongly a network prefers a modality, measured on its frequencies (Section 4.2 of the paper)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import EllipsisType

import torch
from torch import Tensor

from mwam_det.core.dct import block_dct_corners, pixel_scale, scaled_basis, split_patches, take_patches

FLAT_TOLERANCE = 1e-6
"""Largest max − min of a patch, for pixels in [0, 1], that still counts as flat. uint8 input is compared exactly."""

ILL_CONDITIONED = 1e-4
"""Ratios with |high + σ| below this, or below 100 σ, are recomputed in double precision: float32 is off by 1e-8."""

FEW_PATCHES = 4096
"""Up to this many patches, all are measured in double precision. Over more, the rounding of the ratios that
`ILL_CONDITIONED` lets pass averages out, but it shifts the metric of a single patch by up to 2e-4."""

RULES = ("frequency_ratio", "low_l1", "sum_l1", "weighted_l1", "ratio_of_sums", "ac_ratio")
ALIGNMENTS = ("patch", "map")
LAYOUTS = ("image", "volume", "slices", "video")
PIXELS = ("unit", "signed")
SHAPES = {
    "image": "(B, C, H, W)",
    "volume": "(B, C, D, H, W)",
    "slices": "(B, C, D, H, W)",
    "video": "(B, T, C, H, W)",
}

PIECE_PIXELS = 2**22
"""On a CPU, tensors are measured in pieces of about this many pixels. Smaller ones would stay in the cache, but that
saves nothing on one thread and costs half as much again on two, where threads then start more often."""

CONVERTED_PIECE_PIXELS = 2**19
"""The same for pixels to be converted to float32, whose 4 bytes each are a large share of a uint8 input."""

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
    layout: str = "image",
) -> Tensor:
    """Measure how much low-frequency energy one modality carries over its high frequencies (FRM, Eq. 4).

    FRM = Σ |low / (high + σ)| over the `band`×`band` corners of the orthonormal DCT-II of every `patch`×`patch` patch,
    summed over patches and averaged over channels and images, so that a 1-channel and a 3-channel modality and batches
    of any size are comparable.

    The sum is dominated by the few ratios whose denominator is nearly 0. There, float32 rounding is as large as σ: on
    real infrared images a plain float32 convolution is off by 36 %. Those few patches are therefore recomputed in
    double precision. uint8 images are exact; float images are as exact as their own rounding allows.

    Args:
        images: One modality of a mini-batch, shape (B, C, H, W) or as `layout` says, uint8 or any float dtype in
            [0, 1].
        patch: Side p of a DCT patch, in pixels. Remaining rows and columns are left out.
        band: Side q of the low and of the high corner block, in coefficients, at most patch / 2.
        sigma: σ, keeps a ratio finite where the high coefficient is 0.
        ignore: Patches to leave out, bool, shape (B, H // patch, W // patch), or as `layout` says. See
            `joint_flat_patches`.
        align: Which high coefficient divides a low one. "patch": the high corner is flipped on both axes inside its
            patch (Fig. 2 and the published code). "map": the whole map of reassembled high corners is flipped (Eq. 4
            taken literally), which pairs each patch with the one on the opposite side of the image; a pair is left out
            if either patch is.
        layout: Axes of `images`.
            "image": (B, C, H, W).
            "volume": (B, C, D, H, W), cut into cubes of `patch`³ for a 3-D DCT with corners of `band`³, the high one
            flipped on all three axes; `ignore` has the shape (B, D // patch, H // patch, W // patch).
            "slices": (B, C, D, H, W), each slice along D an image; `ignore` is (B·D, H // patch, W // patch).
            "video": (B, T, C, H, W), each frame an image; `ignore` is (B·T, H // patch, W // patch).

    Returns:
        Scalar float32 on the device of `images`, without gradient. 0 for a modality that is 0 everywhere, NaN or Inf
        if `images` contains one.

    Raises:
        TypeError: If `images` is neither uint8 nor floating point.
        ValueError: If `images` is empty or not of the shape of its layout, no whole patch fits, `ignore` has another
            shape, `band` exceeds patch / 2, or `align` or `layout` is unknown.
    """
    return modality_preference(images, patch=patch, band=band, sigma=sigma, ignore=ignore, align=align, layout=layout)


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
    layout: str = "image",
) -> Tensor:
    """Measure how strongly a network will prefer a modality by one of several rules (Table 8 and two of our own).

    With low and high the corner blocks of all patches, summed over patches and averaged over channels and images:

    - "frequency_ratio": Σ |low / (high + σ)|, the paper's FRM (Eq. 4), see `frequency_ratio_metric`.
    - "low_l1": Σ |low| (Eq. 3).
    - "sum_l1": Σ (|low| + |high|) (Eq. 27).
    - "weighted_l1": Σ (0.9·|low| + 0.1·|high|) (Eq. 28).
    - "ratio_of_sums": Σ |low| / (Σ |high| + σ), which no single ratio can dominate. Not in the paper.
    - "ac_ratio": the same without the DC coefficient in low, so that brightness does not count. Not in the paper.

    Args:
        images: As in `frequency_ratio_metric`.
        rule: One of the rules above.
        patch: As in `frequency_ratio_metric`.
        band: As in `frequency_ratio_metric`.
        sigma: As in `frequency_ratio_metric`.
        ignore: As in `frequency_ratio_metric`.
        align: As in `frequency_ratio_metric`; only for "frequency_ratio", as the other rules pair no coefficients.
        layout: As in `frequency_ratio_metric`.

    Returns:
        Scalar float32 on the device of `images`, without gradient.

    Raises:
        TypeError: As in `frequency_ratio_metric`.
        ValueError: As in `frequency_ratio_metric`, or if `rule` is unknown or incompatible with `align` or `band`.
    """
    check_rule(rule, align, band)
    check_images(images, patch, layout)
    items = _items(images, layout)
    dims = items.ndim - 3
    grid = torch.Size(side // patch for side in items.shape[-dims:])
    shape = (items.shape[0] * items.shape[1], *grid)
    if ignore is None:
        ignore = torch.zeros(shape, dtype=torch.bool, device=images.device)
    elif ignore.shape != shape:
        raise ValueError(f"ignore must have the shape {shape} for layout={layout!r}, got {tuple(ignore.shape)}")
    exact = torch.compiler.is_compiling() or items.shape[:3].numel() * grid.numel() <= FEW_PATCHES
    total = torch.zeros((), dtype=_sum_dtype(images), device=images.device)
    for piece, left_out in _pieces(items, ignore):
        if rule == "frequency_ratio":
            total += _sum_of_ratios(piece, left_out, patch, band, sigma, align, exact)
        else:
            total += _sum_by_rule(piece, left_out, patch, band, sigma, rule)
    return (total / items.shape[:3].numel()).float()


@torch.no_grad()
def frequency_contributions(
    images: Tensor,
    *,
    patch: int = 8,
    band: int = 2,
    sigma: float = 1e-6,
    ignore: Tensor | None = None,
    align: str = "patch",
) -> Tensor:
    """Split FRM (Eq. 4) into the contributions of the low coefficients, which the paper leaves open (A.14).

    Args:
        images: As in `frequency_ratio_metric`, shape (B, C, H, W).
        patch: As in `frequency_ratio_metric`.
        band: As in `frequency_ratio_metric`. The upper left q×q values of a larger band sum to the FRM with band q.
        sigma: As in `frequency_ratio_metric`.
        ignore: As in `frequency_ratio_metric`.
        align: As in `frequency_ratio_metric`.

    Returns:
        Shape (band, band), float64 if the device supports it, on the device of `images`: for vertical frequency u and
        horizontal frequency v, Σ |low(u, v) / (high + σ)| over patches, averaged over channels and images. They sum to
        the FRM; (0, 0) is the contribution of brightness.

    Raises:
        TypeError: As in `frequency_ratio_metric`.
        ValueError: As in `frequency_ratio_metric`.
    """
    check_rule("frequency_ratio", align, band)
    check_images(images, patch)
    total = torch.zeros(band**2, dtype=_sum_dtype(images), device=images.device)
    for index, image in enumerate(images):
        ratio = _exact_ratios(image, patch, band, sigma, align, 2)
        if ignore is not None:
            left_out = ignore[index] | _aligned(ignore[index], (-2, -1), align)
            ratio = ratio.masked_fill(left_out.to(ratio.device)[..., None], 0)
        total += ratio.sum((0, 1, 2)).to(total)
    return (total / images.shape[:2].numel()).view(band, band)


def check_rule(rule: str, align: str, band: int) -> None:
    """Check the name of a rule, and that `align` and `band` apply to it.

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
        raise ValueError(
            "rule='ac_ratio' needs a band of at least 2: with 1, the low corner is just the DC coefficient"
        )


@torch.no_grad()
def joint_flat_patches(modalities: Iterable[Tensor], *, patch: int = 8, layout: str = "image") -> Tensor | None:
    """Find the patches that are flat (max = min in each channel) in every modality at once.

    Letterbox, mosaic and affine borders are such patches. A flat patch has high = 0 and counts low / σ, hundreds of
    times a patch of content and equally in all modalities, so counting them would make all weights equal. A patch that
    is flat in one modality only is a trait of that modality and is not marked.

    Args:
        modalities: Tensors of shape (B, C_m, H, W), or as `layout` says, uint8 or float in [0, 1]; channel counts may
            differ.
        patch: Side of a patch in pixels.
        layout: As in `frequency_ratio_metric`.

    Returns:
        Shape (B, H // patch, W // patch), or the shape that `layout` gives `ignore`, bool; None if batch or image
        sizes differ, as no patches then correspond.

    Raises:
        TypeError: If a tensor is neither uint8 nor floating point.
        ValueError: If a tensor is empty or not of the shape of its layout, no whole patch fits, or `layout` is unknown.
    """
    modalities = list(modalities)
    for images in modalities:
        check_images(images, patch, layout)
    stacks = [_items(images, layout) for images in modalities]
    dims = stacks[0].ndim - 3
    if len({(*items.shape[:2], *items.shape[-dims:]) for items in stacks}) != 1:
        return None
    if torch.compiler.is_compiling():  # which patches to check in full must not depend on the data
        in_full = [split_patches(items, patch, dims).flatten(-dims) for items in stacks]
        # uint8 is not compared by extremes: compiled for a CPU, torch 2.14 computes them wrongly.
        flats = [_flat(p, dim=2) if p.is_floating_point() else (p == p[..., :1]).all(-1).all(2) for p in in_full]
        return torch.stack(flats).all(0).flatten(0, 1)
    # Two opposite pixels rule out most patches; the others are checked in full.
    flat = torch.stack([_flat(_opposite_pixels(items, patch, dims), dim=2) for items in stacks]).all(0).flatten(0, 1)
    for items in stacks:
        for piece, marked in _pieces(items, flat):
            candidates = marked.nonzero(as_tuple=True)
            patches = split_patches(piece, patch, dims).movedim(1, -dims - 1)[candidates]
            marked[candidates] &= _flat(patches.flatten(-dims), dim=1)
    return flat


def check_images(images: Tensor, patch: int, layout: str = "image") -> None:
    """Check that whole patches can be cut from images.

    Raises:
        TypeError: If `images` is neither uint8 nor floating point.
        ValueError: If `layout` is unknown, `images` is empty or not of its shape, or no whole patch fits.
    """
    pixel_scale(images)
    if layout not in LAYOUTS:
        raise ValueError(f"layout={layout!r} must be one of {', '.join(LAYOUTS)}")
    shape = tuple(images.shape)
    if len(shape) != SHAPES[layout].count(",") + 1 or 0 in shape:
        raise ValueError(f"images must have a non-empty shape {SHAPES[layout]} for layout={layout!r}, got {shape}")
    sides = shape[-3:] if layout == "volume" else shape[-2:]
    if min(sides) < patch:
        size, block = ("×".join(map(str, numbers)) for numbers in (sides, [patch] * len(sides)))
        kind = "a volume" if layout == "volume" else "an image"
        raise ValueError(f"no {block} patch fits into {kind} of {size} pixels")


def signed_pixels(images: Tensor) -> Tensor:
    """Return pixels as the published code reads them: (x − 127.5) / 128 for x in 0…255.

    Args:
        images: Any shape, uint8 or any float dtype in [0, 1].

    Returns:
        The same shape, in [−1, 1), float32, or float64 for float64 input. Exact for uint8 input.

    Raises:
        TypeError: If `images` is neither uint8 nor floating point.
    """
    pixel_scale(images)  # rejects other dtypes
    values = images.to(torch.promote_types(images.dtype, torch.float32))
    return ((values * 255 if images.is_floating_point() else values) - 127.5) / 128


def _items(images: Tensor, layout: str) -> Tensor:
    """View a tensor of any layout as groups of images or volumes, shape (groups, N, C, H, W) or (…, C, D, H, W)."""
    if layout == "slices":
        return images.transpose(1, 2)
    return images if layout == "video" else images[None]


def _pieces(items: Tensor, marks: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Cut items, shape (groups, N, C, …), into pieces of shape (n, c, …), each with its marks, (groups·N, …) → (n, …).

    On a CPU the pieces are views of whole items or, of a large one, of a few of its channels. Elsewhere, and in a
    compiled graph, each step costs more than the memory it saves, and there is one piece.
    """
    if items.device.type != "cpu" or torch.compiler.is_compiling():
        yield items.flatten(0, 1), marks
        return
    pixels = items.shape[3:].numel()
    limit = PIECE_PIXELS if items.dtype == torch.float32 else CONVERTED_PIECE_PIXELS
    channels = max(1, limit // pixels)
    count = max(1, channels // items.shape[2])
    if items.dtype == torch.float32 and items.stride(1) != items.shape[2] * items.stride(2):
        count = 1  # a slice of stacked channels: a view within one image, but several images would be copied
    for group, marks_of_group in zip(items, marks.split(items.shape[1]), strict=True):
        for part, marks_of_part in zip(group.split(count), marks_of_group.split(count), strict=True):
            for piece in part.split(channels, dim=1):
                yield piece, marks_of_part


def _sum_of_ratios(
    images: Tensor, left_out: Tensor, patch: int, band: int, sigma: float, align: str, exact: bool
) -> Tensor:
    """Sum |low / (high + σ)| over a piece, shape (n, c, …), without the patches left out, shape (n, …).

    With `exact`, every patch is computed in double precision, as a compiled graph cannot choose patches by their data;
    otherwise only those that float32 gets wrong.
    """
    dims = images.ndim - 2
    axes = tuple(range(-dims, 0))
    left_out = (left_out | _aligned(left_out, axes, align))[:, None]
    if exact:
        ratios = _exact_ratios(images, patch, band, sigma, align, dims)
        return ratios.sum(-1).to(left_out.device).masked_fill(left_out, 0).sum()
    low, high = block_dct_corners(images, patch, band)
    high = _aligned(high, axes, align).add_(sigma)
    ratio = low.div_(high).abs_().sum(2)
    ill = (high.abs_().amin(2) < max(ILL_CONDITIONED, 100 * sigma)) & ~left_out
    total = ratio.masked_fill_(left_out | ill, 0).sum(dtype=_sum_dtype(images))
    places = ill.nonzero(as_tuple=True)
    low, high = _corners_in_double_precision(take_patches(images, places, patch), patch, band, dims)
    if align == "map":
        opposite = (*places[:2], *(side - 1 - place for side, place in zip(ill.shape[2:], places[2:], strict=True)))
        _, high = _corners_in_double_precision(take_patches(images, opposite, patch), patch, band, dims)
    return total + (low / (high + sigma)).abs().sum().to(total)


def _exact_ratios(images: Tensor, patch: int, band: int, sigma: float, align: str, dims: int) -> Tensor:
    """Return |low / (high + σ)| of every patch in double precision, shape (…, C, *grid, band**dims)."""
    low, high = _corners_in_double_precision(split_patches(images, patch, dims), patch, band, dims)
    return (low / (_aligned(high, tuple(range(-dims - 1, -1)), align) + sigma)).abs()


def _sum_by_rule(images: Tensor, left_out: Tensor, patch: int, band: int, sigma: float, rule: str) -> Tensor:
    """Sum a rule that pairs no coefficients over the channels of a piece, as in `_sum_of_ratios`."""
    corners = (
        corner.abs().masked_fill(left_out[:, None, None], 0) for corner in block_dct_corners(images, patch, band)
    )
    low, high = (corner.flatten(3).sum(3, dtype=_sum_dtype(images)) for corner in corners)
    low, ac, high = low.sum(2), low[:, :, 1:].sum(2), high.sum(2)
    values = {
        "low_l1": low,
        "sum_l1": low + high,
        "weighted_l1": LOW_WEIGHT * low + (1 - LOW_WEIGHT) * high,
        "ratio_of_sums": low / (high + sigma),
        "ac_ratio": ac / (high + sigma),
    }
    return values[rule].sum()


def _flat(patches: Tensor, dim: int) -> Tensor:
    """Return where all channels are flat, shape (…, C, …, pixels) with C at `dim` → (…, …)."""
    spread = patches.amax(-1) - patches.amin(-1)
    return (spread * pixel_scale(patches) <= FLAT_TOLERANCE).all(dim)


def _opposite_pixels(items: Tensor, patch: int, dims: int) -> Tensor:
    """Return the first and the last pixel of every patch, (…, H, W) → (…, H // patch, W // patch, 2)."""
    sides = [side // patch * patch for side in items.shape[-dims:]]
    ends: list[tuple[EllipsisType | slice, ...]] = [
        (..., *(slice(start, side, patch) for side in sides)) for start in (0, patch - 1)
    ]
    return torch.stack([items[end] for end in ends], -1)


def _aligned(values: Tensor, dims: tuple[int, ...], align: str) -> Tensor:
    """Move the values of the denominators' patches to the positions of the numerators' patches."""
    return values.flip(dims) if align == "map" else values


def _corners_in_double_precision(patches: Tensor, patch: int, band: int, dims: int) -> tuple[Tensor, Tensor]:
    """Project patches, shape (…, p, …, p), on the low and the high basis images: two of (…, band^dims), float64."""
    if patches.device.type == "mps":  # has no float64
        patches = patches.cpu()
    basis = scaled_basis(patches, patch, band, dims, torch.float64).flatten(1)
    low, high = (patches.flatten(-dims).double() @ basis.T).chunk(2, -1)
    return low, high


def _sum_dtype(images: Tensor) -> torch.dtype:
    """Return double precision where the device supports it."""
    return torch.float32 if images.device.type == "mps" else torch.float64
