"""Build the dataset of one split for a task."""

from __future__ import annotations

from copy import copy
from types import SimpleNamespace
from typing import Any

from ultralytics.data.utils import get_split_fraction
from ultralytics.utils import colorstr

from mwam_det.data.classes import PairedClassificationDataset
from mwam_det.data.dataset import PairedDataset, StretchedDataset
from mwam_det.data.semantic import PairedSemanticDataset

KINDS = {"semantic": PairedSemanticDataset, "classify": PairedClassificationDataset}
"""Dataset class by task; `PairedDataset` for the others."""


def build_paired_dataset(
    args: SimpleNamespace,
    img_path: str,
    batch: int | None,
    data: dict[str, Any],
    mode: str,
    rect: bool,
    stride: int,
    stretch: bool = False,
) -> PairedDataset:
    """Build the dataset of one split for trainer or validator, as `ultralytics.data.build_yolo_dataset` does.

    Args:
        args: Ultralytics' arguments.
        img_path: The first modality's folder of the split.
        batch: Batch size, for rectangular batches.
        data: A resolved dataset.
        mode: "train" augments, "val" does not.
        rect: Whether batches are rectangular; images of the task classify are square.
        stride: Stride of the model, in pixels.
        stretch: Whether images are stretched to a square, as RT-DETR takes them.
    """
    hyp = copy(args)
    hyp.deterministic = False  # only makes a dataset warn of cache="ram", which does not change our samples
    return (StretchedDataset if stretch else KINDS.get(args.task, PairedDataset))(
        img_path=img_path,
        imgsz=args.imgsz,
        batch_size=batch,
        augment=mode == "train",
        hyp=hyp,
        rect=rect and args.task != "classify" and not stretch,
        cache=args.cache or None,
        single_cls=args.single_cls or False,
        stride=stride,
        pad=0.0 if mode == "train" else 0.5,
        prefix=colorstr(f"{mode}: "),
        task=args.task,
        classes=args.classes,
        data=data,
        fraction=get_split_fraction(args.fraction, "train" if mode == "train" else args.split),
    )
