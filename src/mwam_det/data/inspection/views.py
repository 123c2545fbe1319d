"""Find the position of one modality's view in another's, by the edges that both show.

Warm is not bright, so contrast may be reversed: edges are compared, by phase correlation. The clarity of a peak is its
height above the rest of the surface: images of different scenes have random peaks, too, but none as clear. Cameras of a
rig do not move relative to each other, so the surfaces of several pairs are averaged: chance cancels out, and the
common position remains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from mwam_det.data.geometry import scaling
from mwam_det.data.inspection.sampling import evenly
from mwam_det.data.inspection.sizes import DISTORTED

SIDE = 256
"""Side in pixels of the squares to which images are stretched for comparison."""

COARSE_SIDE = 128
"""Side at which scales and turns are searched, where a scale is recognised if it is off by 5 %."""

CLEAR = 9.0
"""Clarity from which a peak is not chance. Of pairs of different scenes, from five sets, none has more than 8; of pairs
of one scene, nine in ten have more than 9."""

CERTAIN = 10.0
"""Clarity from which another view than the given one is accepted: of a hundred tried, one may look clear."""

BETTER = 1.3
"""Minimum ratio of the clarity of another view to that of the given one."""

SEARCHED = 16
"""Maximum number of pairs used to search views."""

SCALES = np.exp(0.05 * np.arange(-18, 19))
"""Scales tried: from 0.41 to 2.46."""

FINE_SCALES = np.exp(0.01 * np.arange(-3, 4))
"""Factors then tried on the best scale."""

TURNS = {
    "is turned by 90° clockwise": ((0, 1), (-1, 0)),
    "is turned by 180°": ((-1, 0), (0, -1)),
    "is turned by 90° counter-clockwise": ((0, -1), (1, 0)),
    "is mirrored left to right": ((-1, 0), (0, 1)),
    "is mirrored upside down": ((1, 0), (0, -1)),
    "is transposed": ((0, 1), (1, 0)),
    "is transposed and turned by 180°": ((0, -1), (-1, 0)),
}
"""Orientations of an image relative to its partner, and the matrices that undo them."""

EXACT = 1.5
"""Shift in pixels of a view below which a turn is taken for a turn alone, as of a camera held upright."""

DIGITS = 9
"""Significant digits of the numbers of a suggested matrix."""


@dataclass(frozen=True)
class View:
    """Position of the second modality's view in the first one's.

    Attributes:
        matrix: Maps its pixels to their correct position in the first one's, 3×3, in squares of `SIDE` pixels.
        clarity: Clarity of the peak.
        turn: Its current orientation, one of `TURNS`, or None if it is upright.
        scale: Size of the common content in the second over that in the first, in the width of the squares.
    """

    matrix: np.ndarray
    clarity: float
    turn: str | None
    scale: float

    def displacement(self, size: tuple[float, float], shift: bool = True) -> float:
        """Return the root mean square displacement of the second modality over an image.

        Args:
            size: (height, width) of the first modality's images, in any unit, which is that of the result.
            shift: Whether to include the mean displacement.
        """
        height, width = size
        x, y = np.meshgrid(np.linspace(0, SIDE - 1, 9), np.linspace(0, SIDE - 1, 9))
        points = np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
        moved = (self.matrix @ points - points)[:2] * [[width / SIDE], [height / SIDE]]
        if not shift:
            moved -= moved.mean(1, keepdims=True)
        return float(np.sqrt((moved**2).sum(0).mean()))

    def in_pixels(self, first_size: tuple[int, int]) -> np.ndarray:
        """Return its matrix in pixels of the first modality's files, of (height, width) `first_size`."""
        squares = scaling(first_size, (SIDE, SIDE))
        return np.linalg.inv(squares) @ self.matrix @ squares


def translation(x: float, y: float) -> np.ndarray:
    """Return the 3×3 matrix of a shift to the right and down."""
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])


def edges_of(image: np.ndarray) -> np.ndarray | None:
    """Return the spectrum of an image's edges, or None if it has none.

    A blur removes the grid of JPEG blocks, which is the same in all images, and a Hanning window the borders.

    Args:
        image: Shape (S, S), float32.
    """
    smooth = cv2.GaussianBlur(image, (0, 0), 1)
    across, down = (cv2.Sobel(smooth, cv2.CV_32F, *order) for order in ((1, 0), (0, 1)))
    edges = np.log1p(cv2.magnitude(across, down))
    if float(np.ptp(edges)) == 0:
        return None
    window = cv2.createHanningWindow(image.shape[::-1], cv2.CV_32F)
    return np.fft.rfft2((edges - edges.mean()) * window)


def correlate(first: Sequence[np.ndarray | None], second: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Return the mean phase correlation of pairs, zero shift in the middle; None if no pair has edges in both.

    Args:
        first: The spectrum of the edges of each pair's first image, see `edges_of`.
        second: The same of the second image.
    """
    crossed = [a.conj() * b for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    if not crossed:
        return None
    whitened = np.mean([product / (np.abs(product) + 1e-9) for product in crossed], 0)
    height = whitened.shape[0]
    surface = np.fft.fftshift(np.fft.irfft2(whitened, s=(height, height)))
    return cv2.GaussianBlur(surface.astype(np.float32), (0, 0), 1)


def find_peak(surface: np.ndarray | None) -> tuple[float, float, float]:
    """Return the peak of a surface of `correlate`, right of and below its middle in pixels, and its clarity.

    Clarity is the height above the median, in standard deviations estimated by the median absolute deviation.
    """
    if surface is None:
        return 0.0, 0.0, 0.0
    row, column = np.unravel_index(surface.argmax(), surface.shape)
    ground = surface[::2, ::2]  # neighbours are similar
    median = np.median(ground)
    deviation = 1.4826 * np.median(np.abs(ground - median))
    clarity = float((surface[row, column] - median) / max(deviation, 1e-9))
    height, width = surface.shape
    x = column + _vertex(surface[row, (column + np.arange(-1, 2)) % width]) - width // 2
    y = row + _vertex(surface[(row + np.arange(-1, 2)) % height, column]) - height // 2
    return float(x), float(y), clarity


def _vertex(values: np.ndarray) -> float:
    """Return the peak of the parabola through three values at −1, 0 and 1, the middle one being the largest."""
    left, middle, right = values.astype(float)
    curvature = left - 2 * middle + right
    return 0.0 if curvature == 0 else 0.5 * (left - right) / curvature


def find_view(
    first: Sequence[np.ndarray], second: Sequence[np.ndarray], shapes: float = 1.0
) -> tuple[tuple[float, float, float], View | None]:
    """Search the scale, turn and shift at which the edges of pairs agree best.

    Args:
        first: The first image of each pair, shape (SIDE, SIDE), uint8.
        second: The second image, the same.
        shapes: Ratio of the second modality's aspect ratio to the first one's. If it is not 1, both are tried: the
            second as stretched, and with square pixels.

    Returns:
        The shift of the second modality as given, with its clarity, from all pairs together (see `find_peak`); and the
        view, or None if none is certain and much clearer.
    """
    chosen = evenly(len(first), SEARCHED)
    first, second = ([images[i].astype(np.float32) for i in chosen] for images in (first, second))
    aspects = [1.0] if abs(np.log(shapes)) <= DISTORTED else [1.0, np.sqrt(shapes)]
    straight = np.eye(2)
    candidates: list[tuple[str | None, float, float, np.ndarray]] = [
        (None, aspect, scale, straight) for aspect in aspects for scale in SCALES
    ]
    candidates += [(turn, 1.0, 1.0, np.array(matrix, float)) for turn, matrix in TURNS.items()]
    small = [
        [cv2.resize(i, (COARSE_SIDE,) * 2, interpolation=cv2.INTER_AREA) for i in each] for each in (first, second)
    ]
    spectra = [edges_of(image) for image in small[0]]
    clarities = [_tried(spectra, small[1], _about_middle(*c[1:], COARSE_SIDE))[2] for c in candidates]
    turn, aspect, scale, matrix = candidates[int(np.argmax(clarities))]

    spectra = [edges_of(image) for image in first]
    given = _tried(spectra, second, np.eye(3))
    tried = []
    for fine in FINE_SCALES:
        about = _about_middle(aspect, scale * fine, matrix, SIDE)
        x, y, clarity = _tried(spectra, second, about)
        if turn is not None and fine == 1 and max(abs(x), abs(y)) < EXACT:
            x = y = 0.0  # nothing but a turn
        tried.append(View(translation(-x, -y) @ about, clarity, turn, float(1 / (aspect * scale * fine))))
    best = max(tried, key=lambda view: view.clarity)
    middle = tried[len(tried) // 2]
    if best.clarity < 1.05 * middle.clarity:
        best = middle  # round scales are likelier than those next to them
    return given, best if best.clarity >= max(CERTAIN, BETTER * given[2]) else None


def _about_middle(aspect: float, scale: float, matrix: np.ndarray, side: int) -> np.ndarray:
    """Return the 3×3 matrix that turns and scales a square image about its middle."""
    middle = np.full(2, (side - 1) / 2)
    linear = np.diag([aspect * scale, scale / aspect]) @ matrix
    return np.vstack([np.column_stack([linear, middle - linear @ middle]), [0, 0, 1]])


def _tried(
    spectra: Sequence[np.ndarray | None], images: Sequence[np.ndarray], matrix: np.ndarray
) -> tuple[float, float, float]:
    """Return the peak of pairs after warping their second images, see `find_peak`."""
    moved = []
    for image in images:
        side = image.shape[:2]
        border = float(np.median(image))
        moved.append(edges_of(cv2.warpAffine(image, matrix[:2], side, flags=cv2.INTER_LINEAR, borderValue=border)))
    return find_peak(correlate(spectra, moved))


def agree_on_shift(
    estimates: np.ndarray, tolerance: float
) -> tuple[tuple[float, float] | None, tuple[float, float] | None, int, int]:
    """Combine the shifts of many pairs into one common shift, if there is one.

    Args:
        estimates: Shape (N, 3): shift to the right, shift down, in any unit, and clarity (see `find_peak`).
        tolerance: Maximum difference from the median of an agreeing pair, in the same unit.

    Returns:
        The median shift (None unless three in ten pairs have a clear one, and six in ten of these, at least three,
        agree), half the distance of the quartiles (None if no shift is clear), the number of clear shifts, and the
        number of those that agree.
    """
    clear = estimates[estimates[:, 2] >= CLEAR, :2]
    if not len(clear):
        return None, None, 0, 0
    middle = np.median(clear, 0)
    agreeing = int((np.abs(clear - middle).max(1) <= tolerance).sum())
    quartiles = np.percentile(clear, (25, 75), axis=0)
    spread = tuple(((quartiles[1] - quartiles[0]) / 2).tolist())
    if len(clear) < 0.3 * len(estimates) or agreeing < max(3, 0.6 * len(clear)):
        return None, spread, len(clear), agreeing
    return tuple(middle.tolist()), spread, len(clear), agreeing


def remedy_for(
    change: np.ndarray, align: Sequence[Sequence[float]] | None, first_size: tuple[int, int], size: tuple[int, int]
) -> list[list[float]]:
    """Return the matrix for the key "align" of the data section that corrects the position of a modality.

    Its numbers have `DIGITS` digits: the last row of a homography is small, and errors there are multiplied by
    thousands of pixels.

    Args:
        change: The correction, 3×3, in pixels of the first modality's files.
        align: The matrix that now maps the modality's pixels to the first one's, or None.
        first_size: (height, width) of the first modality's files.
        size: (height, width) of the modality's files.
    """
    now = scaling(size, first_size) if align is None else np.array(align, float)
    return [[float(f"{round(value, 12):.{DIGITS}g}") for value in row] for row in (change @ now).tolist()]
