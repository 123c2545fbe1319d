"""What single images look like: how colourful they are, and whether two are one picture."""

from __future__ import annotations

from functools import reduce

import cv2
import numpy as np

GREY_CHROMA = 1.5
"""An image with a lower mean chroma, in levels of 255, has no colour; JPEG alone leaves less."""

COLOUR_CHROMA = 3.0
"""An image with a higher mean chroma has colour. Night pictures have 4 and more, daylight 10 to 50."""

SAME_PICTURE_CORRELATION = 0.95
"""Correlation of fine detail from which two images are one picture. Thermal and depth images reach 0.5 with RGB, while
near infrared may come closer, so that heavily compressed copies are let pass."""


def mean_chroma(pixels: np.ndarray) -> float:
    """Return how colourful an image is: the mean of (largest − smallest channel), in levels of 255.

    Args:
        pixels: Shape (H, W, C), uint8, or uint16 of which the high byte counts.
    """
    scale = 257.0 if pixels.dtype == np.uint16 else 1.0
    channels = [pixels[..., i] for i in range(pixels.shape[2])]  # along an axis it takes many times as long
    largest, smallest = (
        reduce(np.maximum, channels),
        reduce(np.minimum, channels),
    )
    return float(np.mean(largest.astype(np.float32) - smallest)) / scale


def same_picture(first: np.ndarray, second: np.ndarray) -> bool:
    """Return whether two images are one picture, whatever was done to colour, contrast and compression.

    Fine detail is compared: two sensors that look at one scene agree in large shapes, but not in every grain.

    Args:
        first: Shape (H, W), float32.
        second: Likewise, of the same size.
    """
    details = []
    for image in (first, second):
        small = cv2.resize(image, (256, 256), interpolation=cv2.INTER_AREA)
        details.append((small - cv2.GaussianBlur(small, (0, 0), 4)).ravel())
    if min(detail.std() for detail in details) < 0.1:
        return False  # nothing to compare in an even image
    return bool(np.corrcoef(details[0], details[1])[0, 1] >= SAME_PICTURE_CORRELATION)
