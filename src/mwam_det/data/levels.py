"""The values of an image file that become 0 and 255: the key `range` of a data section."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from mwam_det.core.checks import is_finite_number

AS_STORED = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR
"""Reads unchanged values, but upright and without transparency, unlike IMREAD_UNCHANGED."""

RANGES = ("percentile", "minmax")
"""Ranges taken from each image."""

PERCENTILES = (1, 99)


def read_range(name: str, value: Any) -> tuple[float, float] | str:
    """Check the range of a modality.

    Args:
        name: The modality.
        value: What the data section has for it.

    Returns:
        The values (lo, hi) that become 0 and 255, or one of `RANGES`.

    Raises:
        ValueError: If it is neither.
    """
    if isinstance(value, str) and value in RANGES:
        return value
    pair = value if isinstance(value, list | tuple) and len(value) == 2 else ()
    if pair and all(map(is_finite_number, pair)) and pair[0] < pair[1]:
        return pair[0], pair[1]
    raise ValueError(
        f"range: {name}={value!r} must be two numbers [lo, hi], lo below hi, or one of {', '.join(RANGES)}"
    )


def map_to_bytes(pixels: np.ndarray, value_range: tuple[float, float] | str) -> np.ndarray:
    """Map the values of an image linearly to 0…255, clipped and rounded.

    Args:
        pixels: Shape (H, W, C), integer or float.
        value_range: The values (lo, hi) that become 0 and 255, lo < hi; or "minmax" or "percentile" (1st and 99th),
            taken from all finite values of this image.

    Returns:
        The shape of `pixels`, uint8. Non-finite values become 0, and so does everything if all finite values are equal.
    """
    finite = None if np.issubdtype(pixels.dtype, np.integer) else np.isfinite(pixels)
    if isinstance(value_range, str):
        counted = pixels if finite is None else pixels[finite]
        if not counted.size:
            return np.zeros(pixels.shape, np.uint8)
        if value_range == "minmax":
            low, high = float(counted.min()), float(counted.max())
        else:
            low, high = np.percentile(counted, PERCENTILES).tolist()
        if low == high:
            return np.zeros(pixels.shape, np.uint8)
    else:
        low, high = value_range
    values = pixels.astype(np.result_type(pixels.dtype, np.float32))
    if finite is not None:
        values[~finite] = low
    values -= low
    values *= 255 / (high - low)
    return np.rint(values, out=values).clip(0, 255, out=values).astype(np.uint8)
