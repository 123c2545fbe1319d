"""From a validation under several conditions to the report on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn
from ultralytics.utils import ops

from mwam_det.data.modality import Modality
from mwam_det.engine.coco import DETECTIONS, CocoRecord
from mwam_det.engine.combinations import Condition, OnePass, OnePassValidator
from mwam_det.engine.measures import measure, measure_classes, measure_precision, metrics_of
from mwam_det.robustness.degradation import DEGRADATIONS, SEVERITIES, degradations_for
from mwam_det.robustness.report import RobustnessReport
from mwam_det.robustness.results import Boxes, CombinationResult, DegradationResult, Sample


class Reporting(OnePass):
    """A one-pass validation that keeps what a report needs beyond the metrics, whatever the task.

    Goes before a one-pass validator in the list of base classes.

    Args:
        dataloader: As in `OnePass`.
        save_dir: As in `OnePass`.
        args: As in `OnePass`, and `samples`, how many images to keep with what was found in them (see
            `evenly_spaced`), and `coco`, whether to collect all predictions for the COCO protocol.
        _callbacks: As in `OnePass`.

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
        self._wanted = set(evenly_spaced(sorted(self.worth_showing()), self._count))
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
            labels = self.labels_of(index, batch)
            found = {available: self.found_in(predictions[place][index]) for available, place in places.items()}
            if file in self._wanted:
                self.samples[file] = self._sample(index, batch, labels, found)
            if self.coco is not None and isinstance(labels, Boxes):
                own = self._prepare_batch(index, batch)
                scaled = {available: _scaled(each, own) for available, each in found.items() if isinstance(each, Boxes)}
                self.coco.add(Path(file).name, tuple(own["ori_shape"]), _scaled(labels, own), scaled)

    def worth_showing(self) -> list[str]:
        """List the images of which some are kept: those with objects."""
        return [label["im_file"] for label in self.dataloader.dataset.labels if len(label["cls"])]

    def labels_of(self, index: int, batch: dict[str, Any]) -> Boxes | np.ndarray:
        """Return the labels of an image of a batch in the pixels of its letterbox, see `Sample`."""
        own = self._prepare_batch(index, batch)
        coordinates, classes = (own[key].float().cpu().numpy() for key in ("bboxes", "cls"))
        return Boxes(coordinates, classes, np.ones(len(classes)))

    def found_in(self, prediction: Any) -> Boxes | np.ndarray:
        """Return what was found in an image, likewise."""
        return Boxes(*(prediction[key].float().cpu().numpy() for key in ("bboxes", "cls", "conf")))

    def _available(self, condition: Condition) -> tuple[str, ...]:
        return tuple(m.name for m in self.modalities if m.name not in condition.missing)

    def _sample(
        self,
        index: int,
        batch: dict[str, Any],
        labels: Boxes | np.ndarray,
        found: Mapping[tuple[str, ...], Boxes | np.ndarray],
    ) -> Sample:
        """Cut an image of a batch and what is in it out of the letterbox."""
        (height, width), (ratio, (left, top)) = batch["ori_shape"][index], batch["ratio_pad"][index]
        left, top = round(left), round(top)
        area = (slice(top, top + round(height * ratio[0])), slice(left, left + round(width * ratio[1])))
        stack = batch["img"][index]
        images = {m.name: _picture(stack[m.slice][:, area[0], area[1]]) for m in self.modalities}

        def cut(each: Boxes | np.ndarray) -> Boxes | np.ndarray:
            if not isinstance(each, Boxes):
                return each[area]
            rotated = each.coordinates.shape[1] == 5
            offset = np.array([left, top, 0, 0, 0] if rotated else [left, top, left, top])
            return Boxes(each.coordinates - offset, each.classes, each.scores)

        name = Path(batch["im_file"][index]).name
        return Sample(name, images, cut(labels), {available: cut(each) for available, each in found.items()})

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
                combination_result(self.args.task, available, metrics, coco.get(available))
                for available, metrics in self.by_combination.items()
            ),
            split=self.args.split,
            weights=weights,
            fill=next((c.fill for c in self.conditions if c.missing), "zero"),
            degradations=tuple(
                DegradationResult(*condition.degraded, measure(self.args.task, other.metrics))
                for condition, other in zip(self.conditions, self.others, strict=True)
                if condition.degraded is not None
            ),
            notes=tuple(notes),
            images=self.seen,
            visible=self.data["visible"],
            samples=tuple(self.samples[file] for file in sorted(self.samples)),
            task=self.args.task,
            metrics=metrics_of(self.args.task),
            names=tuple(map(str, self.names.values())),
        )


class ReportingValidator(Reporting, OnePassValidator):
    """A report on a detector."""


def combination_result(
    task: str, available: tuple[str, ...], metrics: Any, coco: dict[str, float | None] | None = None
) -> CombinationResult:
    """Read from Ultralytics' metrics what the report shows of a combination.

    Args:
        task: One of Ultralytics' tasks.
        available: The modalities that were not missing.
        metrics: Metrics of that task that were processed.
        coco: pycocotools' metrics of the same predictions.
    """
    classes, precision = measure_classes(task, metrics), measure_precision(task, metrics)
    return CombinationResult(available, measure(task, metrics), classes, precision, coco)


def degradation_conditions(modalities: Iterable[Modality], degradations: bool | str | Iterable[str]) -> list[Condition]:
    """List the conditions in which one modality is degraded, in every severity.

    Args:
        modalities: Those of the dataset. The visible one counts as a camera, all others as thermal.
        degradations: True for every degradation that suits a modality, False for none, or the names of some, or one.

    Raises:
        ValueError: If a name is unknown or suits no modality.
    """
    if degradations is False:
        return []
    if degradations is True:
        names = list(DEGRADATIONS)
    else:
        names = [degradations] if isinstance(degradations, str) else list(degradations)
    if unknown := [name for name in names if name not in DEGRADATIONS]:
        raise ValueError(f"unknown degradation {', '.join(map(str, unknown))}: choose from {', '.join(DEGRADATIONS)}")
    suitable = {modality.name: degradations_for("rgb" if modality.visible else "thermal") for modality in modalities}
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
