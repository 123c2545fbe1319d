"""The robustness report of a validation under several conditions."""

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
from mwam_det.engine.geometry import areas_of_images
from mwam_det.engine.measures import measure, measure_classes, measure_precision, metrics_of
from mwam_det.robustness.degradation import DEGRADATIONS, SEVERITIES, degradations_for
from mwam_det.robustness.report import RobustnessReport
from mwam_det.robustness.results import Boxes, CombinationResult, DegradationResult, Sample


class Reporting(OnePass):
    """A one-pass validation that keeps what a report needs beyond the metrics, for any task.

    A mixin to list before a validator of pairs. The arguments are those of `OnePass`; `args` may also have `samples`,
    the number of images to keep with their predictions (see `evenly_spaced`), and `coco`, whether to collect all
    predictions for the COCO protocol. With neither, nothing is kept.

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
        self._wanted = set(evenly_spaced(sorted(self.worth_showing()), self._count)) if self._count else set()
        self.samples, self.coco = {}, CocoRecord(self.data["names"]) if self._collect else None

    def observe(self, batch: dict[str, Any], predictions: Sequence[list[dict[str, Tensor]]]) -> None:
        """Keep the samples of a batch, and collect its predictions for COCO."""
        kept = {
            tuple(m.name for m in self.modalities if m.name not in condition.missing): found
            for condition, found in zip((Condition(), *self.conditions), predictions, strict=True)
            if condition.degraded is None
        }
        for index, file in enumerate(batch["im_file"]):
            if self.coco is None and file not in self._wanted:
                continue
            labels = self.labels_of(index, batch)
            found = {available: self.found_in(each[index]) for available, each in kept.items()}
            if file in self._wanted:
                self.samples[file] = self._sample(index, batch, labels, found)
            if self.coco is not None and isinstance(labels, Boxes):
                item = self._prepare_batch(index, batch)
                scaled = {
                    available: _scaled(each, item) for available, each in found.items() if isinstance(each, Boxes)
                }
                self.coco.add(Path(file).name, tuple(item["ori_shape"]), _scaled(labels, item), scaled)

    def worth_showing(self) -> list[str]:
        """List the images to choose samples from: those with objects."""
        return [label["im_file"] for label in self.dataloader.dataset.labels if len(label["cls"])]

    def labels_of(self, index: int, batch: dict[str, Any]) -> Boxes | np.ndarray:
        """Return the labels of an image of a batch in the pixels of its letterbox, see `Sample`."""
        item = self._prepare_batch(index, batch)
        coordinates, classes = (item[key].float().cpu().numpy() for key in ("bboxes", "cls"))
        return Boxes(coordinates, classes, np.ones(len(classes)))

    def found_in(self, prediction: Any) -> Boxes | np.ndarray:
        """Return the prediction for an image in the same form."""
        return Boxes(*(prediction[key].float().cpu().numpy() for key in ("bboxes", "cls", "conf")))

    def _sample(
        self,
        index: int,
        batch: dict[str, Any],
        labels: Boxes | np.ndarray,
        found: Mapping[tuple[str, ...], Boxes | np.ndarray],
    ) -> Sample:
        """Crop an image of a batch, its labels and its predictions from the letterbox."""
        top, bottom, left, right = areas_of_images(batch)[index]
        area = (slice(top, bottom), slice(left, right))
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
        """Assemble the report after the validation.

        Args:
            weights: The evaluated checkpoint.
            notes: Sentences to add to the report.
        """
        notes = list(notes)
        if self.coco is not None and self.coco.crowded:
            notes.append(
                f"{self.coco.crowded} images hold more than {DETECTIONS} objects. COCO counts at most {DETECTIONS} "
                "detections per image, so its metrics are lower there."
            )
        task = self.args.task
        return RobustnessReport(
            modalities=tuple(m.name for m in self.modalities),
            results=tuple(
                CombinationResult(
                    available,
                    measure(task, metrics),
                    measure_classes(task, metrics),
                    measure_precision(task, metrics),
                    self.coco.metrics(available) if self.coco else None,
                )
                for available, metrics in self.by_combination.items()
            ),
            split=self.args.split,
            weights=weights,
            fill=next((c.fill for c in self.conditions if c.missing), "zero"),
            degradations=tuple(
                DegradationResult(*condition.degraded, measure(task, other.metrics))
                for condition, other in zip(self.conditions, self.others, strict=True)
                if condition.degraded is not None
            ),
            notes=tuple(notes),
            images=self.seen,
            visible=self.data["visible"],
            samples=tuple(self.samples[file] for file in sorted(self.samples)),
            task=task,
            metrics=metrics_of(task),
            names=tuple(map(str, self.names.values())),
        )


class ReportingValidator(Reporting, OnePassValidator):
    """A report on a detector."""


def degradation_conditions(modalities: Iterable[Modality], degradations: bool | str | Iterable[str]) -> list[Condition]:
    """List the conditions with one degraded modality, in every severity.

    Args:
        modalities: The dataset's. The visible one counts as a camera, all others as thermal.
        degradations: True for every degradation that suits a modality, False for none, or one or several names.

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
        for modality, known in suitable.items()
        for name in names
        if name in known
        for severity in SEVERITIES
    ]


def evenly_spaced(items: Sequence[str], count: int) -> list[str]:
    """Choose `count` evenly spaced items, each from the middle of its interval; all if there are no more."""
    if len(items) <= count:
        return list(items)
    return [items[int((index + 0.5) * len(items) / count)] for index in range(count)]


def _scaled(boxes: Boxes, item: Mapping[str, Any]) -> Boxes:
    """Scale boxes from the letterbox to the pixels of the image file.

    Boxes are not clipped to the image: Ultralytics' metrics use the unclipped boxes, and clipping changes mAP much for
    a detector that extends objects beyond the edge.
    """
    centres = ops.xyxy2xywh(boxes.coordinates.astype(float))  # only boxes in this form are not clipped
    centres = ops.scale_boxes(item["imgsz"], centres, item["ori_shape"], ratio_pad=item["ratio_pad"], xywh=True)
    return Boxes(ops.xywh2xyxy(centres), boxes.classes, boxes.scores)


def _picture(channels: Tensor) -> np.ndarray:
    """Convert a modality (C, H, W) in [0, 1] to a picture; other than three channels are averaged to grey."""
    if len(channels) != 3:
        channels = channels.float().mean(0, keepdim=True).expand(3, -1, -1)
    return channels.float().mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
