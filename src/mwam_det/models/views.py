"""Training a model with streams on several views of each mini-batch, with modalities missing in some.

Stock layers and stock losses, led by hooks: streams run once, the fusions read their levels in all views, neck and head
run once on all of them, and the model's own loss is taken of each view. Views that only measure wait until the model
has gone over the complete mini-batch as ever: fusion, neck and head then look at them once more, without gradient.
Nothing of it is in the model's checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from ultralytics.nn.modules.head import Classify, RTDETRDecoder, SemanticSegment

from mwam_det.models.following import follow
from mwam_det.models.replay import levels_of, run_from_levels, run_stream_on_zeros
from mwam_det.models.stock import StockModel
from mwam_det.training.incomplete import Views
from mwam_det.training.measuring import KeptStatistics, measuring

VIEWS = "views"
"""Key of a batch under which the trainer says how the step sees it: a `Views`; without it the step is as ever."""

NO_DISTILLATION = "incomplete.distill: queries of RT-DETR have no fixed places to be compared at"

Balance = Callable[..., Tensor]
"""Takes views and the loss of each, and `multiple`, `logits` and `target`, as `ModalityRun.balance` does."""


class IncompleteViews:
    """Let a model in training look at the mini-batch as `batch[VIEWS]` says, and return the loss of all views.

    The hooks must be off (`remove`) whenever the model is copied or saved.

    Args:
        model: A model that `build_two_stream` built, without wrapper.
        balance: What makes one loss of those of the views; their weighted average if left out. Needed for views that
            only measure.
        recompute: Whether the layers of fusion, neck and head keep nothing but their inputs for the backward pass and
            run once more in it: gradients and running statistics are the same, memory is saved, and time is spent.
    """

    def __init__(self, model: StockModel, balance: Balance | None = None, recompute: bool = False):
        self._model = model
        self._balance = balance
        self._levels = levels_of(model)
        self._place = {index: (name, place) for name in self._levels for place, index in enumerate(self._levels[name])}
        self._views: Views | None = None  # that the step is trained on
        self._measured: Views | None = None  # that are only looked at
        self._seen: dict[int, Tensor] = {}  # levels of the complete mini-batch, while others are to be measured
        self._absent: dict[str, list[Tensor]] = {}
        self._mixed: dict[int, Tensor] = {}
        self._parts: list[Any] = []
        self._targets = 0
        first, end = model.yaml["fusions"]
        head = model.model[-1]
        self._recomputed = list(model.model[first:]) if recompute else []
        self._handles = [
            model.register_forward_pre_hook(self._begin),
            model.model[0].register_forward_pre_hook(self._mix_input),
            *(model.model[index].register_forward_hook(partial(self._keep_level, index)) for index in self._place),
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
        self._stop_recomputing()

    def _begin(self, model: StockModel, inputs: tuple[Any, ...]) -> None:
        batch = inputs[0] if inputs and isinstance(inputs[0], dict) else {}
        self._forget()
        views: Views | None = batch.get(VIEWS)
        if views is None:
            return
        if views.level == "features":
            # Before the streams run: hooks that keep what a level puts out are to keep what comes then.
            lacking = [name for name, own in views.present.items() if not all(own.flatten().tolist())]
            self._absent = {name: run_stream_on_zeros(model, name, batch["img"]) for name in lacking}
        if views.measure_only:
            self._measured = views
        else:
            self._views = views
            for layer in self._recomputed:
                layer.forward = partial(_recomputed, layer)

    def _stop_recomputing(self) -> None:
        for layer in self._recomputed:
            vars(layer).pop("forward", None)

    def _forget(self) -> None:
        self._stop_recomputing()
        self._views, self._measured = None, None
        self._seen, self._absent, self._mixed, self._parts = {}, {}, {}, []

    def _keep_level(self, index: int, layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        if self._measured is not None:
            self._seen[index] = output.detach()

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
        self._parts = self._split(self._views, outputs)
        return self._parts[0]

    def _split(self, views: Views, outputs: Any) -> list[Any]:
        if isinstance(self._model.model[-1], RTDETRDecoder):
            return self._decoder_parts(views, outputs)
        return views.split(outputs)

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
        if self._measured is not None:
            return self._with_measured(model, self._measured, inputs[0], output)
        views, parts = self._views, self._parts
        self._forget()
        if views is None or len(parts) < 2:
            return None
        batch = {key: value for key, value in inputs[0].items() if key != VIEWS}
        # One call a view: losses divide by a sum over their batch (detection by the scores assigned to labels) and
        # take no weights of samples, so that one call on all views would weigh each by how much it finds.
        losses = [output, *(model.loss(batch, part) for part in parts[1:])]
        loss = self._total(views, batch, [own for own, _ in losses], parts)
        items = {name: views.average(own[name] for _, own in losses) for name in output[1]}
        if views.distill:
            if isinstance(model.model[-1], RTDETRDecoder):
                raise NotImplementedError(NO_DISTILLATION)
            loss = loss.sum() + views.distillation(parts, partial(follow, gains=vars(model.args)))
        return loss, items

    def _with_measured(self, model: StockModel, views: Views, whole: dict[str, Any], output: Any) -> Any:
        """Look at views that only measure, and put what balancing makes of it in place of the loss."""
        batch = {key: value for key, value in whole.items() if key != VIEWS}
        # Scores of classes are compared with those of the complete view, which is then among them, on equal terms.
        first = 0 if has_class_scores(model) else 1
        parts = self._measure(_without_first(views, first))
        with torch.no_grad():
            losses = [model.loss(batch, part)[0] for part in parts[1 - first :]]
        return self._total(views, batch, [output[0], *losses], parts), output[1]

    @torch.no_grad()
    def _measure(self, views: Views) -> list[Any]:
        """Return what fusion, neck and head make of this mini-batch in each view; it leaves no trace."""
        seen, absent, levels = self._seen, self._absent, self._levels
        self._forget()
        mixed = {
            name: [
                views.mix(name, seen[index], absent[name][place] if name in absent else None)
                for place, index in enumerate(levels[name])
            ]
            for name in levels
        }
        with measuring(self._model.modules()):
            return self._split(views, run_from_levels(self._model, mixed))

    def _total(self, views: Views, batch: dict[str, Any], losses: Sequence[Tensor], parts: Sequence[Any]) -> Tensor:
        """Make one loss of those of the views, at their scale."""
        if self._balance is None:
            return views.average(losses)
        scores = [class_scores(self._model, batch, part) for part in parts]
        known = [score for score in scores if score is not None]
        multiple = loss_multiple(self._model, batch)
        with torch.autocast(batch["img"].device.type, enabled=False):  # what it takes gradients of is already made
            if not known:
                return self._balance(views, losses, multiple=multiple)
            logits, target = [own for own, _ in known], known[0][1]
            return self._balance(views, losses, multiple=multiple, logits=logits, target=target)


def _recomputed(layer: nn.Module, *inputs: Any) -> Any:
    """Run a layer so that it runs once more in the backward pass."""

    def contexts() -> tuple[Any, Any]:
        return nullcontext(), KeptStatistics(layer.modules())

    return checkpoint(partial(type(layer).forward, layer), *inputs, use_reentrant=False, context_fn=contexts)


def has_class_scores(model: StockModel) -> bool:
    """Return whether a model says of whole images, or of places in them, which one of several classes they show."""
    head = model.model[-1]
    return isinstance(head, Classify) or (isinstance(head, SemanticSegment) and head.nc > 1)


def class_scores(model: StockModel, batch: dict[str, Any], output: Any) -> tuple[Tensor, Tensor] | None:
    """Return the scores of classes in what a model put out in training, and the labels.

    Returns:
        Shapes (B, classes, …) and (B, …), labels at the size of the scores; None without, see `has_class_scores`.
    """
    if not has_class_scores(model):
        return None
    if isinstance(model.model[-1], Classify):
        return output, batch["cls"]
    scores = output if isinstance(output, Tensor) else output[0]
    masks = batch["semantic_mask"].to(scores.device)
    if masks.shape[1:] != scores.shape[2:]:
        masks = F.interpolate(masks[:, None].float(), scores.shape[2:], mode="nearest")[:, 0].long()
    return scores, masks


def loss_multiple(model: StockModel, batch: dict[str, Any]) -> int:
    """Return how many times its mean over the samples a model's loss is: Ultralytics sums over them in most tasks."""
    return 1 if isinstance(model.model[-1], Classify | RTDETRDecoder) else len(batch["img"])


def _without_first(views: Views, count: int) -> Views:
    present = {name: own[count:] for name, own in views.present.items()}
    return replace(views, present=present, weights=views.weights[count:])
