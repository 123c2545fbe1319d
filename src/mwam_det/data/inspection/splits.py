"""Count pairs, labels and objects of one split, and the reasons why pairs are left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mwam_det.data.conversion.model import Report
from mwam_det.data.dataset import PairedDataset
from mwam_det.data.inspection.figures import SMALL_AT_TRAINING, SplitFigures
from mwam_det.data.pairing import image_size
from mwam_det.files.folders import list_files


def split_figures(dataset: PairedDataset) -> SplitFigures:
    """Summarise the scan of a split."""
    names = dataset.data["names"]
    boxes, images_with = Counter[int](), Counter[int]()
    extents_in_training: list[np.ndarray] = []
    without_objects = past_border = thin = 0
    for label in dataset.labels:
        classes = label["cls"].ravel().astype(int).tolist()
        boxes.update(classes)
        images_with.update(set(classes))
        without_objects += not classes
        height, width = label["shape"]
        centres, extents = label["bboxes"][:, :2] * (width, height), label["bboxes"][:, 2:] * (width, height)
        past_border += int(
            ((centres - extents / 2 < -1) | (centres + extents / 2 > (width + 1, height + 1))).any(1).sum()
        )
        thin += int((extents < 1).any(1).sum())
        extents_in_training.append(extents * dataset.imgsz / max(height, width))
    sides = np.concatenate(extents_in_training)
    texts = {file for folder in dataset.label_folders for file in list_files(folder) if Path(file).suffix == ".txt"}
    label_files = dict(zip(dataset.listed, dataset.label_files, strict=True))  # including pairs left out
    return SplitFigures(
        images=len(dataset.listed),
        pairs=len(dataset.labels),
        left_out=_left_out(dataset, label_files),
        left_over={name: count for name, count in dataset.left_over.items() if count},
        boxes={names[number]: boxes[number] for number in names},
        images_with={names[number]: images_with[number] for number in names},
        without_objects=without_objects,
        without_label_file=sum(not Path(label_files[file]).is_file() for file in dataset.im_files),
        stray_labels=len(texts.difference(label_files.values())) if dataset.is_whole else 0,
        past_border=past_border,
        thin=thin,
        small=int((sides.max(1) < SMALL_AT_TRAINING).sum()),
        median_side=float(np.median(np.sqrt(sides.prod(1)))) if len(sides) else None,
    )


def _left_out(dataset: PairedDataset, label_files: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return the reasons why images are not used, which the scan gives only as messages."""
    report, used = Report(), set(dataset.im_files)
    for image in dataset.listed:
        if image in used:
            continue
        candidates = dataset.candidates(image)
        ambiguous = {name: files for name, files in candidates.items() if len(files) != 1}
        for name, files in ambiguous.items():
            if files:
                report.leave_out(f"several files of {name} share a name", ", ".join(files))
            else:
                report.leave_out(f"no partner of {name}", image)
        if ambiguous:
            continue
        for modality in dataset.modalities:
            try:
                image_size(candidates[modality.name][0], modality)
            except ValueError as error:
                report.leave_out(f"{modality.name} cannot be read", error)
                break
        else:
            report.leave_out(label_fault(label_files[image], len(dataset.data["names"])), label_files[image])
    return report.left_out


def label_fault(file: str | Path, classes: int) -> str:
    """Return a short reason why the labels of a pair are rejected.

    Args:
        file: The label file, in YOLO's format.
        classes: Number of classes.
    """
    try:
        rows = [line.split() for line in Path(file).read_text(encoding="utf-8").splitlines() if line.strip()]
        numbers = [[float(value) for value in row] for row in rows]
    except (OSError, ValueError):
        return "labels cannot be read"
    if any(len(row) < 5 for row in numbers):
        return "labels of fewer than five columns"
    coordinates = np.array([value for row in numbers for value in row[1:]])
    if not ((coordinates >= 0) & (coordinates <= 1)).all():
        return "labels outside of the image (a coordinate not in 0 to 1)"
    if any(row[0] >= classes or row[0] < 0 for row in numbers):
        return "labels of a class that 'names' lacks"
    return "labels rejected"
