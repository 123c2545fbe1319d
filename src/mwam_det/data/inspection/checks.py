"""Check files before training: an inspection's findings from few pairs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from mwam_det.data.dataset import PairedDataset
from mwam_det.data.inspection.duplicates import same_files
from mwam_det.data.inspection.findings import pair_findings_of
from mwam_det.data.inspection.looking import files_of, measure_pair, sizes_of
from mwam_det.data.inspection.pairs import pair_figures
from mwam_det.data.inspection.sampling import TRAINING_SAMPLE, evenly


def look_before_training(datasets: Sequence[PairedDataset], imgsz: int, views: bool = True) -> list[str]:
    """Check the sizes of all pairs, known from the scan, and the files of some.

    Args:
        datasets: The splits that training reads.
        imgsz: Training size, longer side in pixels.
        views: Whether labels have positions in the image, so that views must agree.

    Returns:
        One sentence for each finding that costs accuracy, worded as by `mwam-det inspect`.
    """
    modalities = datasets[0].modalities
    pairs = [(dataset, index) for dataset in datasets for index in range(len(dataset))]
    chosen = evenly(len(pairs), TRAINING_SAMPLE)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        measured = list(pool.map(lambda number: measure_pair(*pairs[number]), chosen))
    files = {modality.name: files_of(datasets, modality.name) for modality in modalities}
    figures = pair_figures(
        modalities,
        measured,
        sizes_of(datasets),
        files,
        imgsz,
        same_files(files, chosen),
        compared=len(chosen),
        views=views,
    )
    return pair_findings_of(figures)
