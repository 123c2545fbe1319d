"""The classes for each task of Ultralytics: its stock classes, combined with the mixins for modalities."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from ultralytics.models.rtdetr import RTDETRPredictor, RTDETRValidator
from ultralytics.models.rtdetr.train import RTDETRTrainer
from ultralytics.models.yolo.obb import OBBPredictor, OBBTrainer, OBBValidator
from ultralytics.models.yolo.pose import PosePredictor, PoseTrainer, PoseValidator
from ultralytics.models.yolo.segment import SegmentationPredictor, SegmentationTrainer, SegmentationValidator
from ultralytics.models.yolo.semantic import (
    SemanticSegmentationPredictor,
    SemanticSegmentationTrainer,
    SemanticSegmentationValidator,
)
from ultralytics.utils import DEFAULT_CFG, ops

from mwam_det.data.sources import Pair
from mwam_det.engine.classification import (
    StackedClassificationPredictor,
    StackedClassificationTrainer,
    StackedClassificationValidator,
)
from mwam_det.engine.evaluation import Reporting, ReportingValidator
from mwam_det.engine.geometry import Placement
from mwam_det.engine.predictor import MultimodalPredictor, PairPredictor, PairResults
from mwam_det.engine.trainer import MWAMTrainer, PairTrainer
from mwam_det.engine.validator import MultimodalValidator, PairValidator


class MultimodalRTDETRValidator(PairValidator, RTDETRValidator):
    """Validate RT-DETR."""

    stretch = True


class ReportingRTDETRValidator(Reporting, MultimodalRTDETRValidator):
    """Validate RT-DETR under several conditions."""

    plain = MultimodalRTDETRValidator


class MWAMRTDETRTrainer(PairTrainer, RTDETRTrainer):
    """Train RT-DETR with a stream for each modality."""

    plain = MultimodalRTDETRValidator
    one_pass = ReportingRTDETRValidator


class MultimodalRTDETRPredictor(PairPredictor, RTDETRPredictor):
    """Predict on pairs with RT-DETR, whose boxes are relative to a stretched image."""

    fit = "stretch"


class MultimodalOBBValidator(PairValidator, OBBValidator):
    """Validate rotated boxes."""


class ReportingOBBValidator(Reporting, MultimodalOBBValidator):
    """Validate rotated boxes under several conditions."""

    plain = MultimodalOBBValidator


class MWAMOBBTrainer(PairTrainer, OBBTrainer):
    """Train for rotated boxes."""

    plain = MultimodalOBBValidator
    one_pass = ReportingOBBValidator


class MultimodalOBBPredictor(MultimodalPredictor, OBBPredictor):
    """Predict rotated boxes on pairs."""

    def located(self, pred: Tensor, placement: Placement, **kwargs: Any) -> dict[str, Any]:
        """Map rotated boxes to the image; see `MultimodalPredictor.located`."""
        return {"obb": torch.cat([placement.boxes(pred[:, :4], xywh=True), pred[:, -1:], pred[:, 4:6]], 1)}


class MultimodalSegmentationValidator(PairValidator, SegmentationValidator):
    """Validate masks of objects."""

    def take_over(self, other: Any) -> None:
        """Copy the mask function, which Ultralytics sets to a finer one if masks are saved."""
        self.process = other.process


class ReportingSegmentationValidator(Reporting, MultimodalSegmentationValidator):
    """Validate masks of objects under several conditions."""

    plain = MultimodalSegmentationValidator


class MWAMSegmentationTrainer(PairTrainer, SegmentationTrainer):
    """Train for masks of objects."""

    plain = MultimodalSegmentationValidator
    one_pass = ReportingSegmentationValidator


class MultimodalSegmentationPredictor(MultimodalPredictor, SegmentationPredictor):
    """Predict masks of objects on pairs."""

    def located(self, pred: Tensor, placement: Placement, **kwargs: Any) -> dict[str, Any]:
        """Map boxes and masks to the image; see `MultimodalPredictor.located`.

        Args:
            pred: Predictions, shape (N, 6 + P).
            placement: The position of the image in the network's input.
            **kwargs: "protos" of this image, shape (P, h, w).
        """
        found = super().located(pred, placement)
        if not len(pred):
            return found
        protos, coefficients = kwargs["protos"], pred[:, 6:]
        if self.args.retina_masks:
            masks = placement.native_masks(protos, coefficients, found["boxes"][:, :4])
        else:
            masks = ops.process_mask(protos, coefficients, pred[:, :4], placement.network, upsample=True)
            masks = placement.as_one_step(masks)
        shown = masks.amax((1, 2)) > 0
        if getattr(self, "_feats", None) is not None:  # tracking needs one feature per box
            shown[:] = True
        return {"boxes": found["boxes"][shown], "masks": masks[shown]}


class MultimodalPoseValidator(PairValidator, PoseValidator):
    """Validate keypoints."""


class ReportingPoseValidator(Reporting, MultimodalPoseValidator):
    """Validate keypoints under several conditions."""

    plain = MultimodalPoseValidator


class MWAMPoseTrainer(PairTrainer, PoseTrainer):
    """Train for keypoints."""

    plain = MultimodalPoseValidator
    one_pass = ReportingPoseValidator


class MultimodalPosePredictor(MultimodalPredictor, PosePredictor):
    """Predict keypoints on pairs."""

    def located(self, pred: Tensor, placement: Placement, **kwargs: Any) -> dict[str, Any]:
        """Map boxes and keypoints to the image; see `MultimodalPredictor.located`."""
        keypoints = pred[:, 6:].view(len(pred), *self.model.kpt_shape)
        return {**super().located(pred, placement), "keypoints": placement.keypoints(keypoints)}


class MultimodalSemanticValidator(PairValidator, SemanticSegmentationValidator):
    """Validate classes of pixels."""

    def take_over(self, other: Any) -> None:
        """Copy the size of the masks, to which predictions are resized."""
        self._semantic_target_shape = other._semantic_target_shape


class ReportingSemanticValidator(Reporting, MultimodalSemanticValidator):
    """Validate classes of pixels under several conditions."""

    plain = MultimodalSemanticValidator

    def worth_showing(self) -> list[str]:
        """List the images to choose samples from: all."""
        return list(self.dataloader.dataset.im_files)

    def labels_of(self, index: int, batch: dict[str, Any]) -> np.ndarray:
        """Return the class of every pixel of an image of a batch, letterbox included."""
        return self.found_in(batch["semantic_mask"][index])

    def found_in(self, prediction: Tensor) -> np.ndarray:
        """Return the predicted class of every pixel."""
        return prediction.byte().cpu().numpy()


class MWAMSemanticTrainer(PairTrainer, SemanticSegmentationTrainer):
    """Train for classes of pixels."""

    plain = MultimodalSemanticValidator
    one_pass = ReportingSemanticValidator


class MultimodalSemanticPredictor(PairPredictor, SemanticSegmentationPredictor):
    """Predict classes of pixels on pairs."""

    def postprocess(self, preds: Any, img: Tensor, orig_imgs: Tensor | list[Pair], **kwargs: Any) -> list[PairResults]:
        """Map class scores to the images before choosing the best; see `PairPredictor.postprocess`."""
        placements = self.placements(img)
        if placements is None:
            return super().postprocess(preds, img, orig_imgs, **kwargs)
        preds = preds[0] if isinstance(preds, tuple | list) else preds
        results = []
        for pred, pair, placement, path in zip(preds, orig_imgs, placements, self.batch[0], strict=True):
            if pred.ndim == 2:  # an exported file outputs classes instead of scores
                pred = placement.scores(pred[None], "nearest")
                (result,) = super().postprocess(pred, pred[None], [pair])
            else:
                pred = placement.scores(pred)[None]
                (result,) = super().postprocess(pred, pred, [pair])
            result.path = path
            results.append(result)
        return results


class MultimodalClassificationValidator(PairValidator, StackedClassificationValidator):
    """Validate classes of images."""


class ReportingClassificationValidator(Reporting, MultimodalClassificationValidator):
    """Validate classes of images under several conditions."""

    plain = MultimodalClassificationValidator

    def worth_showing(self) -> list[str]:
        """List the images to choose samples from: none, as there is nothing to draw in them."""
        return []


class MWAMClassificationTrainer(PairTrainer, StackedClassificationTrainer):
    """Train for classes of images."""

    plain = MultimodalClassificationValidator
    one_pass = ReportingClassificationValidator

    def __init__(self, cfg=DEFAULT_CFG, overrides: dict[str, Any] | None = None, _callbacks: dict | None = None):
        requested = {"auto_augment": None, **(overrides or {}), "task": "classify"}
        if requested["auto_augment"]:
            raise NotImplementedError(
                f"auto_augment={requested['auto_augment']} only works on the colours of a camera: leave it out; "
                "scale, fliplr, flipud, hsv_h, hsv_s, hsv_v and erasing work on stacks"
            )
        super().__init__(cfg, requested, _callbacks)

    def get_model(
        self, cfg: str | Path | dict | None = None, weights: nn.Module | None = None, verbose: bool = True
    ) -> Any:
        """Build the model with the requested dropout; see `PairTrainer.get_model`."""
        model = super().get_model(cfg, weights, verbose)
        if self.args.dropout:
            for module in model.modules():
                if isinstance(module, nn.Dropout):
                    module.p = self.args.dropout
        return model


class MultimodalClassificationPredictor(PairPredictor, StackedClassificationPredictor):
    """Predict classes of pairs."""

    fit = "short"


@dataclass(frozen=True)
class Task:
    """The classes of a task.

    Attributes:
        trainer: Trains.
        validator: Validates one condition.
        reporting: Validates every combination of modalities in one pass, for a report.
        predictor: Predicts.
    """

    trainer: type[PairTrainer]
    validator: type[PairValidator]
    reporting: type[Reporting]
    predictor: type[PairPredictor]

    def as_map(self) -> dict[str, Any]:
        """Return the classes as in Ultralytics' `task_map`."""
        return {"trainer": self.trainer, "validator": self.validator, "predictor": self.predictor}


TASK_CLASSES = {
    "detect": Task(MWAMTrainer, MultimodalValidator, ReportingValidator, MultimodalPredictor),
    "obb": Task(MWAMOBBTrainer, MultimodalOBBValidator, ReportingOBBValidator, MultimodalOBBPredictor),
    "segment": Task(
        MWAMSegmentationTrainer,
        MultimodalSegmentationValidator,
        ReportingSegmentationValidator,
        MultimodalSegmentationPredictor,
    ),
    "pose": Task(MWAMPoseTrainer, MultimodalPoseValidator, ReportingPoseValidator, MultimodalPosePredictor),
    "semantic": Task(
        MWAMSemanticTrainer, MultimodalSemanticValidator, ReportingSemanticValidator, MultimodalSemanticPredictor
    ),
    "classify": Task(
        MWAMClassificationTrainer,
        MultimodalClassificationValidator,
        ReportingClassificationValidator,
        MultimodalClassificationPredictor,
    ),
}
"""By Ultralytics' name of the task."""

RTDETR = Task(MWAMRTDETRTrainer, MultimodalRTDETRValidator, ReportingRTDETRValidator, MultimodalRTDETRPredictor)
"""The classes of RT-DETR, whose task is also "detect"."""


def task_classes(task: str, stretched: bool) -> Task:
    """Return the classes of a task, for a model that takes stretched images or not."""
    return RTDETR if stretched and task == "detect" else TASK_CLASSES[task]
