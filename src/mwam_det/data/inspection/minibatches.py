"""Mini-batches of the training split as in training: shuffled, with mosaic, affine and colour augmentation."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from torch import Tensor
from ultralytics.cfg import get_cfg
from ultralytics.utils import DEFAULT_CFG_DICT
from ultralytics.utils.checks import check_imgsz

from mwam_det.data.build import build_paired_dataset
from mwam_det.data.dataset import PairedDataset
from mwam_det.data.paired_data import PairedData

STRIDE = 32
"""Training sizes are multiples of this, in pixels, as in the trainer."""


def training_dataset(data: PairedData, task: str, batch: int, arguments: Mapping[str, Any]) -> PairedDataset:
    """Build the dataset of the training split, with augmentation.

    Args:
        data: The dataset.
        task: One of Ultralytics' tasks.
        batch: Samples per mini-batch.
        arguments: Ultralytics' training arguments that differ from its defaults; `cache` is ignored.
    """
    return _dataset(data, task, batch, arguments, "train")


def still_dataset(data: PairedData, task: str, arguments: Mapping[str, Any]) -> PairedDataset:
    """Build the dataset of the training split without augmentation; arguments as in `training_dataset`."""
    return _dataset(data, task, 1, arguments, "val")


def _dataset(data: PairedData, task: str, batch: int, arguments: Mapping[str, Any], augmented_as: str) -> PairedDataset:
    known = {key: value for key, value in arguments.items() if key in DEFAULT_CFG_DICT and key != "freeze"}
    args = get_cfg(overrides={**known, "task": task, "mode": "train", "cache": False, "split": "train"})
    args.imgsz = check_imgsz(args.imgsz, stride=STRIDE, floor=STRIDE, max_dim=1)
    keys = data.as_dict()
    return build_paired_dataset(args, keys["train"], batch, keys, augmented_as, rect=False, stride=STRIDE)


def training_batches(dataset: PairedDataset, batch: int, count: int) -> Iterator[Tensor]:
    """Yield mini-batches of training, of several epochs if necessary.

    The states of Python's and NumPy's generators, from which augmentation draws, are restored.

    Args:
        dataset: The training split, with augmentation.
        batch: Samples per mini-batch, at most all.
        count: Number of mini-batches. Incomplete ones are left out.

    Yields:
        Shape (batch, ΣC_m, H, W), uint8, as observed by MWAM.
    """
    batch = min(batch, len(dataset))
    for number in range(count):
        epoch, index = divmod(number, len(dataset) // batch)
        order = np.random.default_rng((0, epoch)).permutation(len(dataset))[index * batch : (index + 1) * batch]
        with _seeded(number):
            samples = dataset.__getitems__(order.tolist())
        yield dataset.collate_fn(samples)["img"]


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed Python's and NumPy's global generators, and restore their states at the end."""
    states = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
