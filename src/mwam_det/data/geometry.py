"""Matrices between images of different size."""

from __future__ import annotations

import numpy as np


def scaling(old: tuple[int, int], new: tuple[int, int]) -> np.ndarray:
    """Return the 3×3 matrix that maps pixels (x, y, 1) of an image to those of the same image resized.

    Corners of the images coincide, and integers are the centres of pixels, as in OpenCV's `resize`.

    Args:
        old: (height, width) before.
        new: (height, width) after.
    """
    (old_height, old_width), (new_height, new_width) = old, new
    x, y = new_width / old_width, new_height / old_height
    return np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]])
