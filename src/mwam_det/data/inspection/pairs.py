"""What the sampled pairs show: each one measured, then summed up for every modality, alone and beside the first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mwam_det.data.dataset import PairedDataset
from mwam_det.data.inspection.figures import AlignmentFigures, ModalityFigures
from mwam_det.data.inspection.pixels import COLOUR_CHROMA, GREY_CHROMA, mean_chroma, same_picture
from mwam_det.data.inspection.shift import agree_on_shift, estimate_shift, shift_remedy
from mwam_det.data.layout import Modality
from mwam_det.data.reading import AS_STORED, decode


@dataclass(frozen=True)
class MeasuredPair:
    """What one sampled pair shows. Lists have an entry a modality.

    Attributes:
        file: The file of the first modality.
        stack: The pair as training reads it, shape (H, W, ΣC_m), uint8.
        formats: Bit depth and channels of the file, like "16 bit, 1 channel".
        chroma: Mean chroma of the file, in levels of 255.
        histograms: Number of values by level as training reads them, shape (256,).
        uniform: Whether it is one even value as training reads it.
        same_as_first: Whether it is the picture of the first modality.
        shifts: How far it lies to the right of and below the first modality, in pixels of the first modality's file,
            and the response (see `estimate_shift`).
    """

    file: str
    stack: np.ndarray
    formats: list[str]
    chroma: list[float]
    histograms: list[np.ndarray]
    uniform: list[bool]
    same_as_first: list[bool]
    shifts: list[tuple[float, float, float]]


def measure_pair(dataset: PairedDataset, index: int) -> MeasuredPair:
    """Measure one pair: its files as they are, and the stack as training reads it."""
    image = dataset.im_files[index]
    formats, chroma = [], []
    for modality in dataset.modalities:
        file = dataset.partners[image][modality.name][0]
        pixels = decode(file, AS_STORED)
        channels = pixels.shape[2]
        floating = " float" if pixels.dtype.kind == "f" else ""
        plural = "s" if channels > 1 else ""
        formats.append(f"{8 * pixels.dtype.itemsize} bit{floating}, {channels} channel{plural}")
        chroma.append(mean_chroma(pixels))
    stack, original, target = dataset.load_image(index)
    views = [stack[..., modality.slice] for modality in dataset.modalities]
    greys = [view.mean(2, dtype=np.float32) for view in views]
    scale = np.array([original[1] / target[1], original[0] / target[0], 1.0])
    return MeasuredPair(
        file=image,
        stack=stack,
        formats=formats,
        chroma=chroma,
        histograms=[np.bincount(view.ravel(), minlength=256) for view in views],
        uniform=[bool((view == view[:1, :1]).all()) for view in views],
        same_as_first=[same_picture(greys[0], grey) for grey in greys],
        shifts=[tuple((np.array(estimate_shift(greys[0], grey)) * scale).tolist()) for grey in greys],
    )


def modality_figures(
    measured: Sequence[MeasuredPair], place: int, modality: Modality, sizes: Sequence[Sequence[tuple[int, int]]]
) -> ModalityFigures:
    """Sum up one modality.

    Args:
        measured: The sampled pairs.
        place: Number of the modality in the stack, from 0.
        modality: The modality.
        sizes: By pair, of all pairs, the (height, width) of every modality's file.
    """
    cumulated = np.cumsum(np.sum([seen.histograms[place] for seen in measured], 0))
    levels = np.searchsorted(cumulated, cumulated[-1] * np.array([0.01, 0.5, 0.99]))
    chroma = [seen.chroma[place] for seen in measured]
    ratios = [(pair[0][1] / pair[0][0]) / (pair[place][1] / pair[place][0]) for pair in sizes]
    return ModalityFigures(
        sampled=len(measured),
        sizes=dict(Counter(f"{pair[place][1]}×{pair[place][0]}" for pair in sizes).most_common()),
        formats=dict(Counter(seen.formats[place] for seen in measured).most_common()),
        other_size=sum(pair[0] != pair[place] for pair in sizes),
        other_shape=sum(bool(abs(np.log(ratio)) > 0.02) for ratio in ratios),
        coloured=sum(value > COLOUR_CHROMA for value in chroma),
        chroma=float(np.median(chroma)),
        levels=tuple(float(level) for level in levels),
        uniform=sum(seen.uniform[place] for seen in measured),
        value_range=modality.value_range,
    )


def alignment_figures(
    measured: Sequence[MeasuredPair],
    place: int,
    modalities: Sequence[Modality],
    sizes: Sequence[Sequence[tuple[int, int]]],
    imgsz: int,
    same_files: Sequence[str],
) -> AlignmentFigures:
    """Sum up what a modality is beside the first.

    Args:
        measured: The sampled pairs.
        place: Number of the modality in the stack, from 1.
        modalities: All modalities.
        sizes: By pair, of all pairs, the (height, width) of every modality's file.
        imgsz: Training size, longer side in pixels.
        same_files: Files of the first modality whose partner holds the same bytes.
    """
    longest = np.median([max(pair[0]) for pair in sizes])
    shifts = np.array([seen.shifts[place] for seen in measured])
    shift, spread, edges_agree, shifts_agree = agree_on_shift(shifts, tolerance=4 * longest / imgsz)
    visible = next((p for p, modality in enumerate(modalities) if modality.visible), None)
    swapped = []
    if visible is not None and visible != place:
        swapped = [
            seen.file for seen in measured if seen.chroma[visible] < GREY_CHROMA and seen.chroma[place] > COLOUR_CHROMA
        ]
    same = [seen.file for seen in measured if seen.same_as_first[place]]
    one_size = len({(pair[0], pair[place]) for pair in sizes}) == 1
    return AlignmentFigures(
        sampled=len(measured),
        same_file=len(same_files),
        same_picture=len(same),
        swapped=len(swapped),
        edges_agree=edges_agree,
        shifts_agree=shifts_agree,
        shift=shift,
        spread=spread,
        remedy=shift_remedy(modalities[place], shift, sizes[0][0], sizes[0][place]) if shift and one_size else None,
        examples={
            what: list(files[:3])
            for what, files in (("same_file", same_files), ("same_picture", same), ("swapped", swapped))
            if files
        },
    )
