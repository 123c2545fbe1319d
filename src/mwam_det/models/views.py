"""Training a model with streams on several views of each mini-batch, with modalities missing in some.

Stock layers and stock losses, driven by hooks: streams run once, the fusions read their levels in all views, neck and
head run once on all of them, and the model's own loss is computed for each view. Views that are only measured come
after the normal pass over the complete mini-batch: fusion, neck and head run on them again, without gradient. The
model's checkpoint is unaffected.
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
"""Key of a batch for the `Views` of the step; without it the step is the normal one."""

NO_DISTILLATION = "incomplete.distill: queries of RT-DETR have no fixed positions to be compared at"

Balance = Callable[..., Tensor]
"""Takes views and their losses, and `multiple`, `logits` and `target`, like `ModalityRun.balance`."""


class IncompleteViews:
    """Make a model in training see the views of the mini-batch in `batch[VIEWS]`, and return the loss of all.

    Remove the hooks (`remove`) before the model is copied or saved.

    Args:
        model: A model from `build_two_stream`, without wrapper.
        balance: Combines the losses of the views; their weighted average if left out. Required for views that are only
            measured.
        recompute: Whether fusion, neck and head keep only their inputs for the backward pass and run again in it:
            gradients and running statistics are the same, with less memory and more time.
    """

    def __init__(self, model: StockModel, balance: Balance | None = None, recompute: bool = False):
        self._model = model
        self._balance = balance
        self._levels = levels_of(model)
        self._level_of = {
            layer: (name, level) for name, layers in self._levels.items() for level, layer in enumerate(layers)
        }
        self._views: Views | None = None  # trained on
        self._measured: Views | None = None  # only measured
        self._seen: dict[int, Tensor] = {}  # levels of the complete mini-batch, if views are to be measured
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
            *(model.model[index].register_forward_hook(partial(self._keep_level, index)) for index in self._level_of),
            *(layer.register_forward_pre_hook(self._mix_levels) for layer in model.model[first:end]),
            head.register_forward_pre_hook(self._repeat_targets),
            head.register_forward_hook(self._take_apart),
            model.register_forward_hook(self._average),
        ]

    def remove(self) -> None:
        """Remove the hooks: the model sees each mini-batch only once again."""
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
            # Before the streams run, so that hooks on the levels keep the outputs of the mini-batch.
            lacking = [name for name, present in views.present.items() if not all(present.flatten().tolist())]
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
        """Replace the stacked images of the mini-batch by those of all views."""
        if self._views is None or self._views.level != "input":
            return None
        channels = self._model.yaml["modalities"]
        stacks = inputs[0].split(list(channels.values()), 1)
        return (torch.cat([self._views.mix(name, images) for name, images in zip(channels, stacks, strict=True)], 1),)

    def _mix_levels(self, layer: nn.Module, inputs: tuple[Any]) -> tuple[Any] | None:
        """Replace the levels that a fusion reads by those of all views."""
        views = self._views
        if views is None or views.level != "features" or not isinstance(layer.f, list):
            return None
        return ([self._mix_level(views, index, level) for index, level in zip(layer.f, inputs[0], strict=True)],)

    def _mix_level(self, views: Views, index: int, features: Tensor) -> Tensor:
        if index not in self._level_of:
            return features
        if index not in self._mixed:
            name, level = self._level_of[index]
            absent = self._absent[name][level] if name in self._absent else None
            self._mixed[index] = views.mix(name, features, absent)
        return self._mixed[index]

    def _repeat_targets(self, head: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Give RT-DETR's decoder, which also learns to denoise labels, the labels of every view."""
        if self._views is None or not isinstance(head, RTDETRDecoder) or len(inputs) < 2 or inputs[1] is None:
            return None
        features, targets = inputs
        count, samples = len(self._views.weights), len(targets["gt_groups"])
        self._targets = len(targets["cls"])
        repeated = {key: torch.cat([targets[key]] * count) for key in ("cls", "bboxes")}
        repeated["batch_idx"] = torch.cat([targets["batch_idx"] + samples * view for view in range(count)])
        return features, {**targets, **repeated, "gt_groups": targets["gt_groups"] * count}

    def _take_apart(self, head: nn.Module, inputs: tuple[Any, ...], outputs: Any) -> Any:
        """Let the model compute its own loss for the first view; keep the others."""
        if self._views is None:
            return None
        self._parts = self._split(self._views, outputs)
        return self._parts[0]

    def _split(self, views: Views, outputs: Any) -> list[Any]:
        if isinstance(self._model.model[-1], RTDETRDecoder):
            return self._decoder_parts(views, outputs)
        return views.split(outputs)

    def _decoder_parts(self, views: Views, outputs: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """Split the output of RT-DETR's decoder by views: its first axis is layers, and labels are numbered."""
        *decoded, boxes, scores, noisy = outputs
        by_sample = views.split([*(output.transpose(0, 1) for output in decoded), boxes, scores])
        parts = []
        for view, (first, second, *encoded) in enumerate(by_sample):
            meta = noisy
            if noisy is not None:
                samples = slice(view * len(encoded[0]), (view + 1) * len(encoded[0]))
                meta = {**noisy, "dn_pos_idx": noisy["dn_pos_idx"][samples]}
                if "dn_gt_idx" in noisy:
                    meta["dn_gt_idx"] = [numbers - view * self._targets for numbers in noisy["dn_gt_idx"][samples]]
            parts.append((first.transpose(0, 1), second.transpose(0, 1), *encoded, meta))
        return parts

    def _average(self, model: StockModel, inputs: tuple[Any, ...], output: Any) -> Any:
        """Replace the loss of the first view by that of all views."""
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
        loss = self._total(views, batch, [loss for loss, _ in losses], parts)
        items = {name: views.average(items[name] for _, items in losses) for name in output[1]}
        if views.distill:
            if isinstance(model.model[-1], RTDETRDecoder):
                raise NotImplementedError(NO_DISTILLATION)
            following = views.distillation(parts, partial(follow, gains=vars(model.args)))
            loss = loss.sum() + following * loss_multiple(model, batch)
        return loss, items

    def _with_measured(self, model: StockModel, views: Views, batch: dict[str, Any], output: Any) -> Any:
        """Measure views, and replace the loss by that of the balancing method."""
        batch = {key: value for key, value in batch.items() if key != VIEWS}
        # Class scores are compared with those of the complete view, which is then measured in the same way.
        first = 0 if has_class_scores(model) else 1
        parts = self._measure(_without_first(views, first))
        with torch.no_grad():
            losses = [model.loss(batch, part)[0] for part in parts[1 - first :]]
        return self._total(views, batch, [output[0], *losses], parts), output[1]

    @torch.no_grad()
    def _measure(self, views: Views) -> list[Any]:
        """Return the outputs of fusion, neck and head for each view, without side effects."""
        seen, absent, levels = self._seen, self._absent, self._levels
        self._forget()
        mixed = {
            name: [
                views.mix(name, seen[index], absent[name][level] if name in absent else None)
                for level, index in enumerate(levels[name])
            ]
            for name in levels
        }
        with measuring(self._model.modules()):
            return self._split(views, run_from_levels(self._model, mixed))

    def _total(self, views: Views, batch: dict[str, Any], losses: Sequence[Tensor], parts: Sequence[Any]) -> Tensor:
        """Combine the losses of the views, at their scale."""
        if self._balance is None:
            return views.average(losses)
        scores = [class_scores(self._model, batch, part) for part in parts]
        known = [score for score in scores if score is not None]
        multiple = loss_multiple(self._model, batch)
        with torch.autocast(batch["img"].device.type, enabled=False):  # the graph is already built
            if not known:
                return self._balance(views, losses, multiple=multiple)
            logits, target = [logits for logits, _ in known], known[0][1]
            return self._balance(views, losses, multiple=multiple, logits=logits, target=target)


def _recomputed(layer: nn.Module, *inputs: Any) -> Any:
    """Run a layer so that it runs again in the backward pass."""

    def contexts() -> tuple[Any, Any]:
        return nullcontext(), KeptStatistics(layer.modules())

    return checkpoint(partial(type(layer).forward, layer), *inputs, use_reentrant=False, context_fn=contexts)


def has_class_scores(model: StockModel) -> bool:
    """Return whether a model classifies whole images, or pixels into several classes."""
    head = model.model[-1]
    return isinstance(head, Classify) or (isinstance(head, SemanticSegment) and head.nc > 1)


def class_scores(model: StockModel, batch: dict[str, Any], output: Any) -> tuple[Tensor, Tensor] | None:
    """Return the class scores in the training output of a model, and the labels.

    Returns:
        Shapes (B, classes, …) and (B, …), labels at the size of the scores; None without (see `has_class_scores`).
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
    """Return the ratio of a model's loss to its mean over samples: in most tasks Ultralytics sums over them."""
    return 1 if isinstance(model.model[-1], Classify | RTDETRDecoder) else len(batch["img"])


def _without_first(views: Views, count: int) -> Views:
    present = {name: mask[count:] for name, mask in views.present.items()}
    return replace(views, present=present, weights=views.weights[count:])
