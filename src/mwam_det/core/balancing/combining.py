"""Replace the gradients that a backward pass gives the streams."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from mwam_det.core.balancing.balancer import Balancer, Streams
from mwam_det.core.balancing.evidence import Evidence
from mwam_det.core.modulation import parameters_by_stream


class GradientCombiner:
    """Measure the gradient of each objective on the streams, and let the next backward pass leave their combination.

    Hooks on the leaf parameters exchange the gradient of that one pass, so that gradients that are accumulated over
    several mini-batches are the sum of separately combined ones. Everything else keeps the gradient of the pass.

    Args:
        balancer: What combines them.
        streams: The parameters of each modality's backbone. Those that need no gradient are passed over.

    Raises:
        ValueError: As `parameters_by_stream`.
    """

    def __init__(self, balancer: Balancer, streams: Streams):
        owner = parameters_by_stream(balancer, streams)
        self._owner = {parameter: name for parameter, name in owner.items() if parameter.requires_grad}
        self._combined: dict[nn.Parameter, Tensor] = {}
        self._measuring = False
        self._handles = [parameter.register_hook(partial(self._exchange, parameter)) for parameter in self._owner]

    def parameters(self, name: str | None = None) -> list[nn.Parameter]:
        """Return the parameters of one stream, or of all in a row."""
        return [parameter for parameter, owner in self._owner.items() if name in (None, owner)]

    def measure(self, loss: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor:
        """Return the gradient of an objective; its graph is kept for the backward pass to come.

        Args:
            loss: A loss of any shape, which is summed.
            parameters: Parameters of the streams.

        Returns:
            Flat, shape (P,), float32; 0 where the objective does not reach a parameter.
        """
        with self._without_exchange():
            gradients = torch.autograd.grad(loss.sum(), parameters, retain_graph=True, allow_unused=True)
        return torch.cat(
            [
                (torch.zeros_like(parameter) if gradient is None else gradient).flatten().float()
                for gradient, parameter in zip(gradients, parameters, strict=True)
            ]
        )

    def leave(self, parameters: Sequence[nn.Parameter], gradient: Tensor) -> None:
        """Set the gradient that the next backward pass leaves on parameters: flat, shape (P,)."""
        parts = gradient.split([parameter.numel() for parameter in parameters])
        for parameter, part in zip(parameters, parts, strict=True):
            self._combined[parameter] = part.view_as(parameter).to(parameter.dtype)

    def forget(self) -> None:
        """Drop what `leave` has set: the next backward pass leaves its gradients as they are."""
        self._combined.clear()

    def remove(self) -> None:
        """Remove all hooks: gradients are left alone from now on."""
        self.forget()
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    @contextmanager
    def _without_exchange(self) -> Iterator[None]:
        """Keep the hooks, which also run on what is measured, from exchanging it."""
        self._measuring = True
        try:
            yield
        finally:
            self._measuring = False

    def _exchange(self, parameter: nn.Parameter, gradient: Tensor | None) -> Tensor | None:
        return gradient if self._measuring else self._combined.pop(parameter, gradient)


class CombiningBalancer(Balancer, ABC):
    """A balancer that combines the gradients of several objectives on the streams.

    Each objective costs a backward pass of its own through fusion and streams, beside that of the total. In a
    distributed training each process combines the gradients of its own part of the mini-batch; then they are averaged.
    """

    needs_views = True
    trains_views = True
    combines_gradients = True

    _combiner: GradientCombiner | None = None

    def attach(self, streams: Streams, optimizer: torch.optim.Optimizer) -> GradientCombiner:
        """Let the method act on the streams of a training, see `Balancer.attach`: it combines gradients."""
        self._combiner = GradientCombiner(self, streams)
        return self._combiner

    def begin_epoch(self, epoch: int, epochs: int, seed: int = 0) -> None:
        """Begin an epoch, see `Balancer.begin_epoch`."""
        super().begin_epoch(epoch, epochs, seed)
        if self._combiner is not None:
            self._combiner.forget()

    def loss(self, evidence: Evidence, scale: float | Tensor = 1.0) -> Tensor:
        """Return the loss, and set the gradients that its backward pass leaves on the streams, see `Balancer.loss`.

        Raises:
            RuntimeError: Before `attach`.
        """
        if not self.active:
            return evidence.average()
        if self._combiner is None:
            raise RuntimeError(f"{self.config.method} combines gradients: call attach(streams, optimizer) first")
        self._combiner.forget()
        return self._combine(evidence, self._combiner, scale)

    @abstractmethod
    def _combine(self, evidence: Evidence, combiner: GradientCombiner, scale: float | Tensor) -> Tensor:
        """Tell the combiner which gradients to leave, at the scale of the loss times `scale`; return the loss."""
