"""The COCO protocol: labels and predictions in COCO's JSON, and pycocotools' metrics."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mwam_det.robustness.results import Boxes

STATISTICS = {
    "mAP50-95": 0,
    "mAP50": 1,
    "mAP75": 2,
    "mAP50-95 small": 3,
    "mAP50-95 medium": 4,
    "mAP50-95 large": 5,
}
"""Indices in pycocotools' summary. Small is below 32², large above 96² pixels of the image file."""

DETECTIONS = 100
"""Maximum number of detections per image in the COCO protocol, those with the highest scores."""


class CocoRecord:
    """Labels and predictions of a split, collected image by image.

    Images are numbered from 1 in the order in which they are added, classes from 1 as well. There are no crowds, and an
    object's area is that of its box. Boxes may extend beyond the image.

    Args:
        names: Class names by number from 0.

    Attributes:
        truth: The labels, as in a COCO file.
        predictions: COCO's lists of results, by available modalities.
    """

    def __init__(self, names: Mapping[int, str]):
        categories = [{"id": number + 1, "name": name} for number, name in names.items()]
        self.truth: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": [], "categories": categories}
        self.predictions: dict[tuple[str, ...], list[dict[str, Any]]] = {}

    def add(self, file: str, size: tuple[int, int], labels: Boxes, found: Mapping[tuple[str, ...], Boxes]) -> None:
        """Add an image.

        Args:
            file: Its name.
            size: Height and width in pixels.
            labels: Its objects, in its pixels.
            found: Predictions by available modalities, in its pixels.
        """
        image = len(self.truth["images"]) + 1
        self.truth["images"].append({"id": image, "file_name": file, "height": size[0], "width": size[1]})
        for category, box in _entries(labels):
            number = len(self.truth["annotations"]) + 1  # pycocotools takes an id of 0 for "not matched"
            self.truth["annotations"].append(
                {"id": number, "image_id": image, "category_id": category, "bbox": box, "area": box[2] * box[3],
                 "iscrowd": 0}
            )  # fmt: skip
        for available, boxes in found.items():
            results = self.predictions.setdefault(available, [])
            for (category, box), score in zip(_entries(boxes), boxes.scores.tolist(), strict=True):
                results.append({"image_id": image, "category_id": category, "bbox": box, "score": round(score, 6)})

    @property
    def crowded(self) -> int:
        """Number of images with more objects than the protocol lets a detector find."""
        counts = np.bincount([each["image_id"] for each in self.truth["annotations"]] or [0])
        return int((counts > DETECTIONS).sum())

    def metrics(self, available: tuple[str, ...]) -> dict[str, float | None]:
        """Evaluate the predictions of a combination; see `coco_metrics`."""
        return coco_metrics(self.truth, self.predictions.get(available, []))

    def write(self, folder: Path) -> None:
        """Write ground_truth.json and for each combination predictions_A+B.json."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "ground_truth.json").write_text(json.dumps(self.truth), encoding="utf-8")
        for available, results in self.predictions.items():
            name = re.sub(r"[^\w+.-]", "_", "+".join(available))
            (folder / f"predictions_{name}.json").write_text(json.dumps(results), encoding="utf-8")


def coco_metrics(
    truth: Mapping[str, Sequence[Mapping[str, Any]]], predictions: Sequence[Mapping[str, Any]]
) -> dict[str, float | None]:
    """Evaluate predictions with pycocotools.

    Args:
        truth: Content of a COCO file of labels.
        predictions: Content of a COCO file of results; may be empty.

    Returns:
        The metrics of `STATISTICS` in [0, 1], None if there are no objects.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    detections = [
        {**each, "id": number, "area": each["bbox"][2] * each["bbox"][3], "iscrowd": 0}
        for number, each in enumerate(predictions, start=1)
    ]
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        sets = []
        for annotations in ([dict(each) for each in truth["annotations"]], detections):  # pycocotools changes them
            coco = COCO()
            coco.dataset = {**truth, "annotations": annotations}
            coco.createIndex()
            sets.append(coco)
        evaluation = COCOeval(*sets, iouType="bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    values = {name: float(evaluation.stats[index]) for name, index in STATISTICS.items()}
    return {name: None if value < 0 else value for name, value in values.items()}


def _entries(boxes: Boxes) -> list[tuple[int, list[float]]]:
    """Return category and [left, top, width, height] of every box, to a thousandth of a pixel."""
    sizes = boxes.coordinates[:, 2:] - boxes.coordinates[:, :2]
    rows = np.concatenate([boxes.coordinates[:, :2], sizes], axis=1).astype(float).round(3).tolist()
    return list(zip((boxes.classes.astype(int) + 1).tolist(), rows, strict=True))
