"""How the view of one modality lies in that of another, told by the edges that both show.

What is warm is not what is bright, so contrast may be reversed: edges are compared, by phase correlation. A peak of it
is *clear* by how far it rises above everything else on the same surface: two images of different scenes have peaks too,
at places of chance, but none that clear. Cameras of a rig stand still against each other, so the surfaces of several
pairs are averaged: chance averages out, and what is left is the place that all have in common.
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
"""Views are compared as squares of this side, in pixels: images are stretched to it, which moves no place in them."""

COARSE_SIDE = 128
"""Side at which scales and turns are searched, where a scale may be off by 5 % and still be recognised."""

CLEAR = 9.0
"""Clarity of a peak from which it is no chance. Of pairs of different scenes, from five sets, none has more than 8, and
of pairs of one scene nine in ten have more than 9."""

CERTAIN = 10.0
"""Clarity from which a view other than the given one is believed: of a hundred that are tried, one may look clear."""

BETTER = 1.3
"""So many times as clear as the given view another one must be to be believed."""

SEARCHED = 16
"""Pairs by which views are searched at most."""

SCALES = np.exp(0.05 * np.arange(-18, 19))
"""Sizes of what both show, in one over the other, that are tried: from 0.41 to 2.46."""

FINE_SCALES = np.exp(0.01 * np.arange(-3, 4))
"""Then these about the best of them."""

TURNS = {
    "is turned by 90° clockwise": ((0, 1), (-1, 0)),
    "is turned by 180°": ((-1, 0), (0, -1)),
    "is turned by 90° counter-clockwise": ((0, -1), (1, 0)),
    "is mirrored left to right": ((-1, 0), (0, 1)),
    "is mirrored upside down": ((1, 0), (0, -1)),
    "is transposed": ((0, 1), (1, 0)),
    "is transposed and turned by 180°": ((0, -1), (-1, 0)),
}
"""How an image can lie that was not turned upright as its partner was, and the matrix that takes it back."""

EXACT = 1.5
"""A turn that leaves a shift of fewer pixels of a view is a turn alone, as a camera that was held upright gives it."""

DIGITS = 9
"""Significant digits of the numbers of a matrix that is offered."""


@dataclass(frozen=True)
class View:
    """Where the second modality's view lies in the first one's.

    Attributes:
        matrix: Maps its pixels to the first one's where they should be, 3×3, in squares of `SIDE` pixels.
        clarity: How clear it is.
        turn: How it lies now, one of `TURNS`, or None if it is upright.
        scale: Size of what both show in the second over that in the first, in the width as the views are stretched.
    """

    matrix: np.ndarray
    clarity: float
    turn: str | None
    scale: float

    def displacement(self, size: tuple[float, float], shift: bool = True) -> float:
        """Return how far off what the second shows is now, the root of the mean square over an image.

        Args:
            size: (height, width) of the first modality's images, in any pixels; the result is in the same.
            shift: Whether the mean counts, by which all is off alike.
        """
        height, width = size
        x, y = np.meshgrid(np.linspace(0, SIDE - 1, 9), np.linspace(0, SIDE - 1, 9))
        points = np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
        moved = (self.matrix @ points - points)[:2] * [[width / SIDE], [height / SIDE]]
        if not shift:
            moved -= moved.mean(1, keepdims=True)
        return float(np.sqrt((moved**2).sum(0).mean()))


def edges_of(image: np.ndarray) -> np.ndarray | None:
    """Return the spectrum of an image's edges, or None if it has none.

    A blur removes the grid of JPEG blocks, which all images have at the same place, and a Hanning window the borders.

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
    """Return the mean phase correlation of pairs, no shift in the middle; None if no pair has edges in both.

    Args:
        first: The spectrum of the edges of each pair's first image, see `edges_of`.
        second: Likewise of the second one.
    """
    crossed = [a.conj() * b for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    if not crossed:
        return None
    whitened = np.mean([product / (np.abs(product) + 1e-9) for product in crossed], 0)
    height = whitened.shape[0]
    surface = np.fft.fftshift(np.fft.irfft2(whitened, s=(height, height)))
    return cv2.GaussianBlur(surface.astype(np.float32), (0, 0), 1)


def find_peak(surface: np.ndarray | None) -> tuple[float, float, float]:
    """Return where a surface of `correlate` peaks, right of and below its middle in pixels, and how clear that is.

    Clarity is the height above the median, in standard deviations as the median absolute deviation estimates them.
    """
    if surface is None:
        return 0.0, 0.0, 0.0
    row, column = np.unravel_index(surface.argmax(), surface.shape)
    ground = surface[::2, ::2]  # neighbours are alike
    median = np.median(ground)
    deviation = 1.4826 * np.median(np.abs(ground - median))
    clarity = float((surface[row, column] - median) / max(deviation, 1e-9))
    height, width = surface.shape
    x = column + _vertex(surface[row, (column + np.arange(-1, 2)) % width]) - width // 2
    y = row + _vertex(surface[(row + np.arange(-1, 2)) % height, column]) - height // 2
    return float(x), float(y), clarity


def _vertex(values: np.ndarray) -> float:
    """Return where the parabola through three values at −1, 0 and 1 peaks; that in the middle is the largest."""
    left, middle, right = values.astype(float)
    curvature = left - 2 * middle + right
    return 0.0 if curvature == 0 else 0.5 * (left - right) / curvature


def find_view(
    first: Sequence[np.ndarray], second: Sequence[np.ndarray], shapes: float = 1.0
) -> tuple[tuple[float, float, float], View | None]:
    """Search the scale, turn and shift by which the edges of pairs agree best.

    Args:
        first: The first image of each pair, shape (SIDE, SIDE), uint8.
        second: The second one, stretched likewise.
        shapes: Ratio of width to height of the second modality's files over that of the first one's. If they differ,
            both are tried: that the second fits as it is stretched, and that its pixels are as square as the first's.

    Returns:
        The shift of the second modality as its images lie, and how clear that is, told by all pairs together (see
        `find_peak`); and the view, or None if nothing is certain or nothing much clearer than that.
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
        back = np.array([[1, 0, -x], [0, 1, -y], [0, 0, 1.0]])
        tried.append(View(back @ about, clarity, turn, float(1 / (aspect * scale * fine))))
    best = max(tried, key=lambda view: view.clarity)
    middle = tried[len(tried) // 2]
    if best.clarity < 1.05 * middle.clarity:
        best = middle  # what was tried at first is likelier than a hair beside it
    return given, best if best.clarity >= max(CERTAIN, BETTER * given[2]) else None


def _about_middle(aspect: float, scale: float, matrix: np.ndarray, side: int) -> np.ndarray:
    """Return the 3×3 matrix that turns and scales a square image about its middle."""
    middle = np.full(2, (side - 1) / 2)
    linear = np.diag([aspect * scale, scale / aspect]) @ matrix
    return np.vstack([np.column_stack([linear, middle - linear @ middle]), [0, 0, 1]])


def _tried(
    spectra: Sequence[np.ndarray | None], images: Sequence[np.ndarray], matrix: np.ndarray
) -> tuple[float, float, float]:
    """Return the peak of pairs whose second images are brought to another place; see `find_peak`."""
    moved = []
    for image in images:
        side = image.shape[:2]
        border = float(np.median(image))
        moved.append(edges_of(cv2.warpAffine(image, matrix[:2], side, flags=cv2.INTER_LINEAR, borderValue=border)))
    return find_peak(correlate(spectra, moved))


def agree_on_shift(
    estimates: np.ndarray, tolerance: float
) -> tuple[tuple[float, float] | None, tuple[float, float] | None, int, int]:
    """Join the shifts of many pairs into one that a dataset has throughout, or none.

    Args:
        estimates: Shape (N, 3): shift to the right, shift down, in any pixels, and clarity (see `find_peak`).
        tolerance: How far from the median a pair may be and still agree, in the same pixels.

    Returns:
        The median shift (None unless three in ten pairs tell one, and six in ten of these, at least three, agree), half
        the distance of the quartiles (None where no pair tells a shift), how many pairs tell one, and how many of them
        agree.
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


def shift_remedy(
    align: Sequence[Sequence[float]] | None,
    shift: tuple[float, float],
    first_size: tuple[int, int],
    size: tuple[int, int],
) -> list[list[float]]:
    """Return the matrix for the key "align" of the data section that takes a shift back.

    Args:
        align: The matrix that maps the shifted modality's pixels to the first one's now, or None.
        shift: How far it lies to the right of and below the first, in pixels of the first modality's files.
        first_size: (height, width) of the first modality's files.
        size: (height, width) of its own.
    """
    back = np.array([[1, 0, -shift[0]], [0, 1, -shift[1]], [0, 0, 1]])
    return _remedy(back, align, first_size, size)


def view_remedy(
    align: Sequence[Sequence[float]] | None, view: View, first_size: tuple[int, int], size: tuple[int, int]
) -> list[list[float]]:
    """Return the matrix for the key "align" that brings a modality's view to its place in the first one's.

    Args:
        align: The matrix that maps its pixels to the first one's now, or None.
        view: Where its view lies.
        first_size: (height, width) of the first modality's files.
        size: (height, width) of its own.
    """
    squares = scaling(first_size, (SIDE, SIDE))
    return _remedy(np.linalg.inv(squares) @ view.matrix @ squares, align, first_size, size)


def _remedy(
    change: np.ndarray, align: Sequence[Sequence[float]] | None, first_size: tuple[int, int], size: tuple[int, int]
) -> list[list[float]]:
    """Return a change of the first modality's pixels on top of how a modality is mapped to them now.

    Its numbers have `DIGITS` digits: the last row of a homography is small, and what is lost there is multiplied by
    thousands of pixels.
    """
    now = scaling(size, first_size) if align is None else np.array(align, float)
    return [[float(f"{round(value, 12):.{DIGITS}g}") for value in row] for row in (change @ now).tolist()]
