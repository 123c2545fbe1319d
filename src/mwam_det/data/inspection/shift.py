"""How far one modality lies beside another: guessed for a pair, agreed on by many, and taken back."""

from __future__ import annotations

import cv2
import numpy as np

from mwam_det.data.layout import Modality
from mwam_det.data.reading import scaling

CLEAR_RESPONSE = 0.05
"""Peak of the phase correlation from which it is no chance. Nearly all pairs of different scenes stay below."""

DIGITS = 9
"""Significant digits of the numbers of a matrix that is offered."""

RELIABLE_PIXELS = 240**2
"""In images of fewer pixels chance has higher peaks, which are lowered in proportion to the root of their number."""


def estimate_shift(first: np.ndarray, second: np.ndarray) -> tuple[float, float, float]:
    """Guess how far the content of the second image lies from where it is in the first, by phase correlation.

    What is warm is not what is bright, so that contrast may be reversed: the logarithm of the gradients' magnitude is
    correlated. A blur before it removes the grid of JPEG blocks, which both images have in common at no shift, and a
    Hanning window their borders.

    Args:
        first: Shape (H, W), float32.
        second: Likewise, of the same size.

    Returns:
        Shift to the right and down, in pixels, and the peak's height in about [0, 1], lowered for small images; from
        `CLEAR_RESPONSE` on it is no chance.
    """
    edges = []
    for image in (first, second):
        smooth = cv2.GaussianBlur(image, (0, 0), 1)
        across, down = (cv2.Sobel(smooth, cv2.CV_32F, *order) for order in ((1, 0), (0, 1)))
        edges.append(np.log1p(cv2.magnitude(across, down)))
    if min(float(np.ptp(edge)) for edge in edges) == 0:
        return 0.0, 0.0, 0.0
    window = cv2.createHanningWindow(first.shape[::-1], cv2.CV_32F)
    (x, y), response = cv2.phaseCorrelate(*edges, window)
    return x, y, response * min(1.0, (first.size / RELIABLE_PIXELS) ** 0.5)


def agree_on_shift(
    estimates: np.ndarray, tolerance: float
) -> tuple[tuple[float, float] | None, tuple[float, float] | None, int, int]:
    """Join the shifts of many pairs into one that a dataset has throughout, or none.

    Args:
        estimates: Shape (N, 3): shift to the right, shift down, in any pixels, and response (see `estimate_shift`).
        tolerance: How far from the median a pair may be and still agree, in the same pixels.

    Returns:
        The median shift (None unless three in ten pairs tell one, and six in ten of these, at least three, agree), half
        the distance of the quartiles (None where no pair tells a shift), how many pairs tell one, and how many of them
        agree.
    """
    clear = estimates[estimates[:, 2] >= CLEAR_RESPONSE, :2]
    if not len(clear):
        return None, None, 0, 0
    middle = np.median(clear, 0)
    agreeing = int((np.abs(clear - middle).max(1) <= tolerance).sum())
    quartiles = np.percentile(clear, (25, 75), axis=0)
    spread = tuple(((quartiles[1] - quartiles[0]) / 2).tolist())
    if len(clear) < 0.3 * len(estimates) or agreeing < max(3, 0.6 * len(clear)):
        return None, spread, len(clear), agreeing
    return tuple(middle.tolist()), spread, len(clear), agreeing


def shift_remedy(
    modality: Modality, shift: tuple[float, float], first_size: tuple[int, int], size: tuple[int, int]
) -> list[list[float]]:
    """Return the matrix for the key "align" of the data section that takes a shift back.

    Args:
        modality: The modality that is shifted.
        shift: How far it lies to the right of and below the first, in pixels of the first modality's files.
        first_size: (height, width) of the first modality's files.
        size: (height, width) of its own.

    Returns:
        Numbers of `DIGITS` digits: the last row of a homography is small, and what is lost there is multiplied by
        thousands of pixels.
    """
    now = scaling(size, first_size) if modality.align is None else np.array(modality.align, float)
    back = np.array([[1, 0, -shift[0]], [0, 1, -shift[1]], [0, 0, 1]])
    return [[float(f"{value:.{DIGITS}g}") for value in row] for row in (back @ now).tolist()]
