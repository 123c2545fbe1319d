"""From a validation under several conditions to the report on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn
from ultralytics.utils import ops
from ultralytics.utils.metrics import DetMetrics

from mwam_det.core.degradation import DEGRADATIONS, SEVERITIES, degradations_for
from mwam_det.engine.coco import DETECTIONS, CocoRecord
from mwam_det.engine.combinations import Condition, OnePassValidator
from mwam_det.engine.robustness import (
    RECALLS,
    Boxes,
    ClassResult,
    CombinationResult,
    DegradationResult,
    RobustnessReport,
    Sample,
)


class ReportingValidator(OnePassValidator):
    """A one-pass validation that keeps what a report needs beyond the metrics.

    Args:
        dataloader: As in `OnePassValidator`.
        save_dir: As in `OnePassValidator`.
        args: As in `OnePassValidator`, and `samples`, how many images to keep with what was found in them (see
            `evenly_spaced`), and `coco`, whether to collect all predictions for the COCO protocol.
        _callbacks: As in `OnePassValidator`.

    Attributes:
        samples: The kept images, by file.
        coco: The collected predictions, or None.
    """

    def __init__(self, dataloader=None, save_dir=None, args=None, _callbacks: dict | None = None):
        args = dict(args or {})
        self._count, self._collect = args.pop("samples", 0), args.pop("coco", False)
        super().__init__(dataloader, save_dir, args, _callbacks)
        self.samples: dict[str, Sample] = {}
        self.coco: CocoRecord | None = None
        self._wanted: set[str] = set()

    def init_metrics(self, model: nn.Module) -> None:
        """Prepare the metrics, and choose the images to keep."""
        super().init_metrics(model)
        with_objects = [label["im_file"] for label in self.dataloader.dataset.labels if len(label["cls"])]
        self._wanted = set(evenly_spaced(sorted(with_objects), self._count))
        self.samples, self.coco = {}, CocoRecord(self.data["names"]) if self._collect else None

    def observe(self, batch: dict[str, Any], predictions: Sequence[list[dict[str, Tensor]]]) -> None:
        """Keep what is wanted of a batch."""
        places = {self._available(Condition()): 0}
        for place, condition in enumerate(self.conditions, start=1):
            if condition.degraded is None:
                places[self._available(condition)] = place
        for index, file in enumerate(batch["im_file"]):
            if self.coco is None and file not in self._wanted:
                continue
            own = self._prepare_batch(index, batch)
            labels = Boxes(*(own[key].float().cpu().numpy() for key in ("bboxes", "cls")), np.ones(len(own["cls"])))
            found = {available: _boxes(predictions[place][index]) for available, place in places.items()}
            if file in self._wanted:
                self.samples[file] = self._sample(file, batch["img"][index], own, labels, found)
            if self.coco is not None:
                scaled = {available: _scaled(boxes, own) for available, boxes in found.items()}
                self.coco.add(Path(file).name, tuple(own["ori_shape"]), _scaled(labels, own), scaled)

    def _available(self, condition: Condition) -> tuple[str, ...]:
        return tuple(m.name for m in self.modalities if m.name not in condition.missing)

    def _sample(
        self, file: str, stack: Tensor, own: Mapping[str, Any], labels: Boxes, found: Mapping[tuple[str, ...], Boxes]
    ) -> Sample:
        """Cut an image and its boxes out of the letterbox."""
        (height, width), (ratio, (left, top)) = own["ori_shape"], own["ratio_pad"]
        left, top = round(left), round(top)
        area = (slice(top, top + round(height * ratio[0])), slice(left, left + round(width * ratio[1])))
        images = {m.name: _picture(stack[m.slice][(slice(None), *area)]) for m in self.modalities}
        offset = np.array([left, top, left, top])

        def moved(boxes: Boxes) -> Boxes:
            return Boxes(boxes.coordinates - offset, boxes.classes, boxes.scores)

        boxes = {available: moved(each) for available, each in found.items()}
        return Sample(Path(file).name, images, moved(labels), boxes)

    def report(self, weights: str = "", notes: Iterable[str] = ()) -> RobustnessReport:
        """Put everything together after the validation.

        Args:
            weights: The evaluated checkpoint.
            notes: Sentences to add to the report.
        """
        notes = list(notes)
        if self.coco is not None and self.coco.crowded:
            notes.append(
                f"{self.coco.crowded} images hold more than {DETECTIONS} objects. COCO counts {DETECTIONS} detections "
                "an image at most, so its metrics are lower there."
            )
        coco = {available: self.coco.metrics(available) for available in self.by_combination} if self.coco else {}
        return RobustnessReport(
            modalities=tuple(m.name for m in self.modalities),
            results=tuple(
                combination_result(available, metrics, coco.get(available))
                for available, metrics in self.by_combination.items()
            ),
            split=self.args.split,
            weights=weights,
            fill=next((c.fill for c in self.conditions if c.missing), "zero"),
            degradations=tuple(
                DegradationResult(*condition.degraded, _metrics(other.metrics))
                for condition, other in zip(self.conditions, self.others, strict=True)
                if condition.degraded is not None
            ),
            notes=tuple(notes),
            images=self.seen,
            visible=self.data["visible"],
            samples=tuple(self.samples[file] for file in sorted(self.samples)),
        )


def combination_result(
    available: tuple[str, ...], metrics: DetMetrics, coco: dict[str, float | None] | None = None
) -> CombinationResult:
    """Read from Ultralytics' metrics what the report tells of a combination.

    Args:
        available: The modalities that were not missing.
        metrics: Metrics that were processed.
        coco: pycocotools' metrics of the same predictions.
    """
    box = metrics.box
    classes = tuple(
        ClassResult(
            str(metrics.names[number]),
            int(metrics.nt_per_class[number]),
            {"mAP50": float(box.ap50[place]), "mAP50-95": float(box.ap[place])},
        )
        for place, number in enumerate(box.ap_class_index)
    )
    curve = np.interp(RECALLS, box.px, np.mean(box.prec_values, axis=0)) if classes else ()
    return CombinationResult(available, _metrics(metrics), classes, tuple(float(value) for value in curve), coco)


def degradation_conditions(data: Mapping[str, Any], degradations: bool | str | Iterable[str]) -> list[Condition]:
    """List the conditions in which one modality is degraded, in every severity.

    Args:
        data: A resolved dataset. Its visible modality counts as a camera, all others as thermal.
        degradations: True for every degradation that suits a modality, False for none, or the names of some, or one.

    Raises:
        ValueError: If a name is unknown or suits no modality.
    """
    if degradations is False:
        return []
    names = [degradations] if isinstance(degradations, str) else degradations
    names = list(DEGRADATIONS) if degradations is True else list(names)
    if unknown := [name for name in names if name not in DEGRADATIONS]:
        raise ValueError(f"unknown degradation {', '.join(map(str, unknown))}: choose from {', '.join(DEGRADATIONS)}")
    suitable = {
        modality: degradations_for("rgb" if modality == data["visible"] else "thermal")
        for modality in data["modalities"]
    }
    if degradations is not True and (lost := [n for n in names if not any(n in s for s in suitable.values())]):
        choices = ", ".join(name for name in DEGRADATIONS if any(name in s for s in suitable.values()))
        raise ValueError(f"{', '.join(lost)} suits none of {', '.join(suitable)}: choose from {choices}")
    return [
        Condition(degraded=(modality, name, severity))
        for modality, own in suitable.items()
        for name in names
        if name in own
        for severity in SEVERITIES
    ]


def evenly_spaced(items: Sequence[str], count: int) -> list[str]:
    """Choose `count` items at equal distances, each from the middle of its stretch; all if there are no more."""
    if len(items) <= count:
        return list(items)
    return [items[int((place + 0.5) * len(items) / count)] for place in range(count)]


def _metrics(metrics: DetMetrics) -> dict[str, float]:
    return {"mAP50": float(metrics.box.map50), "mAP50-95": float(metrics.box.map)}


def _boxes(prediction: Mapping[str, Tensor]) -> Boxes:
    return Boxes(*(prediction[key].float().cpu().numpy() for key in ("bboxes", "cls", "conf")))


def _scaled(boxes: Boxes, own: Mapping[str, Any]) -> Boxes:
    """Bring boxes from the letterbox to the pixels of the image file.

    What lies outside of the image is not cut off: Ultralytics' metrics measure the whole boxes, and where a detector
    guesses that an object goes on beyond the edge, cutting changes mAP much.
    """
    centres = ops.xyxy2xywh(boxes.coordinates.astype(float))  # only boxes in this form are not cut off
    centres = ops.scale_boxes(own["imgsz"], centres, own["ori_shape"], ratio_pad=own["ratio_pad"], xywh=True)
    return Boxes(ops.xywh2xyxy(centres), boxes.classes, boxes.scores)


def _picture(channels: Tensor) -> np.ndarray:
    """Turn a modality (C, H, W) in [0, 1] into a picture; other than three channels become their mean, in grey."""
    if len(channels) != 3:
        channels = channels.float().mean(0, keepdim=True).expand(3, -1, -1)
    return channels.float().mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
