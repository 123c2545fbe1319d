"""Training a model with streams on several views of each mini-batch, with modalities missing in some.

Stock layers and stock losses, led by hooks: streams run once, the fusions read their levels in all views, neck and head
run once on all of them, and the model's own loss is taken of each view. Nothing of it is in its checkpoint.
"""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.nn.modules.head import RTDETRDecoder

from mwam_det.models.following import follow
from mwam_det.models.replay import levels_of, run_stream_on_zeros
from mwam_det.models.stock import StockModel
from mwam_det.training.incomplete import Views

VIEWS = "views"
"""Key of a batch under which the trainer says how the step sees it: a `Views`; without it the step is as ever."""


class IncompleteViews:
    """Let a model in training look at the mini-batch as `batch[VIEWS]` says, and return the loss of all views.

    The hooks must be off (`remove`) whenever the model is copied or saved.

    Args:
        model: A model that `build_two_stream` built, without wrapper.
    """

    def __init__(self, model: StockModel):
        self._model = model
        self._levels = levels_of(model)
        self._place = {index: (name, place) for name in self._levels for place, index in enumerate(self._levels[name])}
        self._views: Views | None = None
        self._absent: dict[str, list[Tensor]] = {}
        self._mixed: dict[int, Tensor] = {}
        self._parts: list[Any] = []
        self._targets = 0
        first, end = model.yaml["fusions"]
        head = model.model[-1]
        self._handles = [
            model.register_forward_pre_hook(self._begin),
            model.model[0].register_forward_pre_hook(self._mix_input),
            *(layer.register_forward_pre_hook(self._mix_levels) for layer in model.model[first:end]),
            head.register_forward_pre_hook(self._repeat_targets),
            head.register_forward_hook(self._take_apart),
            model.register_forward_hook(self._average),
        ]

    def remove(self) -> None:
        """Take the hooks off: the model sees each mini-batch once again."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _begin(self, model: StockModel, inputs: tuple[Any, ...]) -> None:
        batch = inputs[0] if inputs and isinstance(inputs[0], dict) else {}
        self._forget()
        self._views = batch.get(VIEWS)
        if self._views is not None and self._views.level == "features":
            # Before the streams run: hooks that keep what a level puts out are to keep what comes then.
            lacking = [name for name, own in self._views.present.items() if not own.all()]
            self._absent = {name: run_stream_on_zeros(model, name, batch["img"]) for name in lacking}

    def _forget(self) -> None:
        self._views, self._absent, self._mixed, self._parts = None, {}, {}, []

    def _mix_input(self, layer: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor] | None:
        """Put the stacked images of all views in place of those of the mini-batch."""
        if self._views is None or self._views.level != "input":
            return None
        channels = self._model.yaml["modalities"]
        stacks = inputs[0].split(list(channels.values()), 1)
        return (torch.cat([self._views.mix(name, own) for name, own in zip(channels, stacks, strict=True)], 1),)

    def _mix_levels(self, layer: nn.Module, inputs: tuple[Any]) -> tuple[Any] | None:
        """Put the levels in all views in place of those that a fusion reads."""
        views = self._views
        if views is None or views.level != "features" or not isinstance(layer.f, list):
            return None
        return ([self._mix_level(views, index, own) for index, own in zip(layer.f, inputs[0], strict=True)],)

    def _mix_level(self, views: Views, index: int, features: Tensor) -> Tensor:
        if index not in self._place:
            return features
        if index not in self._mixed:
            name, place = self._place[index]
            absent = self._absent[name][place] if name in self._absent else None
            self._mixed[index] = views.mix(name, features, absent)
        return self._mixed[index]

    def _repeat_targets(self, head: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Give the decoder of RT-DETR, which learns to clean noisy labels too, the labels of every view."""
        if self._views is None or not isinstance(head, RTDETRDecoder) or len(inputs) < 2 or inputs[1] is None:
            return None
        features, targets = inputs
        count, samples = len(self._views.weights), len(targets["gt_groups"])
        self._targets = len(targets["cls"])
        repeated = {key: torch.cat([targets[key]] * count) for key in ("cls", "bboxes")}
        repeated["batch_idx"] = torch.cat([targets["batch_idx"] + samples * view for view in range(count)])
        return features, {**targets, **repeated, "gt_groups": targets["gt_groups"] * count}

    def _take_apart(self, head: nn.Module, inputs: tuple[Any, ...], outputs: Any) -> Any:
        """Let the model take its own loss of the first view; keep the others."""
        if self._views is None:
            return None
        if isinstance(head, RTDETRDecoder):
            self._parts = self._decoder_parts(self._views, outputs)
        else:
            self._parts = self._views.split(outputs)
        return self._parts[0]

    def _decoder_parts(self, views: Views, outputs: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """Take apart what RT-DETR's decoder puts out: layers come before samples there, and labels have numbers."""
        *decoded, boxes, scores, noisy = outputs
        by_sample = views.split([*(own.transpose(0, 1) for own in decoded), boxes, scores])
        parts = []
        for view, (first, second, *encoded) in enumerate(by_sample):
            meta = noisy
            if noisy is not None:
                own = slice(view * len(encoded[0]), (view + 1) * len(encoded[0]))
                meta = {**noisy, "dn_pos_idx": noisy["dn_pos_idx"][own]}
                if "dn_gt_idx" in noisy:
                    meta["dn_gt_idx"] = [numbers - view * self._targets for numbers in noisy["dn_gt_idx"][own]]
            parts.append((first.transpose(0, 1), second.transpose(0, 1), *encoded, meta))
        return parts

    def _average(self, model: StockModel, inputs: tuple[Any, ...], output: Any) -> Any:
        """Put the loss of all views in place of that of the first."""
        views, parts = self._views, self._parts
        self._forget()
        if views is None or len(parts) < 2:
            return None
        batch = {key: value for key, value in inputs[0].items() if key != VIEWS}
        losses = [output, *(model.loss(batch, part) for part in parts[1:])]
        loss = views.average(own for own, _ in losses)
        items = {name: views.average(own[name] for _, own in losses) for name in output[1]}
        if views.distill:
            loss = loss.sum() + views.distill * self._distillation(views, parts)
        return loss, items

    def _distillation(self, views: Views, parts: list[Any]) -> Tensor:
        if isinstance(self._model.model[-1], RTDETRDecoder):
            raise NotImplementedError("incomplete.distill: queries of RT-DETR have no fixed places to be compared at")
        gains = vars(self._model.args)
        following = zip(views.weights[1:], parts[1:], strict=True)
        return reduce(add, (weight * follow(part, parts[0], gains) for weight, part in following))
