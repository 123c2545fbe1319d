"""Examine a sample of a modality's images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from mwam_det.data.inspection.pairs import lost_of
from mwam_det.data.inspection.pixels import COLOUR_CHROMA, format_of, mean_chroma
from mwam_det.data.inspection.sampling import evenly
from mwam_det.data.levels import AS_STORED
from mwam_det.data.reading import decode
from mwam_det.files.images import check_pixels, read_header

LOOKED_AT = 12
"""Number of images read per modality."""

BAND = (0.5, 99.5)
"""Percentiles of all sampled values that become the range in the recipe."""

NARROW = 0.5
"""Share of the 16-bit range from which the high byte of values shows enough."""


@dataclass(frozen=True)
class Values:
    """Properties of a modality's images.

    Attributes:
        format: The most frequent bit depth and channels, like "16 bit, 1 channel".
        sizes: Number of images by size, like {"640×512": 12}.
        shape: (height, width) of the most frequent size, in pixels.
        colour: Whether most have colour.
        band: Relevant values (lo, hi), if they exceed 8 bits; else None.
        transparent: Whether some have a fourth channel.
        unreadable: An image that cannot be read, or "".
    """

    format: str
    sizes: dict[str, int]
    shape: tuple[int, int]
    colour: bool
    band: tuple[float, float] | None
    transparent: bool
    unreadable: str


def look_at(root: Path, files: Sequence[str], zero_is_nothing: bool = False) -> Values | None:
    """Read an evenly spaced sample of images; None if none can be read.

    Args:
        root: The root folder.
        files: Paths of the images below it.
        zero_is_nothing: Whether 0 means not measured, as in depth.
    """
    formats: Counter[str] = Counter()
    sizes: Counter[tuple[int, int]] = Counter()
    chroma, samples, unreadable, transparent = [], [], "", False
    for index in evenly(len(files), LOOKED_AT):
        pixels = _read(root / files[index])
        if pixels is None:
            unreadable = files[index]
            continue
        formats[format_of(pixels.dtype, pixels.shape[2])] += 1
        sizes[pixels.shape[0], pixels.shape[1]] += 1
        transparent = transparent or _is_transparent(root / files[index], pixels.shape[2])
        if pixels.dtype in (np.uint8, np.uint16):
            chroma.append(mean_chroma(pixels) > COLOUR_CHROMA)
        if pixels.dtype != np.uint8:
            values = pixels[np.isfinite(pixels)][::17]
            samples.append(values[values != 0] if zero_is_nothing else values)
    if not formats:
        return None
    return Values(
        formats.most_common(1)[0][0],
        {f"{width}×{height}": count for (height, width), count in sizes.most_common()},
        sizes.most_common(1)[0][0],
        sum(chroma) > len(chroma) / 2,
        _band(samples, zero_is_nothing),
        transparent,
        unreadable,
    )


def _read(file: Path) -> np.ndarray | None:
    try:
        return decode(file, AS_STORED) if check_pixels(file) else None
    except (OSError, ValueError, cv2.error):
        return None


def _is_transparent(file: Path, read: int) -> bool:
    """Return whether a file, of which `read` channels are read, has one of transparency, or a fourth one."""
    return lost_of(str(file), read_header(file), read)[1] in (2, 4)  # 2 are grey and transparency


def _band(samples: Sequence[np.ndarray], zero_is_nothing: bool) -> tuple[float, float] | None:
    """Return the relevant values of images with more than 8 bits; None if their high byte shows enough."""
    samples = [values for values in samples if values.size]
    if not samples:
        return None
    are_integers = all(values.dtype.kind in "iu" for values in samples)
    low, high = np.percentile(np.concatenate([values.astype(np.float64) for values in samples]), BAND).tolist()
    if all(values.dtype == np.uint16 for values in samples) and high - low >= NARROW * 65535:
        return None
    low = 0.0 if zero_is_nothing else low
    if high <= low:
        return None
    digits = 0 if are_integers else 4
    low, high = round(low, digits), round(high, digits)
    return (int(low), max(int(high), int(low) + 1)) if are_integers else (low, high)
