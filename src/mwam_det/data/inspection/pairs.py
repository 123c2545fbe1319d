"""What the sampled pairs show: each one measured, then summed up for every modality, alone and beside the first."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from mwam_det.data.inspection.figures import AlignmentFigures, ModalityFigures, PairFigures, ViewFigures
from mwam_det.data.inspection.pixels import COLOUR_CHROMA, GREY_CHROMA, mean_chroma, same_picture
from mwam_det.data.inspection.sizes import DISTORTED, other_shapes, unlike_others
from mwam_det.data.inspection.views import (
    CERTAIN,
    CLEAR,
    SIDE,
    agree_on_shift,
    correlate,
    edges_of,
    find_peak,
    find_view,
    shift_remedy,
    view_remedy,
)
from mwam_det.files.images import Header, read_header

PIXELS = 2**16
"""Statistics of a larger image rest on about so many of its pixels, evenly spaced."""

NARROW = 64
"""Levels between the 1st and the 99th percentile of a file of more than 8 bits below which it is hardly told apart: a
quarter of what a file of 8 bits can show."""

NARROW_IN_RANGE = 32
"""The same where the data section says by a range which values become 0 and 255: that is a choice, and may be wide."""

VIEW_AT_TRAINING = 8.0
"""Where edges agree as they lie, another field of view is told from so many pixels of displacement at the training size
on, beside a shift: a cell of the finest grid."""

JPEG = (".jpg", ".jpeg")


class ReadModality(Protocol):
    """What figures depend on of how a modality is read; attributes as of `Modality`."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def visible(self) -> bool:
        """Whether it is the camera's."""

    @property
    def value_range(self) -> tuple[float, float] | str | None:
        """Which values become 0 and 255."""

    @property
    def align(self) -> tuple[tuple[float, ...], ...] | None:
        """The matrix that maps its pixels to the first one's."""


@dataclass(frozen=True)
class SeenFile:
    """What one file shows.

    Attributes:
        path: The file.
        kind: Bit depth and channels, like "16 bit, 1 channel".
        lost: What of it is not read, like "4 channels", or "".
        orientation: How EXIF says that it is to be turned upright, 1 for not at all.
        chroma: Mean chroma, in levels of 255.
        histogram: Share of the pixels by level as training reads them, shape (256,).
        uniform: Whether it is one even value as training reads it.
        band: Levels of 255 at the 1st and 99th percentile of what was measured, for files of more than 8 bits, as
            training reads them; what is 0 in the file counts as not measured. Else None.
        values: The same values as the file holds them, at percentiles 0.5 and 99.5.
        unmeasured: Share of the pixels of such a file that counts as not measured, else 0.
        view: The image as training reads it, grey, stretched or aligned to the first modality's, (SIDE, SIDE) uint8.
    """

    path: str
    kind: str
    lost: str
    orientation: int
    chroma: float
    histogram: np.ndarray
    uniform: bool
    band: tuple[float, float] | None
    values: tuple[float, float] | None
    unmeasured: float
    view: np.ndarray

    def is_narrow(self, least: float) -> bool:
        """Return whether it holds more than 8 bits, and more than one value, and is read as fewer levels than `least`.

        Args:
            least: Levels of 255.
        """
        if self.band is None or self.values is None or self.values[0] == self.values[1]:
            return False
        return self.band[1] - self.band[0] < least


def see_file(path: str, stored: np.ndarray, read: np.ndarray, view: np.ndarray) -> SeenFile:
    """Measure one file.

    Args:
        path: The file.
        stored: Its values as they are, upright and without transparency, shape (H, W, 1 or 3).
        read: The image as training reads it, shape (H, W, C_m), uint8.
        view: The same, see `SeenFile`.
    """
    step = max(1, math.isqrt(stored.shape[0] * stored.shape[1] // PIXELS))
    thin, levels = stored[::step, ::step], read[::step, ::step]
    floating = " float" if stored.dtype.kind == "f" else ""
    header = read_header(path)
    lost, channels = lost_of(path, header, stored.shape[2])
    plural = "s" if channels > 1 else ""
    band, values, unmeasured = _measured(thin, levels)
    return SeenFile(
        path=path,
        kind=f"{8 * stored.dtype.itemsize} bit{floating}, {channels} channel{plural}",
        lost=lost,
        orientation=header.orientation,
        chroma=mean_chroma(thin),
        histogram=np.bincount(levels.ravel(), minlength=256) / levels.size,
        uniform=not (levels != levels[:1, :1]).any() and not (read != read[:1, :1]).any(),
        band=band,
        values=values,
        unmeasured=unmeasured,
        view=view,
    )


def square(read: np.ndarray) -> np.ndarray:
    """Return an image, shape (H, W, C), uint8, in grey and stretched to (SIDE, SIDE)."""
    shrinks = min(read.shape[:2]) >= SIDE
    small = cv2.resize(read, (SIDE, SIDE), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return small if small.ndim == 2 else small.mean(2).astype(np.uint8)


def lost_of(path: str, header: Header, read: int) -> tuple[str, int]:
    """Say what of a file is not read, and how many channels it has.

    A channel that is the same everywhere, like the transparency of a picture that has none, is no loss.

    Args:
        path: The file.
        header: What it states.
        read: How many channels are read.
    """
    if header.pages > 1:
        return f"{header.pages} pages", read
    known = header.mode is not None and not header.transparent  # four colours for print are turned into three
    if known or path.lower().endswith(JPEG):
        return "", read
    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.ndim == 2 or pixels.shape[2] <= 3:
        return "", read
    channels = pixels.shape[2]
    varies = any(bool((pixels[..., i] != pixels[0, 0, i]).any()) for i in range(3, channels))
    if header.mode in ("LA", "La"):  # is decoded to four
        channels = 2
    return (f"{channels} channels" if varies else ""), channels


def _measured(
    stored: np.ndarray, read: np.ndarray
) -> tuple[tuple[float, float] | None, tuple[float, float] | None, float]:
    """Return band, values and the share that was not measured of a file, see `SeenFile`."""
    if stored.dtype.itemsize == 1:
        return None, None, 0.0
    values, levels = stored.max(2), read.max(2)
    counted = (values != 0) & np.isfinite(values)
    if not counted.any():
        return None, None, 1.0
    return (
        tuple(np.percentile(levels[counted], (1, 99)).tolist()),
        tuple(np.percentile(values[counted], (0.5, 99.5)).tolist()),
        1 - float(counted.mean()),
    )


@dataclass(frozen=True)
class MeasuredPair:
    """What one sampled pair shows. Lists have an entry a modality.

    Attributes:
        files: Each file.
        same_as: Numbers of the modalities before it whose picture it is, see `same_picture`.
        shifts: How far it lies to the right of and below the first modality, in pixels of a view, and how clear that
            is (see `find_peak`).
    """

    files: list[SeenFile]
    same_as: list[list[int]]
    shifts: list[tuple[float, float, float]]


def compare_files(files: Sequence[SeenFile]) -> MeasuredPair:
    """Compare the files of a pair, the first modality's first."""
    views = [seen.view.astype(np.float32) for seen in files]
    edges = [edges_of(view) for view in views]
    return MeasuredPair(
        files=list(files),
        same_as=[[i for i in range(place) if same_picture(views[i], views[place])] for place in range(len(views))],
        shifts=[find_peak(correlate(edges[:1], [own])) for own in edges],
    )


def pair_figures(
    modalities: Sequence[ReadModality],
    measured: Sequence[MeasuredPair],
    sizes: Sequence[Sequence[tuple[int, int]]],
    files: Mapping[str, Sequence[str]],
    imgsz: int,
    same_files: Mapping[str, Mapping[str, Sequence[int]]],
    visible: str | None,
    compared: int | None = None,
    views: bool = True,
    aligns: bool = True,
) -> PairFigures:
    """Sum up what the files of a dataset show.

    Args:
        modalities: The modalities.
        measured: The sampled pairs.
        sizes: By pair, of all pairs, the (height, width) of every modality's file.
        files: By modality, its file of every pair.
        imgsz: Training size, longer side in pixels.
        same_files: By modality and by each one before it, the pairs in which both hold the same bytes.
        visible: The modality that is meant to be the camera's, or None.
        compared: How many pairs were compared for that; all if left out.
        views: Whether labels have places in the image, so that it matters where views lie.
        aligns: See `PairFigures`.
    """
    first = files[modalities[0].name]
    return PairFigures(
        imgsz=imgsz,
        visible=visible,
        pairs=len(sizes),
        sampled=len(measured),
        modalities={
            modality.name: modality_figures(measured, place, modality, sizes, files[modality.name])
            for place, modality in enumerate(modalities)
        },
        alignment={
            modality.name: alignment_figures(
                measured,
                place,
                modalities,
                sizes,
                imgsz,
                {other: [first[i] for i in same] for other, same in same_files[modality.name].items()},
                len(sizes) if compared is None else compared,
                views,
            )
            for place, modality in enumerate(modalities)
            if place
        },
        aligns=aligns,
    )


def modality_figures(
    measured: Sequence[MeasuredPair],
    place: int,
    modality: ReadModality,
    sizes: Sequence[Sequence[tuple[int, int]]],
    files: Sequence[str],
) -> ModalityFigures:
    """Sum up one modality.

    Args:
        measured: The sampled pairs.
        place: Number of the modality in the stack, from 0.
        modality: The modality.
        sizes: By pair, of all pairs, the (height, width) of every modality's file.
        files: By pair, of all pairs, the modality's file.
    """
    seen = [pair.files[place] for pair in measured]
    cumulated = np.cumsum(np.mean([file.histogram for file in seen], 0))
    levels = np.searchsorted(cumulated, cumulated[-1] * np.array([0.01, 0.5, 0.99]))
    chroma = [file.chroma for file in seen]
    least = NARROW if modality.value_range is None else NARROW_IN_RANGE
    narrow = [file for file in seen if file.is_narrow(least)]
    shaped = [] if modality.align is not None else other_shapes(sizes, place)
    named = set(shaped if len(shaped) <= 0.5 * len(sizes) else ())  # by their shape
    odd = [i for i in unlike_others(sizes, place) if i not in named]
    return ModalityFigures(
        sampled=len(measured),
        sizes=dict(Counter(_size(pair[place]) for pair in sizes).most_common()),
        formats=dict(Counter(file.kind for file in seen).most_common()),
        other_size=0 if modality.align is not None else sum(pair[0] != pair[place] for pair in sizes),
        other_shape=len(shaped),
        odd={files[i]: _size(sizes[i][place]) for i in odd},
        turned=sum(file.orientation > 1 for file in seen),
        lost=dict(Counter(file.lost for file in seen if file.lost).most_common()),
        coloured=sum(value > COLOUR_CHROMA for value in chroma),
        chroma=float(np.median(chroma)),
        levels=(float(levels[0]), float(levels[1]), float(levels[2])),
        uniform=sum(file.uniform and not file.is_narrow(least) for file in seen),
        deep=sum(file.band is not None for file in seen),
        narrow=len(narrow),
        band=tuple(np.median([file.band for file in narrow], 0).tolist()) if narrow else None,
        values=_round_outwards(*zip(*(file.values for file in narrow), strict=True)) if narrow else None,
        unmeasured=float(np.median([file.unmeasured for file in narrow])) if narrow else 0.0,
        value_range=modality.value_range,
        examples=_examples(
            {
                "other_shape": [
                    f"{files[i]} ({_size(sizes[i][place])} px, its partner {_size(sizes[i][0])})" for i in shaped[:3]
                ],
                "uniform": [file.path for file in seen if file.uniform and not file.is_narrow(least)],
                "lost": [file.path for file in seen if file.lost],
                "narrow": [file.path for file in narrow],
            }
        ),
    )


def _size(size: tuple[int, int]) -> str:
    return f"{size[1]}×{size[0]}"


def _round_outwards(lows: Sequence[float], highs: Sequence[float]) -> tuple[float, float]:
    """Return the smallest and largest value as round numbers, two digits of what lies between; integers as such."""
    low, high = min(lows), max(highs)
    unit = 10.0 ** (math.floor(math.log10(high - low)) - 1) if high > low else 1.0
    low, high = math.floor(low / unit) * unit, math.ceil(high / unit) * unit
    low, high = (float(f"{value:.6g}") for value in (low, max(high, low + unit)))
    return (int(low), int(high)) if unit >= 1 else (low, high)


def alignment_figures(
    measured: Sequence[MeasuredPair],
    place: int,
    modalities: Sequence[ReadModality],
    sizes: Sequence[Sequence[tuple[int, int]]],
    imgsz: int,
    same_files: Mapping[str, Sequence[str]],
    compared: int,
    views: bool = True,
) -> AlignmentFigures:
    """Sum up what a modality is beside the first.

    Args:
        measured: The sampled pairs.
        place: Number of the modality in the stack, from 1.
        modalities: All modalities.
        sizes: By pair, of all pairs, the (height, width) of every modality's file.
        imgsz: Training size, longer side in pixels.
        same_files: By modality before it, files of the first modality of the pairs in which both hold the same bytes.
        compared: How many pairs were compared for that.
        views: See `pair_figures`.
    """
    height, width = (float(side) for side in np.median([pair[0] for pair in sizes], 0))
    first = [pair.files[0].path for pair in measured]
    shifts = np.array([pair.shifts[place] for pair in measured]) * [width / SIDE, height / SIDE, 1]
    shift, spread, edges_agree, shifts_agree = agree_on_shift(shifts, tolerance=4 * max(height, width) / imgsz)
    visible = next((p for p, modality in enumerate(modalities) if modality.visible), None)
    swapped = []
    if visible is not None and visible != place:
        swapped = [
            pair.files[0].path
            for pair in measured
            if pair.files[visible].chroma < GREY_CHROMA and pair.files[place].chroma > COLOUR_CHROMA
        ]
    same = {
        modalities[other].name: [
            file for file, pair in zip(first, measured, strict=True) if other in pair.same_as[place]
        ]
        for other in range(place)
    }
    one_size = len({(pair[0], pair[place]) for pair in sizes}) == 1
    clarity, view = 0.0, None
    if views:
        ratio = float(np.median([(pair[place][1] * pair[0][0]) / (pair[place][0] * pair[0][1]) for pair in sizes]))
        (x, y, clarity), view = find_view(
            [pair.files[0].view for pair in measured], [pair.files[place].view for pair in measured], ratio
        )
        if shift is None and clarity >= CERTAIN and edges_agree < 0.3 * len(measured):  # told by all together alone
            shift = (x * width / SIDE, y * height / SIDE)
        shift = shift and (round(shift[0], 2), round(shift[1], 2))  # as exact as it is told
        if view is not None and view.turn is None and clarity >= CLEAR and abs(math.log(ratio)) <= DISTORTED:
            unit = max(height, width) / imgsz  # pixels of a file in one of training
            if view.displacement((height, width), shift=False) / unit < VIEW_AT_TRAINING:
                view = None  # it is shifted at most
    remedy = None
    if one_size and view is not None:
        remedy = view_remedy(modalities[place].align, view, sizes[0][0], sizes[0][place])
    elif one_size and shift is not None:
        remedy = shift_remedy(modalities[place].align, shift, sizes[0][0], sizes[0][place])
    return AlignmentFigures(
        sampled=len(measured),
        compared=compared,
        same_file={name: len(files) for name, files in same_files.items() if files},
        same_picture={name: len(files) for name, files in same.items() if files},
        swapped=len(swapped),
        looked=views,
        edges_agree=edges_agree,
        shifts_agree=shifts_agree,
        shift=shift,
        spread=spread,
        clarity=clarity,
        view=(
            None
            if view is None
            else ViewFigures(view.turn, view.scale, view.displacement((height, width)), view.clarity)
        ),
        remedy=remedy,
        examples=_examples(
            {
                **{f"same_file {name}": files for name, files in same_files.items()},
                **{f"same_picture {name}": files for name, files in same.items()},
                "swapped": swapped,
            }
        ),
    )


def _examples(files: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    return {what: list(names[:3]) for what, names in files.items() if names}
