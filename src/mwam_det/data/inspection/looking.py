"""Measure pairs: their files as stored, and as training reads them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from mwam_det.data.dataset import PairedDataset
from mwam_det.data.inspection.pairs import MeasuredPair, SeenFile, compare_files, see_file, square
from mwam_det.data.inspection.views import SIDE
from mwam_det.data.levels import AS_STORED
from mwam_det.data.modality import Modality
from mwam_det.data.reading import as_stacked, decode, place


def measure_pair(dataset: PairedDataset, index: int) -> MeasuredPair:
    """Measure one pair of a dataset."""
    first = dataset.im_files[index]
    sizes = dataset.sizes[first]
    files = zip(dataset.files(first), dataset.modalities, sizes, strict=True)
    return compare_files([_look_at(file, modality, size, sizes[0]) for file, modality, size in files])


def _look_at(file: str, modality: Modality, size: tuple[int, int], first_size: tuple[int, int]) -> SeenFile:
    stored = decode(file, AS_STORED)
    if stored is None:
        raise FileNotFoundError(f"cannot read {file}, an image of {modality.name}")
    deep = modality.value_range is None and stored.dtype == np.uint16
    read = as_stacked((stored >> 8).astype(np.uint8) if deep else stored, modality)  # the high byte of 16 bits is read
    view = place(square(read)[..., None], modality, size, first_size, (SIDE, SIDE))[..., 0]
    return see_file(file, stored, read, view)


def files_of(datasets: Iterable[PairedDataset], modality: str) -> list[str]:
    """Return the file of a modality for every pair."""
    return [dataset.candidates(file)[modality][0] for dataset in datasets for file in dataset.im_files]


def sizes_of(datasets: Iterable[PairedDataset]) -> list[Sequence[tuple[int, int]]]:
    """Return the (height, width) of every modality's file for every pair."""
    return [dataset.sizes[file] for dataset in datasets for file in dataset.im_files]
