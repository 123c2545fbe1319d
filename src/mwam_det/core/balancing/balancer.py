"""The interface that all balancing methods share."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from mwam_det.core.balancing.evidence import Evidence
from mwam_det.core.config import Settings, has_begun
from mwam_det.core.modulation import GradientModulator, UpdateModulator, keeps_gradient_scale

Streams = Mapping[str, nn.Module | Iterable[nn.Parameter]]
"""The parameters of each modality's backbone: a module or an iterable of parameters, by modality."""


class Attachment(Protocol):
    """The hooks of a method on the streams of a training."""

    def remove(self) -> None:
        """Remove them: gradients and steps are left alone from now on."""


@dataclass(frozen=True)
class BalancingConfig(Settings):
    """What the settings of all methods share.

    Args:
        start: Share of the training, in [0, 1), from which the method acts, at the latest in the last epoch; before,
            training is as without it.
        stop: Share of the training, in (0, 1], from which it no longer acts; the epoch in which it starts is whole.

    Raises:
        ValueError: If a value is outside its range; the message names key, value and choices.
    """

    method: ClassVar[str]

    start: float = 0.0
    stop: float = 1.0

    def __post_init__(self) -> None:
        for key in ("start", "stop"):
            check_number(key, getattr(self, key))
        if not 0 <= self.start < self.stop <= 1:
            raise ValueError(
                f"start={self.start}, stop={self.stop} must be shares of the training, 0 ≤ start < stop ≤ 1"
            )


def check_number(key: str, value: Any, *, least: float = -math.inf, above: float = -math.inf) -> None:
    """Check that a setting is a finite number, at least `least` and above `above`.

    Raises:
        ValueError: If it is not; the message names both.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise ValueError(f"{key}={value!r} must be a finite number")
    if value < least:
        raise ValueError(f"{key}={value} must be at least {least}")
    if not value > above:
        raise ValueError(f"{key}={value} must be above {above}")


def check_count(key: str, value: Any, least: int) -> None:
    """Check that a setting is a number of validations, at least `least`.

    Raises:
        ValueError: If it is not; the message names both.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{key}={value!r} must be a number of validations, at least {least}")


class Balancer:
    """A method that balances modalities, in any training loop. This one does nothing: methods override its hooks.

    What happens when, in a loop that the host owns:

        attachment = balancer.attach(streams, optimizer)      # once
        balancer.begin_epoch(epoch, epochs)                   # before each epoch
        balancer.observe(evidence)                            # each mini-batch, before its backward pass
        balancer.loss(evidence).backward()
        balancer.validated(scores)                            # after each validation of every modality alone

    Factors and state are the same on all ranks of a distributed training: what a step measures is averaged over them
    first, so all ranks must call `observe` together, and what a validation found must be the same on all.

    A modality without evidence (absent from the whole mini-batch, or its loss is NaN or infinite) gets the factor 1 and
    is left out where others are compared. Where fewer than two have evidence, all factors are 1.

    Args:
        modalities: Names of the modalities, two or more.
        config: Settings of the method.

    Raises:
        ValueError: If there are fewer than two names or one is repeated.

    Attributes:
        modalities: As given.
        config: As given.
        active: Whether this epoch lies in the share of the training in which the method acts.
        weights: Factor of each modality, 0-d float32, on the device of the losses; 1 where the method does not act.
    """

    needs_views: ClassVar[bool] = False
    """Whether a step must see each modality alone, beside the complete input."""

    trains_views: ClassVar[bool] = False
    """Whether each of these views has a share of the loss; otherwise the complete input has all of it."""

    follows_views: ClassVar[bool] = False
    """Whether views without a share of the loss give gradients too; otherwise they only measure."""

    fixed_views: ClassVar[bool] = False
    """Whether the views must be these and no others."""

    needs_logits: ClassVar[bool] = False
    """Whether the method is defined for scores of classes alone, so that a host without them can refuse it."""

    needs_validation: ClassVar[bool] = False
    """Whether it goes by validations with each modality alone."""

    combines_gradients: ClassVar[bool] = False
    """Whether it replaces the gradients of the streams."""

    scales_steps: ClassVar[bool] = False
    """Whether its factors multiply the steps of any optimizer, rather than gradients where that keeps their scale."""

    remembered: ClassVar[tuple[str, ...]] = ()
    """What a resumed run needs beside the factors: the keys of the state, and with an underscore in front of them
    attributes that hold a value of each modality by name."""

    def __init__(self, modalities: Sequence[str], config: BalancingConfig):
        self.modalities = tuple(modalities)
        if len(set(self.modalities)) != len(self.modalities) or len(self.modalities) < 2:
            raise ValueError(f"modalities={list(modalities)} must be distinct names, two or more")
        self.config = config
        self.active = config.start == 0
        self._device = torch.device("cpu")
        self.reset()

    def reset(self) -> None:
        """Forget everything, as before the first mini-batch."""
        self._set_factors({})

    def begin_epoch(self, epoch: int, epochs: int, seed: int = 0) -> None:
        """Begin an epoch.

        Args:
            epoch: The epoch, from 0.
            epochs: Number of epochs.
            seed: Seed of what is drawn in this epoch, different for each epoch and process.
        """
        start, is_over = self.config.start, epoch / epochs >= self.config.stop
        is_first = not has_begun(start, epoch - 1, epochs)  # which may already be beyond the share, if epochs are few
        self.active = has_begun(start, epoch, epochs) and (is_first or not is_over)
        self._set_factors(self._factors)

    @torch.no_grad()
    def observe(self, evidence: Evidence) -> dict[str, Tensor]:
        """Take in a mini-batch before its backward pass.

        Returns:
            Factor of each modality for this step, as `weights`.
        """
        self._device = evidence.losses[self.modalities].device
        if self.active:
            self._set_factors(self._allocate(evidence))
        return self.weights

    def loss(self, evidence: Evidence, scale: float | Tensor = 1.0) -> Tensor:
        """Return the loss to call `backward` on, after `observe`.

        Args:
            evidence: What `observe` was given.
            scale: What the host multiplies this loss by before its backward pass, as `GradScaler` does; a number, or
                0-d on the device of the losses.
        """
        return evidence.average()

    def validated(self, scores: Mapping[str, float], losses: Mapping[str, float] | None = None) -> None:
        """Take in a validation.

        Args:
            scores: The metric with each modality alone, by name, in [0, 1], higher is better.
            losses: The validation loss with each modality alone, of a host that has it.
        """

    def attach(self, streams: Streams, optimizer: torch.optim.Optimizer) -> Attachment | None:
        """Let the method act on the streams of a training.

        Factors multiply gradients where the optimizer keeps their scale (SGD), else its steps; see also `scales_steps`.

        Args:
            streams: The parameters of each modality's backbone. Fusion, neck and head are not among them.
            optimizer: The optimizer that steps them.

        Returns:
            What detaches it; None for a method that acts by its loss alone.

        Raises:
            ValueError: If the names are not the modalities, a stream has no parameters, or a parameter belongs to two.
        """
        if keeps_gradient_scale(optimizer) and not self.scales_steps:
            return GradientModulator(self, streams)
        return UpdateModulator(self, streams, optimizer)

    def state_dict(self) -> dict[str, Any]:
        """Return all that a resumed run needs as plain Python values, fit for any checkpoint."""
        return {
            "method": self.config.method,
            "factors": {name: self._factors.get(name, 1.0) for name in self.modalities},
            **{key: dict(getattr(self, f"_{key}")) for key in self.remembered},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned.

        Raises:
            ValueError: If the state is of another method or of other modalities.
        """
        if state["method"] != self.config.method:
            raise ValueError(f"the state is of balancing.method={state['method']}, not of {self.config.method}")
        if set(state["factors"]) != set(self.modalities):
            raise ValueError(f"the state is of modalities {sorted(state['factors'])}, not of {sorted(self.modalities)}")
        self._set_factors(state["factors"])
        for key in self.remembered:
            setattr(self, f"_{key}", dict(state[key]))

    @property
    def factors(self) -> dict[str, float]:
        """`weights` as plain numbers."""
        return {name: self._factors.get(name, 1.0) if self.active else 1.0 for name in self.modalities}

    def _allocate(self, evidence: Evidence) -> Mapping[str, float]:
        """Return the factors of this step; what is not named gets 1."""
        return self._factors

    def _set_factors(self, factors: Mapping[str, float]) -> None:
        self._factors = dict(factors)
        weights = torch.tensor(list(self.factors.values())).to(self._device, non_blocking=True)
        self.weights = dict(zip(self.modalities, weights.unbind(), strict=True))


def finite(values: Mapping[str, float]) -> dict[str, float]:
    """Return the values that are neither NaN nor infinite."""
    return {name: float(value) for name, value in values.items() if math.isfinite(value)}
