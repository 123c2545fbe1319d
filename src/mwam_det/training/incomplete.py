"""Incomplete input in training: several views of one mini-batch, each without some modalities.

    loss = Σ_c w_c · L(y, H(f_m where m ∈ c, else z_m)),   Σ_c w_c = 1

f_m are the features of a stream, z_m those of an absent modality at inference, H fusion, neck and head. With every
non-empty combination c this is Eq. 7 of MWAM with the model's head in place of auxiliary ones. Streams run once; all
views pass H as one batch, so that its batch norms learn the mixture that they meet at inference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mwam_det.core.checks import is_finite_number
from mwam_det.core.config import MWAMConfig, Settings
from mwam_det.core.missing import modality_combinations

LEVELS = ("features", "input")
WEIGHTS = ("equal", "mwam")

SMALLEST_WEIGHT = 1e-3
"""Smallest weight of MWAM by which views are weighted or drawn; β = α lets them fall to 0."""

DROPOUT_PROBABILITY = 0.5
"""Default probability that the only view of a sample is incomplete."""

WARM_UP = 0.2
"""Share of the training with views in which the distillation loss rises from 0 to its weight."""


@dataclass(frozen=True)
class IncompleteConfig(Settings):
    """How often, where and with what weight a training step sees incomplete input. The defaults are the whole cure.

    Args:
        views: How often a step sees each sample. "all": in each of the 2^M − 1 combinations of modalities. A number V
            of at least 2: complete, and in V − 1 incomplete combinations, drawn for each sample without replacement. 1:
            once, incomplete with probability `p` (modality dropout).
        level: Where a modality is removed. "features": behind its stream, which sees the sensor's images, so that its
            batch norms never see zeros; its features are replaced by those of zeros, as at inference. "input": the
            model's input is 0.
        weights: Share of the loss of each view. "equal": every combination counts the same; drawn views stand for those
            that were not drawn. "mwam": a combination counts by the mean weight K of the modalities that it keeps, or
            is drawn with a probability in proportion to it; several are drawn one after the other without replacement,
            which evens them out. Or a list with a share of each view, the complete one first, the others, where all are
            seen, in the order of `modality_combinations`; it is divided by its sum.
        p: With `views: 1`, the probability that a sample is incomplete, in [0, 1]; 0.5 if left out.
        start: Share of the training, in [0, 1), after which incomplete views begin; before, input is complete. The last
            epoch has them in any case. The best checkpoint is one from after, and early stopping counts from there.
        distill: Weight of a loss by which incomplete views follow the predictions of the complete one, weighted by its
            confidence; it rises from 0 within the first fifth of the training with views. 0 for none.
        checkpoint: Whether fusion, neck and head keep only the inputs of their layers and compute the rest again in the
            backward pass (gradient checkpointing), where memory is short. The results are the same.

    Raises:
        ValueError: If a value is outside its range; the message names key, value and choices.
    """

    views: int | str = "all"
    level: str = "features"
    weights: str | Sequence[float] = "equal"
    p: float | None = None
    start: float = 0.0
    distill: float = 0.0
    checkpoint: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.checkpoint, bool):
            raise ValueError(f"checkpoint={self.checkpoint!r} must be true or false")
        if self.views != "all" and (type(self.views) is not int or self.views < 1):
            raise ValueError(f"views={self.views!r} must be all, or a number of views, at least 1")
        if self.level not in LEVELS:
            raise ValueError(f"level={self.level!r} must be one of {', '.join(LEVELS)}")
        if isinstance(self.weights, Sequence) and not isinstance(self.weights, str):
            if not all(is_finite_number(w) and w >= 0 for w in self.weights) or not sum(self.weights) > 0:
                raise ValueError(f"weights={self.weights!r} must be numbers of at least 0, not all 0")
        elif self.weights not in WEIGHTS:
            raise ValueError(f"weights={self.weights!r} must be one of {', '.join(WEIGHTS)}, or a list of numbers")
        if self.p is not None and (not is_finite_number(self.p) or not 0 <= self.p <= 1):
            raise ValueError(f"p={self.p!r} must be a number in [0, 1]")
        if self.p is not None and self.views != 1:
            raise ValueError(f"p={self.p} is for views: 1, where a sample is seen once; views={self.views} shows both")
        if not is_finite_number(self.start) or not 0 <= self.start < 1:
            raise ValueError(f"start={self.start!r} must be a share of the training, in [0, 1)")
        if not is_finite_number(self.distill) or self.distill < 0:
            raise ValueError(f"distill={self.distill!r} must be a number, at least 0")
        if self.views == 1 and not isinstance(self.weights, str):
            raise ValueError("weights: with views: 1 there is one loss: use equal or mwam, and p")
        if self.views == 1 and self.distill:
            raise ValueError("distill: with views: 1 no complete view is there to follow: use 2 or more, or all")

    def count(self, modalities: Sequence[str]) -> int:
        """Return how many views of each sample a step sees."""
        return 2 ** len(modalities) - 1 if isinstance(self.views, str) else self.views


def incomplete_config(value: Any) -> IncompleteConfig | None:
    """Read the argument `incomplete`.

    Args:
        value: False or None for a training on complete input, True for the defaults of `IncompleteConfig`, or a mapping
            with values of it.

    Raises:
        ValueError: If the value or a key in it is not one of these.
    """
    if value is None or value is False:
        return None
    if value is True:
        return IncompleteConfig()
    if isinstance(value, Mapping):
        return IncompleteConfig.from_dict(value)
    raise ValueError(f"incomplete={value!r} must be true, false or a mapping of keys to values, like {{views: all}}")


def check_incomplete(config: IncompleteConfig | None, modalities: Sequence[str], mwam: MWAMConfig | None) -> None:
    """Check that the views fit the modalities and MWAM.

    Raises:
        ValueError: If there are fewer combinations than views, a list of weights has another length, or the weights are
            MWAM's and MWAM is off.
    """
    if config is None:
        return
    modalities = list(modalities)
    if len(modalities) < 2:
        raise ValueError(f"incomplete: with {', '.join(modalities)} alone nothing can be missing; set it to false")
    count, most = config.count(modalities), 2 ** len(modalities) - 1
    if count > most:
        raise ValueError(f"incomplete.views={count}: {', '.join(modalities)} have {most} combinations; use all")
    if not isinstance(config.weights, str) and len(config.weights) != count:
        raise ValueError(f"incomplete.weights={list(config.weights)} must be {count} numbers, one for each view")
    if config.weights == "mwam" and mwam is None:
        raise ValueError(
            "incomplete.weights=mwam goes by MWAM's weights, but mwam is false: mwam.mode=observe measures them and "
            "scales nothing"
        )


@dataclass(frozen=True)
class Views:
    """The views of one mini-batch of B samples, V of each; the first is complete unless it is the only one.

    Attributes:
        present: By modality, which samples have it in which view, shape (V, B), bool, on the CPU.
        weights: Share of the loss of each view, V numbers with the sum 1.
        level: Where modalities are removed, see `IncompleteConfig`.
        distill: Weight of the distillation loss in this step, warm-up included.
        measure_only: Whether the step trains on complete input as if it were the only view; the others run apart from
            it, without gradient.
    """

    present: Mapping[str, Tensor]
    weights: tuple[float, ...]
    level: str = "features"
    distill: float = 0.0
    measure_only: bool = False

    @property
    def combinations(self) -> list[tuple[str, ...] | None]:
        """The modalities that each view keeps; None for a view that keeps others from sample to sample."""
        present = {name: rows.tolist() for name, rows in self.present.items()}
        return [
            tuple(name for name, rows in present.items() if rows[view][0])
            if all(len(set(rows[view])) == 1 for rows in present.values())
            else None
            for view in range(len(self.weights))
        ]

    @property
    def lacking(self) -> dict[str, Tensor]:
        """By modality, which samples lack it, shape (V·B,), bool, in the order of `mix`."""
        return {name: ~rows.flatten() for name, rows in self.present.items()}

    def mix(self, name: str, features: Tensor, absent: Tensor | None = None) -> Tensor:
        """Return the features of a modality in all views, view by view.

        Args:
            name: The modality.
            features: Output of its stream on the complete mini-batch, shape (B, …).
            absent: z, its replacement where it is absent, shape (1, …); 0 if left out.

        Returns:
            Shape (V·B, …), dtype, device and memory format of `features`. Of several views the complete one is copied
            too: what fusions read is one batch of all, and the stream writes its part before there are others. Of a
            single view, it may share memory with `features` or between samples: do not change it in place.
        """
        absent = features.new_zeros(1, *features.shape[1:]) if absent is None else absent.to(features)
        blocks = []
        for row, values in zip(self.present[name], self.present[name].tolist(), strict=True):
            if all(values):
                blocks.append(features)
            elif not any(values):
                blocks.append(_repeated(absent, features))
            else:
                where = row.to(features.device, non_blocking=True).view(-1, *[1] * (features.ndim - 1))
                blocks.append(torch.where(where, features, absent))
        return blocks[0] if len(blocks) == 1 else torch.cat(blocks)

    def split(self, outputs: Any) -> list[Any]:
        """Split the outputs of a model in all views.

        Args:
            outputs: Tensors of shape (V·B, …), alone or in dictionaries, lists and tuples; anything else is in all.

        Returns:
            The same structure for each view, with tensors of shape (B, …) that share memory with `outputs`.

        Raises:
            ValueError: If a tensor does not have V·B samples.
        """
        return [self._part(outputs, view) for view in range(len(self.weights))]

    def _part(self, outputs: Any, view: int) -> Any:
        if isinstance(outputs, Tensor):
            total = next(iter(self.present.values())).numel()
            if not outputs.ndim or len(outputs) != total:
                raise ValueError(f"an output of shape {tuple(outputs.shape)} must have {total} samples, of all views")
            size = total // len(self.weights)
            return outputs[view * size : (view + 1) * size]
        if isinstance(outputs, Mapping):
            return {key: self._part(value, view) for key, value in outputs.items()}
        if isinstance(outputs, list | tuple):
            parts = [self._part(value, view) for value in outputs]
            return type(outputs)(*parts) if hasattr(outputs, "_fields") else type(outputs)(parts)  # a named tuple
        return outputs

    def distillation(self, outputs: Sequence[Any], divergence: Callable[[Any, Any], Tensor]) -> Tensor:
        """Return the loss by which incomplete views follow the complete one, distill · Σ w_c · d(o_c, o_complete).

        Args:
            outputs: Outputs of the model in each view, in order.
            divergence: d, of the outputs in a view and in the complete one.
        """
        complete, *others = outputs
        following = zip(self.weights[1:], others, strict=True)
        return self.distill * reduce(add, (weight * divergence(output, complete) for weight, output in following))

    def average(self, losses: Iterable[Tensor]) -> Tensor:
        """Return Σ w_c · L_c.

        Args:
            losses: The loss of each view, in order, of any shape.
        """
        return reduce(add, (weight * loss for weight, loss in zip(self.weights, losses, strict=True)))


def draw_views(
    count: int,
    modalities: Sequence[str],
    config: IncompleteConfig,
    weights: Mapping[str, Tensor | float] | None = None,
    generator: torch.Generator | None = None,
    warm_up: float = 1.0,
) -> Views:
    """Draw the views of a mini-batch.

    Args:
        count: Number of samples B.
        modalities: All modalities, two or more.
        config: Settings that `check_incomplete` has passed.
        weights: K of every modality, a number or 0-d; needed where `config.weights` is "mwam", otherwise not used.
        generator: Source of randomness, on the CPU.
        warm_up: Factor of `config.distill`, in [0, 1].

    Returns:
        The views. Incomplete combinations are drawn with equal probability, or with `weights` in proportion to the mean
        weight of the modalities that they keep, among those that a sample does not have yet.

    Raises:
        ValueError: If `weights` are needed and None.
    """
    *incomplete, complete = modality_combinations(modalities)
    worth = torch.tensor([_worth(c, config, weights) for c in (complete, *incomplete)], dtype=torch.float64)
    views, given = config.count(modalities), None if isinstance(config.weights, str) else config.weights
    members = {name: torch.tensor([name in c for c in (complete, *incomplete)]) for name in modalities}
    if views == 1:
        p = DROPOUT_PROBABILITY if config.p is None else config.p
        drawn = 1 + torch.multinomial(worth[1:], count, replacement=True, generator=generator)
        seen = torch.where(torch.rand(count, generator=generator) < p, drawn, 0)[None]
        shares: Sequence[float] = [1.0]
    elif views == len(worth):
        seen = torch.arange(views)[:, None].expand(-1, count)
        shares = given or worth.tolist()
    else:
        drawn = torch.multinomial(worth[1:].expand(count, -1), views - 1, generator=generator)
        seen = torch.cat([torch.zeros(1, count, dtype=torch.long), 1 + drawn.T])
        of_complete, *of_others = worth.tolist()
        shares = given or [of_complete, *[sum(of_others) / (views - 1)] * (views - 1)]
    total = sum(shares)
    return Views(
        {name: member[seen] for name, member in members.items()},
        tuple(share / total for share in shares),
        config.level,
        config.distill * warm_up,
    )


def views_alone(count: int, modalities: Sequence[str], *, shared: bool = False, measure_only: bool = False) -> Views:
    """Return the complete view and one of each modality alone.

    Args:
        count: Number of samples B.
        modalities: All modalities, two or more.
        shared: Whether all views have the same share of the loss; otherwise the complete one has all of it.
        measure_only: See `Views`.
    """
    kept = [tuple(modalities), *((name,) for name in modalities)]
    shares = [1 / len(kept)] * len(kept) if shared else [1.0, *[0.0] * len(modalities)]
    present = {name: torch.tensor([name in c for c in kept])[:, None].expand(-1, count) for name in modalities}
    return Views(present, tuple(shares), measure_only=measure_only)


def confident_divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the divergence of predicted classes from a teacher's, KL(teacher ‖ student), weighted by its confidence.

    Args:
        student: Logits, shape (B, classes, …); a single one is that of a class against none.
        teacher: Logits of the same shape; no gradient reaches them.

    Returns:
        The mean over samples and places, each weighted by the teacher's highest probability, 0-d, float32.
    """
    if student.shape[1] == 1:
        student, teacher = (torch.cat([logits, torch.zeros_like(logits)], 1) for logits in (student, teacher))
    logs, target = student.float().log_softmax(1), teacher.detach().float().log_softmax(1)
    confidence = target.amax(1).exp()
    divergence = F.kl_div(logs, target, reduction="none", log_target=True).sum(1)
    return (divergence * confidence).sum() / confidence.sum()


def _repeated(absent: Tensor, features: Tensor) -> Tensor:
    """Return the replacement for each sample; copied where `cat` would otherwise give up channels that come last."""
    repeated = absent.expand_as(features)
    last = features.ndim == 4 and features.is_contiguous(memory_format=torch.channels_last)
    return repeated.contiguous(memory_format=torch.channels_last) if last and not features.is_contiguous() else repeated


def _worth(combination: Sequence[str], config: IncompleteConfig, weights: Mapping[str, Tensor | float] | None) -> float:
    """Return the weight of a combination among the others."""
    if config.weights != "mwam":
        return 1.0
    if weights is None:
        raise ValueError("weights=mwam needs MWAM's weight of every modality")
    kept = [max(float(weights[name]), SMALLEST_WEIGHT) for name in combination]
    return sum(kept) / len(kept)
