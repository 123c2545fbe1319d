"""Inspect a dataset, from its folders to findings.

Files are listed, scanned and read by training's dataset, so that figures describe what training will see. Names, labels
and file contents are checked for every pair; decoded pixels are sampled, evenly over each split, and each figure states
its number of pairs.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import partial
from typing import Any

import numpy as np
from rich.progress import Progress
from ultralytics.utils import LOGGER

from mwam_det.core.config import MWAMConfig
from mwam_det.data.dataset import PairedDataset
from mwam_det.data.inspection.contact_sheet import Picture, choose_pictures
from mwam_det.data.inspection.duplicates import repeated_files, same_files
from mwam_det.data.inspection.figures import Inspection
from mwam_det.data.inspection.findings import findings_of
from mwam_det.data.inspection.looking import files_of, measure_pair, sizes_of
from mwam_det.data.inspection.minibatches import training_batches, training_dataset
from mwam_det.data.inspection.pairs import pair_figures
from mwam_det.data.inspection.preference import PreferenceMeter, flat_share
from mwam_det.data.inspection.sampling import DEFAULT_SAMPLE, divide_sample, evenly
from mwam_det.data.inspection.splits import split_figures
from mwam_det.data.paired_data import PairedData

MINI_BATCHES = 32
"""Maximum number of mini-batches augmented and measured."""


def inspect_dataset(
    data: PairedData,
    config: MWAMConfig | None = None,
    imgsz: int = 640,
    batch: int = 16,
    sample: int = DEFAULT_SAMPLE,
    single_cls: bool = False,
    pictures: int = 8,
    task: str = "detect",
    arguments: Mapping[str, Any] | None = None,
) -> tuple[Inspection, list[Picture]]:
    """Inspect a dataset as training will see it.

    Args:
        data: The dataset.
        config: MWAM's parameters; the paper's by default.
        imgsz: Training size, longer side in pixels.
        batch: Samples per mini-batch, over which FRM is averaged.
        sample: Number of pairs whose pixels are read, over all splits.
        single_cls: Whether all classes count as one.
        pictures: Number of pairs to return for a contact sheet.
        task: One of Ultralytics' tasks, which determines the labels.
        arguments: Ultralytics' training arguments that define the augmentation; its defaults if left out.

    Returns:
        Figures with findings, and pairs for a contact sheet: spread over the splits, pairs with objects preferred.

    Raises:
        DatasetError: If a split is empty or no pair of it can be used.
    """
    config = config or MWAMConfig()
    if config.preference == "measured":  # needs a trained model
        config = replace(config, preference="frequency")
    modalities, keys = data.modalities, data.as_dict()
    datasets = {split: _scan(keys, split, imgsz, single_cls, task) for split in data.splits}
    splits = {split: split_figures(dataset) for split, dataset in datasets.items()}
    sampled = divide_sample({split: len(dataset) for split, dataset in datasets.items()}, sample)
    measured, flat = [], []
    with Progress(transient=True) as progress, ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        bar = progress.add_task("Reading pairs", total=sum(sampled.values()))
        for split, dataset in datasets.items():
            chosen = evenly(len(dataset), sampled[split])
            for pair in pool.map(partial(measure_pair, dataset), chosen):
                measured.append(pair)
                progress.advance(bar)
            if split == "train":
                flat = list(pool.map(partial(_flat_share, dataset, patch=config.patch), chosen))
        preference = PreferenceMeter(modalities, config)
        count = min(MINI_BATCHES, max(1, sample // batch))
        bar = progress.add_task("Augmenting mini-batches", total=count)
        with _messages_held_back():
            changes = {**(arguments or {}), "imgsz": imgsz, "single_cls": single_cls}
            training = training_dataset(data, task, batch, changes)
        for images in training_batches(training, batch, count):
            preference.observe(images)
            progress.advance(bar)
    shares = [share for share in flat if share is not None]
    files = {modality.name: files_of(datasets.values(), modality.name) for modality in modalities}
    same = same_files(files)
    seen = pair_figures(modalities, measured, sizes_of(datasets.values()), files, imgsz, same)
    inspection = Inspection(
        **{field.name: getattr(seen, field.name) for field in fields(seen)},
        path=data.path,
        splits=splits,
        preference=preference.figures(float(np.mean(shares)) if shares else None),
        repeated={
            modality.name: found
            for modality in modalities
            if (found := repeated_files({split: files_of([d], modality.name) for split, d in datasets.items()}))
        },
    )
    return replace(inspection, findings=tuple(findings_of(inspection))), choose_pictures(datasets, pictures)


def _flat_share(dataset: PairedDataset, index: int, patch: int) -> float | None:
    return flat_share(dataset.load_image(index)[0], dataset.modalities, patch)


def _scan(data: dict[str, Any], split: str, imgsz: int, single_cls: bool, task: str) -> PairedDataset:
    """Scan a split as training does, which will reuse the result."""
    with _messages_held_back():
        return PairedDataset(
            img_path=data[split],
            imgsz=imgsz,
            augment=False,
            cache=False,
            single_cls=single_cls,
            prefix=f"{split}: ",
            task=task,
            data=data,
        )


@contextmanager
def _messages_held_back() -> Iterator[None]:
    """Hold back the scan's messages, which findings summarise, unless it fails."""
    held: list[logging.LogRecord] = []

    def hold(record: logging.LogRecord) -> bool:
        held.append(record)
        return False

    LOGGER.addFilter(hold)
    try:
        yield
    except Exception:  # of any kind, since it is raised again
        LOGGER.removeFilter(hold)
        for record in held:
            LOGGER.handle(record)
        raise
    finally:
        LOGGER.removeFilter(hold)
