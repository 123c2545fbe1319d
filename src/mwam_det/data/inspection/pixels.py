"""Properties of single images: format, colourfulness, and whether two show the same picture."""

from __future__ import annotations

from functools import reduce

import cv2
import numpy as np

GREY_CHROMA = 1.5
"""Mean chroma, in levels of 255, below which an image has no colour; JPEG artefacts cause less."""

COLOUR_CHROMA = 3.0
"""Mean chroma above which an image has colour. Night pictures have 4 and more, daylight 10 to 50."""

SAME_PICTURE_CORRELATION = 0.95
"""Correlation of fine detail from which two images show the same picture. Thermal and depth images reach 0.5 with RGB;
near infrared may come closer, so heavily compressed copies are accepted."""


def format_of(dtype: np.dtype, channels: int) -> str:
    """Return bit depth and channels as text, like "16 bit, 1 channel"."""
    floating = " float" if dtype.kind == "f" else ""
    return f"{8 * dtype.itemsize} bit{floating}, {channels} channel{'s' if channels > 1 else ''}"


def mean_chroma(pixels: np.ndarray) -> float:
    """Return the mean of (largest − smallest channel), in levels of 255, of an image (H, W, C).

    Args:
        pixels: uint8, or uint16 of which the high byte counts.
    """
    scale = 257.0 if pixels.dtype == np.uint16 else 1.0
    channels = [pixels[..., i] for i in range(pixels.shape[2])]  # many times as fast as along an axis
    largest, smallest = reduce(np.maximum, channels), reduce(np.minimum, channels)
    return float(np.mean(largest.astype(np.float32) - smallest)) / scale


def same_picture(first: np.ndarray, second: np.ndarray) -> bool:
    """Return whether two images show the same picture, regardless of colour, contrast and compression.

    Fine detail is compared: two sensors viewing the same scene agree in large shapes, but not in grain.

    Args:
        first: Shape (H, W), float32.
        second: The same shape and dtype.
    """
    details = []
    for image in (first, second):
        small = cv2.resize(image, (256, 256), interpolation=cv2.INTER_AREA)
        details.append((small - cv2.GaussianBlur(small, (0, 0), 4)).ravel())
    if min(detail.std() for detail in details) < 0.1:
        return False  # a uniform image has no detail
    return bool(np.corrcoef(details[0], details[1])[0, 1] >= SAME_PICTURE_CORRELATION)
