"""Findings on a host's files before its training begins, in the words of `mwam-det inspect`."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from mwam_det.data.inspection.duplicates import same_files
from mwam_det.data.inspection.findings import pair_findings_of
from mwam_det.data.inspection.pairs import MeasuredPair, SeenFile, compare_files, pair_figures, see_file, square
from mwam_det.data.inspection.sampling import TRAINING_SAMPLE, evenly
from mwam_det.data.levels import AS_STORED
from mwam_det.hosts.data.samples import HostModality, HostSample, decode_file, frame_at, read_modality


def look_at_samples(
    samples: Sequence[HostSample],
    sizes: Sequence[Sequence[tuple[int, int]]],
    modalities: Sequence[HostModality],
    imgsz: int,
    views: bool,
) -> list[str]:
    """Look at the sizes of all samples, and at the files of some.

    Args:
        samples: The samples of all splits.
        sizes: By sample the (height, width) of every modality's image, see `check_files`.
        modalities: How their files are read.
        imgsz: Training size, longer side in pixels.
        views: Whether labels have places in the image.

    Returns:
        A sentence for each finding that costs accuracy; none if all is well.
    """
    chosen = evenly(len(samples), TRAINING_SAMPLE)
    with ThreadPoolExecutor() as pool:
        measured = list(pool.map(partial(_measure, modalities), [samples[i] for i in chosen]))
    opened = set(chosen)  # to look for a frame in every video would take long
    files = {
        modality.name: [
            str(_shown(s, modality) if i in opened else _source(s, modality)) for i, s in enumerate(samples)
        ]
        for modality in modalities
    }
    figures = pair_figures(
        [_Read(modality.name, modality.value_range) for modality in modalities],
        measured,
        sizes,
        files,
        imgsz,
        same_files(files, chosen),
        compared=len(chosen),
        views=views,
        aligns=False,
    )
    return pair_findings_of(figures)


@dataclass(frozen=True)
class _Read:
    """How a modality is read, see `mwam_det.data.inspection.pairs.ReadModality`. Hosts treat all modalities alike."""

    name: str
    value_range: tuple[float, float] | str | None
    visible: bool = False
    align: None = None


def _measure(modalities: Sequence[HostModality], sample: HostSample) -> MeasuredPair:
    return compare_files([_look_at(sample, modality) for modality in modalities])


def _look_at(sample: HostSample, modality: HostModality) -> SeenFile:
    file = _shown(sample, modality)
    if (stored := decode_file(file, AS_STORED)) is None:
        raise FileNotFoundError(f"{file} cannot be read")
    read = np.ascontiguousarray(read_modality(sample.files[modality.name], modality)[..., ::-1])
    return see_file(str(file), stored[..., None] if stored.ndim == 2 else stored, read, square(read))


def _source(sample: HostSample, modality: HostModality) -> Path:
    """Return the image of a modality, or the folder of a video's frames."""
    files = sample.files[modality.name]
    return files[0] if isinstance(files, tuple) else files


def _shown(sample: HostSample, modality: HostModality) -> Path:
    """Return the image of a modality, of a video the frame in its middle."""
    source = _source(sample, modality)
    return frame_at(source, 0.5) if isinstance(sample.files[modality.name], tuple) else source
