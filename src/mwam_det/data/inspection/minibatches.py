"""Mini-batches of the training split as training makes them: shuffled, with mosaic, affine and colour augmentation."""

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
"""Training sizes are multiples of this, in pixels, as those of the trainer are."""


def training_dataset(data: PairedData, task: str, batch: int, arguments: Mapping[str, Any]) -> PairedDataset:
    """Build the dataset of the training split, with augmentation.

    Args:
        data: The dataset.
        task: One of Ultralytics' tasks.
        batch: Samples in a mini-batch.
        arguments: Ultralytics' training arguments, those that differ from its defaults. Images are not cached,
            whatever they say.
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


def training_batches(dataset: PairedDataset, batch: int, count: int, seed: int = 0) -> Iterator[Tensor]:
    """Yield mini-batches of training, of several epochs where one has too few.

    Python's and NumPy's generators, from which augmentation draws, go on afterwards as if nothing had been drawn.

    Args:
        dataset: The training split, with augmentation.
        batch: Samples in a mini-batch; all that there are if there are fewer.
        count: How many mini-batches. Incomplete ones are left out.
        seed: Of the order and of the augmentation.

    Yields:
        Shape (batch, ΣC_m, H, W), uint8, as MWAM observes them.
    """
    batch = min(batch, len(dataset))
    for number in range(count):
        epoch, place = divmod(number, len(dataset) // batch)
        order = np.random.default_rng((seed, epoch)).permutation(len(dataset))[place * batch : (place + 1) * batch]
        with _seeded(seed + number):
            samples = dataset.__getitems__(order.tolist())
        yield dataset.collate_fn(samples)["img"]


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed Python's and NumPy's global generators, and put them back."""
    states = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
