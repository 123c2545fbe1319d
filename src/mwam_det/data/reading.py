"""Read the pixels of one modality as they are stacked: range, channels, frequencies, size and alignment."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps
from ultralytics.utils.patches import PIL_FALLBACK_SUFFIXES, imread

from mwam_det.data.filtering import apply_filter
from mwam_det.data.geometry import scaling
from mwam_det.data.levels import AS_STORED, map_to_bytes
from mwam_det.data.modality import Modality

JPEG_SUFFIXES = (".jpg", ".jpeg")
TIFF_SUFFIXES = (".tif", ".tiff")
FLAGS = {
    (1, 1): cv2.IMREAD_GRAYSCALE,
    (2, 1): cv2.IMREAD_REDUCED_GRAYSCALE_2,
    (4, 1): cv2.IMREAD_REDUCED_GRAYSCALE_4,
    (8, 1): cv2.IMREAD_REDUCED_GRAYSCALE_8,
    (1, 3): cv2.IMREAD_COLOR,
    (2, 3): cv2.IMREAD_REDUCED_COLOR_2,
    (4, 3): cv2.IMREAD_REDUCED_COLOR_4,
    (8, 3): cv2.IMREAD_REDUCED_COLOR_8,
}
"""OpenCV's flag for 8 bits, by divisor of the size and number of channels."""


def decode(file: str | Path, flags: int = cv2.IMREAD_COLOR) -> np.ndarray | None:
    """Read an image as Ultralytics' `imread` does, but without installing a codec for AVIF or HEIF.

    Args:
        file: The image. Its size is not checked, see `mwam_det.files.images.check_pixels`.
        flags: As in `cv2.imread`.

    Returns:
        Shape (H, W, C), colour in BGR; None if it cannot be read.
    """
    if str(file).lower().endswith(PIL_FALLBACK_SUFFIXES) and not has_codec(file):
        return None
    return imread(file, flags)


def has_codec(file: str | Path) -> bool:
    """Return whether the installed Pillow can open an AVIF or HEIF image."""
    if find_spec("pi_heif"):
        return True
    try:
        from PIL.AvifImagePlugin import AvifImageFile  # not in older versions

        with AvifImageFile(file):
            return True
    except (ImportError, OSError, SyntaxError, ValueError):
        return False


def read_image(file: str | Path, modality: Modality, reduction: int = 1) -> np.ndarray | None:
    """Read a file with the channels, range and frequencies of its modality, without resizing or alignment.

    Args:
        file: The image.
        modality: Its modality.
        reduction: 1, or a divisor of its size returned by `reduction_of`.

    Returns:
        Shape (H, W, C_m), uint8, colour in BGR; None if OpenCV cannot read the file. Without a range, the dtype may
        differ for files that have no 8-bit reading.
    """
    if modality.value_range is not None:
        pixels = decode(file, AS_STORED)
        return None if pixels is None else as_stacked(pixels, modality)
    pixels = decode(file, FLAGS[reduction, modality.channels])
    return pixels if pixels is None else _filtered(pixels, modality)


def check_stored(file: str | Path) -> None:
    """Check that a file has an 8-bit reading without a range: OpenCV makes one of signed TIFF files too, by wrapping.

    Raises:
        ValueError: If its values are signed, of more than 16 bits, or float.
    """
    stored = decode(file, AS_STORED)
    if stored is not None and stored.dtype not in (np.uint8, np.uint16):
        raise ValueError(
            f"{file} has values of type {stored.dtype}: set the key 'range' to the values that become 0 and 255, "
            "like [lo, hi], percentile or minmax"
        )


def from_pillow(image: Image.Image) -> np.ndarray:
    """Return the pixels of a Pillow image as its file is read: upright, colour in BGR, without transparency.

    Args:
        image: An image of any mode.

    Returns:
        Shape (H, W, 1 or 3), uint8; uint16 or float32 for modes with such values.

    Raises:
        ValueError: If the values of mode "I" need more than 16 bits.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode == "I" or image.mode.startswith("I;16"):  # the mode of a 16-bit file depends on the version
        values = np.asarray(image)
        if values.min(initial=0) < 0 or values.max(initial=0) > np.iinfo(np.uint16).max:
            raise ValueError(f"source: a Pillow image of mode {image.mode} has values outside of 0…65535")
        return values.astype(np.uint16)[..., None]
    if image.mode == "F":
        return np.asarray(image)[..., None]
    if image.mode in ("1", "L", "LA", "La"):
        return np.array(image.convert("L"))[..., None]
    return np.array(image.convert("RGB"))[..., ::-1].copy()


def as_stacked(pixels: np.ndarray, modality: Modality) -> np.ndarray:
    """Apply the range, the channels and the filter of its modality to an image.

    Args:
        pixels: Shape (H, W, 1 or 3), as stored in a file; colour in BGR.
        modality: Its modality.

    Returns:
        Shape (H, W, C_m), uint8 if the modality has a range, else the dtype of `pixels`.
    """
    if modality.value_range is not None:
        pixels = map_to_bytes(pixels, modality.value_range)
    return _filtered(_with_channels(pixels, modality.channels), modality)


def reduction_of(file: str | Path, modality: Modality, size: tuple[int, int], target: tuple[int, int]) -> int:
    """Return the divisor of its size by which a file can be decoded for a target: 8, 4, 2, or 1.

    JPEG stores 8×8 blocks of frequencies, of which a decoder can skip the higher ones, in a fraction of the time. The
    resulting pixels are means over 2×2 (4×4, 8×8) pixels, close to bilinear resizing and less noisy. Sizes are divided
    only without remainder, so that pixels keep their place and boxes fit exactly, and only as far as the result is not
    smaller than the target.

    Args:
        file: The image.
        modality: Its modality. With a range or a filter, the file is decoded in full.
        size: (height, width) of the file.
        target: (height, width) to which it will be resized.
    """
    in_full = modality.value_range is not None or modality.filter is not None
    if in_full or not str(file).lower().endswith(JPEG_SUFFIXES):
        return 1
    return next(
        (
            divisor
            for divisor in (8, 4, 2)
            if all(side % divisor == 0 and side // divisor >= wanted for side, wanted in zip(size, target, strict=True))
        ),
        1,
    )


def place(
    image: np.ndarray,
    modality: Modality,
    size: tuple[int, int],
    first_size: tuple[int, int],
    target: tuple[int, int],
) -> np.ndarray:
    """Stretch an image to the size of the stack, or align it with the first modality.

    Alignment and resizing are one bilinear warp. The area outside the image's view is filled with its mirror image: a
    plain border in one modality has no high frequencies, and MWAM would count each of its patches hundreds of times
    (see `mwam_det.core.frequency.joint_flat_patches`).

    Args:
        image: Shape (H, W, C), possibly decoded at reduced size.
        modality: Its modality.
        size: (height, width) of its file.
        first_size: (height, width) of the first modality's file.
        target: (height, width) of the stack.

    Returns:
        Shape (*target, C), the dtype of `image`.
    """
    if modality.align is not None:
        matrix = scaling(first_size, target) @ np.array(modality.align, float) @ scaling(image.shape[:2], size)
        warped = cv2.warpPerspective(
            image, matrix, target[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
        )
    elif image.shape[:2] != target:
        warped = cv2.resize(image, target[::-1], interpolation=cv2.INTER_LINEAR)
    else:
        return image
    return warped if warped.ndim == 3 else warped[..., None]


def _filtered(pixels: np.ndarray, modality: Modality) -> np.ndarray:
    """Apply the filter of a modality; values of other types than 8 bits are rejected later."""
    return pixels if modality.filter is None or pixels.dtype != np.uint8 else apply_filter(pixels, modality.filter)


def _with_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """Repeat grey to colour, or turn colour to grey."""
    if pixels.shape[2] == channels:
        return pixels
    if channels == 3:
        return cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)[..., None]
