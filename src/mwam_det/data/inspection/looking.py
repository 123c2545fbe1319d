"""Looking at a pair: its files as they are, and as training reads them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from mwam_det.data.dataset import PairedDataset
from mwam_det.data.inspection.pairs import MeasuredPair, SeenFile, compare_files, see_file, square
from mwam_det.data.inspection.views import SIDE
from mwam_det.data.modality import Modality
from mwam_det.data.reading import AS_STORED, as_stacked, decode, place


def measure_pair(dataset: PairedDataset, index: int) -> MeasuredPair:
    """Measure one pair of a dataset."""
    first = dataset.im_files[index]
    sizes = dataset.sizes[first]
    looked = zip(dataset.files(first), dataset.modalities, sizes, strict=True)
    return compare_files([_look_at(file, modality, size, sizes[0]) for file, modality, size in looked])


def _look_at(file: str, modality: Modality, size: tuple[int, int], first_size: tuple[int, int]) -> SeenFile:
    stored = decode(file, AS_STORED)
    if stored is None:
        raise FileNotFoundError(f"cannot read {file}, an image of {modality.name}")
    deep = modality.value_range is None and stored.dtype == np.uint16
    read = as_stacked((stored >> 8).astype(np.uint8) if deep else stored, modality)  # of 16 bits the high byte is read
    return see_file(file, stored, read, _view(read, modality, size, first_size))


def _view(read: np.ndarray, modality: Modality, size: tuple[int, int], first_size: tuple[int, int]) -> np.ndarray:
    """Return an image in grey, as a square at its place in the first modality's."""
    return place(square(read)[..., None], modality, size, first_size, (SIDE, SIDE))[..., 0]


def files_of(datasets: Iterable[PairedDataset], modality: str) -> list[str]:
    """List the file of a modality for every pair."""
    return [dataset.candidates(file)[modality][0] for dataset in datasets for file in dataset.im_files]


def sizes_of(datasets: Iterable[PairedDataset]) -> list[Sequence[tuple[int, int]]]:
    """List the (height, width) of every modality's file for every pair."""
    return [dataset.sizes[file] for dataset in datasets for file in dataset.im_files]
