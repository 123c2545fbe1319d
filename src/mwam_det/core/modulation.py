"""How the weights act on the training of a host model."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mwam_det.core.mwam import MWAM


class WeightSource(Protocol):
    """Anything with a weight for each modality: `MWAM`, or a method of `mwam_det.core.balancing`."""

    modalities: tuple[str, ...]
    weights: dict[str, Tensor]


class GradientModulator:
    """Multiply every gradient that reaches a stream's parameters by the weight of its modality.

    The hooks are on the leaf parameters: each backward pass is scaled by the weights of *its own* mini-batch, and
    gradients accumulated over several mini-batches are the sum of separately scaled ones. Fusion, neck and head are
    not in `streams` and keep their gradients. Scaling is exact for SGD with or without momentum; optimizers that
    normalise the gradient (Adam, AdamW, Muon) cancel a constant factor in part or in whole: see `UpdateModulator`.

    Attach it once the model is final, and call `MWAM.observe` before each backward pass. Hooks exist in this process
    only, not in copies or checkpoints of the model.

    Args:
        mwam: Source of the weights: an `MWAM`, or anything else that has modalities and weights.
        streams: The parameters of each modality's backbone: a module or an iterable of parameters, by modality.
            Frozen parameters are skipped.

    Raises:
        ValueError: If the names are not the modalities of `mwam`, a stream has no parameters, or a parameter belongs
            to two streams.
    """

    def __init__(self, mwam: WeightSource, streams: Mapping[str, nn.Module | Iterable[nn.Parameter]]):
        owner = parameters_by_stream(mwam, streams)
        self._mwam = mwam
        self._handles = [
            parameter.register_hook(lambda gradient, name=name: self._scale(gradient, name))
            for parameter, name in owner.items()
            if parameter.requires_grad
        ]

    def _scale(self, gradient: Tensor | None, name: str) -> Tensor | None:
        if gradient is None:  # a custom autograd function may return none for a parameter
            return None
        return gradient * self._mwam.weights[name].to(gradient.device)

    def remove(self) -> None:
        """Remove all hooks: gradients are no longer scaled."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()


class UpdateModulator:
    """Multiply the optimizer's step of a stream's parameters by the weight of its modality (Algorithm 1, line 8).

    θ ← θ + K·Δθ, where Δθ is the optimizer's own step, momentum and weight decay included. It is exact for every torch
    optimizer, including those that rescale gradients and so cancel `GradientModulator`. The weights are those of the
    mini-batch observed last; accumulated gradients make one step. A weight of 1 leaves the step unchanged bit for bit.
    The price is a copy of the streams' parameters during the step.

    Args:
        mwam: Source of the weights: an `MWAM`, or anything else that has modalities and weights.
        streams: The parameters of each modality's backbone: a module or an iterable of parameters, by modality.
        optimizer: The optimizer that steps them.

    Raises:
        ValueError: As `GradientModulator`.
    """

    def __init__(
        self,
        mwam: WeightSource,
        streams: Mapping[str, nn.Module | Iterable[nn.Parameter]],
        optimizer: torch.optim.Optimizer,
    ):
        self._mwam = mwam
        self._owner = parameters_by_stream(mwam, streams)
        self._before: list[tuple[nn.Parameter, Tensor, str]] = []
        self._handles = [
            optimizer.register_step_pre_hook(self._remember),
            optimizer.register_step_post_hook(self._scale),
        ]

    @torch.no_grad()
    def _remember(self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._before = [
            (parameter, parameter.clone(), name)
            for parameter, name in self._owner.items()
            if parameter.grad is not None
        ]

    @torch.no_grad()
    def _scale(self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for parameter, before, name in self._before:
            weight = self._mwam.weights[name].to(parameter.device, parameter.dtype)
            parameter.copy_(torch.lerp(before, parameter, weight))
        self._before = []

    def remove(self) -> None:
        """Remove the hooks from the optimizer: its steps are no longer scaled."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()


def parameters_by_stream(
    mwam: WeightSource, streams: Mapping[str, nn.Module | Iterable[nn.Parameter]]
) -> dict[nn.Parameter, str]:
    """Return the modality that each parameter of the streams belongs to.

    Raises:
        ValueError: If the names are not the modalities of `mwam`, a stream has no parameters, or a parameter belongs
            to two streams.
    """
    if set(streams) != set(mwam.modalities):
        raise ValueError(f"streams name {sorted(streams)}, but the modalities are {sorted(mwam.modalities)}")
    owner: dict[nn.Parameter, str] = {}
    for name, stream in streams.items():
        parameters = list(stream.parameters() if isinstance(stream, nn.Module) else stream)
        if not parameters:
            raise ValueError(f"the stream of '{name}' has no parameters")
        for parameter in parameters:
            if owner.setdefault(parameter, name) != name:
                raise ValueError(f"a parameter belongs to the streams of both '{owner[parameter]}' and '{name}'")
    return owner


def keeps_gradient_scale(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether a constant factor on the gradients is a constant factor on the optimizer's steps.

    True for SGD, with or without momentum. Adam and its variants, RMSprop and Muon normalise the gradient. A host that
    clips the norm of all gradients together, as Ultralytics does, scales them all by one factor: the weights then still
    hold relative to other streams and the head, but not for the length of the step.
    """
    return isinstance(optimizer, torch.optim.SGD)


def weighted_loss(fused: Tensor, by_modality: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> Tensor:
    """Add the losses of auxiliary heads, weighted by modality: L(y, y_o) + Σ K_m·L(y, y_m) (Eq. 7).

    Args:
        fused: Loss of the model's own output, L(y, y_o), 0-d.
        by_modality: Loss of each modality's auxiliary head, L(y, y_m), 0-d, by name.
        weights: Weight of each modality, what `MWAM.observe` returned.

    Returns:
        The total, 0-d.

    Raises:
        KeyError: If a modality has no weight.
    """
    return fused + sum(weights[name].to(loss.device) * loss for name, loss in by_modality.items())


def modulate(
    mwam: MWAM,
    streams: Mapping[str, nn.Module | Iterable[nn.Parameter]],
    optimizer: torch.optim.Optimizer,
) -> GradientModulator | UpdateModulator | None:
    """Apply the weights to the streams of a training as `mwam.config.mode` says.

    "gradient" attaches a `GradientModulator`, "update" an `UpdateModulator`; "auto" and "hybrid" attach the first where
    it is exact and the second for any other optimizer; "loss" and "observe" leave the streams alone. "gradient" with
    an optimizer that cancels it warns. For "loss" and "hybrid" the host adds the losses, see `weighted_loss`.

    Raises:
        ValueError: As `GradientModulator`.
    """
    mode = mwam.config.mode
    if mode in ("loss", "observe"):
        return None
    if mode == "update" or (mode in ("auto", "hybrid") and not keeps_gradient_scale(optimizer)):
        return UpdateModulator(mwam, streams, optimizer)
    if not keeps_gradient_scale(optimizer):
        warnings.warn(
            f"{type(optimizer).__name__} rescales gradients, which undoes MWAM's scaling of them in part or in whole: "
            "use mode='update' or 'auto', or SGD",
            stacklevel=2,
        )
    return GradientModulator(mwam, streams)
