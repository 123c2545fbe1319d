"""Measure sampled pairs, and summarise every modality, alone and relative to the first."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from mwam_det.data.inspection.figures import AlignmentFigures, ModalityFigures, PairFigures, ViewFigures
from mwam_det.data.inspection.pixels import COLOUR_CHROMA, GREY_CHROMA, format_of, mean_chroma, same_picture
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
    remedy_for,
    translation,
)
from mwam_det.files.images import Header, read_header

PIXELS = 2**16
"""Approximate number of evenly spaced pixels on which statistics of a larger image rest."""

NARROW = 64
"""Levels between the 1st and the 99th percentile below which a file of more than 8 bits shows too little: a quarter of
what 8 bits can show."""

NARROW_IN_RANGE = 32
"""The same for files with the key "range", which was chosen and may be wide."""

VIEW_AT_TRAINING = 8.0
"""If edges agree without a change, displacement in pixels at the training size, beyond a shift, from which a different
field of view is reported: a cell of the finest grid."""

JPEG = (".jpg", ".jpeg")


class ReadModality(Protocol):
    """How a modality is read, as far as figures depend on it; attributes as of `Modality`."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def visible(self) -> bool:
        """Whether it is the camera's."""

    @property
    def value_range(self) -> tuple[float, float] | str | None:
        """Values that become 0 and 255."""

    @property
    def align(self) -> tuple[tuple[float, ...], ...] | None:
        """Matrix that maps its pixels to the first modality's."""


@dataclass(frozen=True)
class SeenFile:
    """Measurements of one file.

    Attributes:
        path: The file.
        kind: Bit depth and channels, like "16 bit, 1 channel".
        lost: Content that is not read, like "4 channels", or "".
        orientation: EXIF orientation, 1 for upright.
        chroma: Mean chroma, in levels of 255.
        histogram: Share of the pixels by level as training reads them, shape (256,).
        uniform: Whether it is a single value as training reads it.
        band: For files of more than 8 bits, levels of 255 at the 1st and 99th percentile of measured pixels, as
            training reads them; 0 in the file counts as not measured. Else None.
        values: The same for the values in the file, at percentiles 0.5 and 99.5.
        unmeasured: Share of pixels not measured in such a file, else 0.
        view: The image as training reads it, grey, stretched or aligned to the first modality, (SIDE, SIDE) uint8.
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
        """Return whether it has more than 8 bits and more than one value, but is read as fewer than `least` levels."""
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
    sampled, levels = stored[::step, ::step], read[::step, ::step]
    header = read_header(path)
    lost, channels = lost_of(path, header, stored.shape[2])
    band, values, unmeasured = _measured(sampled, levels)
    return SeenFile(
        path=path,
        kind=format_of(stored.dtype, channels),
        lost=lost,
        orientation=header.orientation,
        chroma=mean_chroma(sampled),
        histogram=np.bincount(levels.ravel(), minlength=256) / levels.size,
        uniform=not (levels != levels[:1, :1]).any() and not (read != read[:1, :1]).any(),
        band=band,
        values=values,
        unmeasured=unmeasured,
        view=view,
    )


def square(read: np.ndarray) -> np.ndarray:
    """Return an image (H, W, C), uint8, in grey and stretched to (SIDE, SIDE)."""
    shrinks = min(read.shape[:2]) >= SIDE
    small = cv2.resize(read, (SIDE, SIDE), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return small if small.ndim == 2 else small.mean(2).astype(np.uint8)


def lost_of(path: str, header: Header, read: int) -> tuple[str, int]:
    """Return the content of a file that is not read, and its number of channels.

    A constant channel, like unused transparency, does not count.

    Args:
        path: The file.
        header: Its header.
        read: Number of channels read.
    """
    if header.pages > 1:
        return f"{header.pages} pages", read
    known = header.mode is not None and not header.transparent  # CMYK is converted to three channels
    if (known and (header.mode == "CMYK" or header.bands <= read)) or path.lower().endswith(JPEG):
        return "", read
    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    channels = 1 if pixels is None or pixels.ndim == 2 else pixels.shape[2]
    if header.bands > max(channels, read) and header.mode not in ("LA", "La"):
        return f"{header.bands} channels", header.bands  # whether the others vary is not known: they are not decoded
    if pixels is None or channels <= 3:
        return "", read
    varies = any(bool((pixels[..., i] != pixels[0, 0, i]).any()) for i in range(3, channels))
    if header.mode in ("LA", "La"):  # decoded to four
        channels = 2
    return (f"{channels} channels" if varies else ""), channels


def _measured(
    stored: np.ndarray, read: np.ndarray
) -> tuple[tuple[float, float] | None, tuple[float, float] | None, float]:
    """Return band, values and unmeasured share of a file, see `SeenFile`."""
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
    """Measurements of one sampled pair. Lists have one entry per modality.

    Attributes:
        files: Each file.
        same_as: Indices of earlier modalities that show the same picture, see `same_picture`.
        shifts: Shift to the right and down relative to the first modality, in pixels of a view, and its clarity (see
            `find_peak`).
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
        same_as=[[i for i in range(index) if same_picture(views[i], views[index])] for index in range(len(views))],
        shifts=[find_peak(correlate(edges[:1], [spectrum])) for spectrum in edges],
    )


def pair_figures(
    modalities: Sequence[ReadModality],
    measured: Sequence[MeasuredPair],
    sizes: Sequence[Sequence[tuple[int, int]]],
    files: Mapping[str, Sequence[str]],
    imgsz: int,
    same_files: Mapping[str, Mapping[str, Sequence[int]]],
    compared: int | None = None,
    views: bool = True,
    aligns: bool = True,
) -> PairFigures:
    """Summarise the files of a dataset.

    Args:
        modalities: The modalities.
        measured: The sampled pairs.
        sizes: The (height, width) of every modality's file, for all pairs.
        files: The files of each modality, for all pairs.
        imgsz: Training size, longer side in pixels.
        same_files: By modality and by each earlier one, the indices of pairs whose two files have the same bytes.
        compared: Number of pairs compared for `same_files`; all by default.
        views: Whether labels have positions in the image, so that views must agree.
        aligns: See `PairFigures`.
    """
    first = files[modalities[0].name]
    return PairFigures(
        imgsz=imgsz,
        visible=next((modality.name for modality in modalities if modality.visible), None),
        pairs=len(sizes),
        sampled=len(measured),
        modalities={
            modality.name: _modality_figures(measured, index, modality, sizes, files[modality.name])
            for index, modality in enumerate(modalities)
        },
        alignment={
            modality.name: _alignment_figures(
                measured,
                index,
                modalities,
                sizes,
                imgsz,
                {other: [first[i] for i in same] for other, same in same_files[modality.name].items()},
                len(sizes) if compared is None else compared,
                views,
            )
            for index, modality in enumerate(modalities)
            if index
        },
        aligns=aligns,
    )


def _modality_figures(
    measured: Sequence[MeasuredPair],
    index: int,
    modality: ReadModality,
    sizes: Sequence[Sequence[tuple[int, int]]],
    files: Sequence[str],
) -> ModalityFigures:
    """Summarise the modality at `index` in the stack; arguments as of `pair_figures`."""
    seen = [pair.files[index] for pair in measured]
    cumulated = np.cumsum(np.mean([file.histogram for file in seen], 0))
    levels = np.searchsorted(cumulated, cumulated[-1] * np.array([0.01, 0.5, 0.99]))
    chroma = [file.chroma for file in seen]
    least = NARROW if modality.value_range is None else NARROW_IN_RANGE
    narrow = [file for file in seen if file.is_narrow(least)]
    shaped = [] if modality.align is not None else other_shapes(sizes, index)
    reported = set(shaped if len(shaped) <= 0.5 * len(sizes) else ())  # for their shape
    odd = [i for i in unlike_others(sizes, index) if i not in reported]
    return ModalityFigures(
        sampled=len(measured),
        sizes=dict(Counter(_size(pair[index]) for pair in sizes).most_common()),
        formats=dict(Counter(file.kind for file in seen).most_common()),
        other_size=0 if modality.align is not None else sum(pair[0] != pair[index] for pair in sizes),
        other_shape=len(shaped),
        odd={files[i]: _size(sizes[i][index]) for i in odd},
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
                    f"{files[i]} ({_size(sizes[i][index])} px, its partner {_size(sizes[i][0])})" for i in shaped[:3]
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
    """Return the smallest and largest value, rounded to two digits of their difference."""
    low, high = min(lows), max(highs)
    unit = 10.0 ** (math.floor(math.log10(high - low)) - 1) if high > low else 1.0
    low, high = math.floor(low / unit) * unit, math.ceil(high / unit) * unit
    low, high = (float(f"{value:.6g}") for value in (low, max(high, low + unit)))
    return (int(low), int(high)) if unit >= 1 else (low, high)


def _alignment_figures(
    measured: Sequence[MeasuredPair],
    index: int,
    modalities: Sequence[ReadModality],
    sizes: Sequence[Sequence[tuple[int, int]]],
    imgsz: int,
    same_files: Mapping[str, Sequence[str]],
    compared: int,
    views: bool,
) -> AlignmentFigures:
    """Summarise the modality at `index` in the stack relative to the first; arguments as of `pair_figures`.

    `same_files` lists, by earlier modality, the first modality's files of pairs whose two files have the same bytes.
    """
    height, width = (float(side) for side in np.median([pair[0] for pair in sizes], 0))
    shifts = np.array([pair.shifts[index] for pair in measured]) * [width / SIDE, height / SIDE, 1]
    shift, spread, edges_agree, shifts_agree = agree_on_shift(shifts, tolerance=4 * max(height, width) / imgsz)
    visible = next((i for i, modality in enumerate(modalities) if modality.visible), None)
    swapped = []
    if visible is not None and visible != index:
        swapped = [
            pair.files[0].path
            for pair in measured
            if pair.files[visible].chroma < GREY_CHROMA and pair.files[index].chroma > COLOUR_CHROMA
        ]
    apart = [pair.files[0].path for pair in measured if pair.files[index].orientation != pair.files[0].orientation]
    same = {
        modalities[other].name: [pair.files[0].path for pair in measured if other in pair.same_as[index]]
        for other in range(index)
    }
    clarity, view = 0.0, None
    if views:
        ratio = float(np.median([(pair[index][1] * pair[0][0]) / (pair[index][0] * pair[0][1]) for pair in sizes]))
        (x, y, clarity), view = find_view(
            [pair.files[0].view for pair in measured], [pair.files[index].view for pair in measured], ratio
        )
        if shift is None and clarity >= CERTAIN and edges_agree < 0.3 * len(measured):  # clear only for all together
            shift = (x * width / SIDE, y * height / SIDE)
        shift = shift and (round(shift[0], 2), round(shift[1], 2))
        if view is not None and view.turn is None and clarity >= CLEAR and abs(math.log(ratio)) <= DISTORTED:
            unit = max(height, width) / imgsz  # pixels of a file per pixel of training
            if view.displacement((height, width), shift=False) / unit < VIEW_AT_TRAINING:
                view = None  # a shift at most
    change, remedy = None, None
    if view is not None:
        change = view.in_pixels(sizes[0][0])
    elif shift is not None:
        change = translation(-shift[0], -shift[1])
    if change is not None and len({(pair[0], pair[index]) for pair in sizes}) == 1:
        remedy = remedy_for(change, modalities[index].align, sizes[0][0], sizes[0][index])
    return AlignmentFigures(
        sampled=len(measured),
        compared=compared,
        same_file={name: len(files) for name, files in same_files.items() if files},
        same_picture={name: len(files) for name, files in same.items() if files},
        swapped=len(swapped),
        turned_apart=len(apart),
        looked=views,
        edges_agree=edges_agree,
        shifts_agree=shifts_agree,
        shift=shift,
        spread=spread,
        clarity=clarity,
        view=None
        if view is None
        else ViewFigures(view.turn, view.scale, view.displacement((height, width)), view.clarity),
        remedy=remedy,
        examples=_examples(
            {
                **{f"same_file {name}": files for name, files in same_files.items()},
                **{f"same_picture {name}": files for name, files in same.items()},
                "swapped": swapped,
                "turned_apart": apart,
            }
        ),
    )


def _examples(files: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    return {what: list(names[:3]) for what, names in files.items() if names}
