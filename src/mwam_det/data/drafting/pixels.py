"""What the images of a modality hold, by a sample of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from mwam_det.data.inspection.pixels import COLOUR_CHROMA, mean_chroma
from mwam_det.data.inspection.sampling import evenly
from mwam_det.data.reading import AS_STORED, decode
from mwam_det.files.images import check_pixels

LOOKED_AT = 12
"""Images that are read of each modality."""

BAND = (0.5, 99.5)
"""Percentiles of all values looked at, between which the range lies that is written down."""

NARROW = 0.5
"""From this share of what 16 bits can hold on, the high byte of values shows enough."""


@dataclass(frozen=True)
class Values:
    """What a modality's images are like.

    Attributes:
        format: Bit depth and channels, the most frequent, like "16 bit, 1 channel".
        sizes: Sizes by how often they occur, like {"640×512": 12}.
        shape: (height, width) of the most frequent size, in pixels.
        colour: Whether most have colour.
        band: The values that count, (lo, hi), where 8 bits do not hold them; else None.
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
    """Read a sample of images, spread evenly.

    Args:
        root: The folder that their places are below.
        files: Their places.
        zero_is_nothing: Whether a value of 0 means that nothing was measured, as in depth.

    Returns:
        What they are like; None if none can be read.
    """
    formats: Counter[str] = Counter()
    sizes: Counter[tuple[int, int]] = Counter()
    chroma, samples, unreadable, transparent = [], [], "", False
    for index in evenly(len(files), LOOKED_AT):
        pixels = _read(root / files[index])
        if pixels is None:
            unreadable = files[index]
            continue
        height, width, channels = pixels.shape
        floating = " float" if pixels.dtype.kind == "f" else ""
        formats[f"{8 * pixels.dtype.itemsize} bit{floating}, {channels} channel{'s' if channels > 1 else ''}"] += 1
        sizes[height, width] += 1
        transparent = transparent or _channels(root / files[index]) == 4
        if pixels.dtype in (np.uint8, np.uint16):
            chroma.append(mean_chroma(pixels) > COLOUR_CHROMA)
        if pixels.dtype != np.uint8:
            values = pixels[np.isfinite(pixels)][::17]
            samples.append(values[values != 0] if zero_is_nothing else values)
    if not formats:
        return None
    shape = sizes.most_common(1)[0][0]
    return Values(
        formats.most_common(1)[0][0],
        {f"{width}×{height}": count for (height, width), count in sizes.most_common()},
        shape,
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


def _channels(file: Path) -> int:
    pixels = decode(file, cv2.IMREAD_UNCHANGED) if file.suffix.lower() == ".png" else None
    return 1 if pixels is None else pixels.shape[2]


def _band(samples: Sequence[np.ndarray], zero_is_nothing: bool) -> tuple[float, float] | None:
    """Return the values that count, of images with more than 8 bits; None where their high byte shows them."""
    samples = [values for values in samples if values.size]
    if not samples:
        return None
    whole = all(values.dtype.kind in "iu" for values in samples)
    low, high = np.percentile(np.concatenate([values.astype(np.float64) for values in samples]), BAND).tolist()
    if all(values.dtype == np.uint16 for values in samples) and high - low >= NARROW * 65535:
        return None
    low = 0.0 if zero_is_nothing else low
    if high <= low:
        return None
    digits = 0 if whole else 4
    low, high = round(low, digits), round(high, digits)
    return (int(low), max(int(high), int(low) + 1)) if whole else (low, high)
