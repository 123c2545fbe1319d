"""Run a model in the middle of its training without changing its state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd


@contextmanager
def evaluating(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Switch modules to evaluation, and back to the mode that each was in.

    Args:
        modules: The modules; those inside of one are not switched unless they are given too.
    """
    training = [module for module in modules if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def measuring(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Let a model in training run on inputs that it is not trained on.

    Batch norms normalise by the mini-batch, as in the training step, but leave their running statistics alone; dropout
    passes everything and draws nothing. Running statistics lag behind in the first steps of a training, and would
    distort what is measured.

    Args:
        modules: The modules, as for `evaluating`.
    """
    modules = list(modules)
    norms = [module for module in modules if isinstance(module, _NormBase) and module.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False  # in training, norms without them go by the mini-batch
    try:
        with evaluating(module for module in modules if isinstance(module, _DropoutNd | nn.MultiheadAttention)):
            yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


class KeptStatistics:
    """Let batch norms run again without updating their running statistics a second time.

    A context that can be entered more than once, for `torch.utils.checkpoint`, which repeats forward passes in the
    backward pass. Norms write to copies meanwhile, so that everything else is as the first time, bit for bit.

    Args:
        modules: The modules, as for `evaluating`.
    """

    def __init__(self, modules: Iterable[nn.Module]):
        self._norms = [module for module in modules if isinstance(module, _NormBase) and module.track_running_stats]
        self._kept: list[dict[str, Tensor | None]] = []

    def __enter__(self) -> None:
        self._kept = [dict(norm._buffers) for norm in self._norms]
        for norm, kept in zip(self._norms, self._kept, strict=True):
            norm._buffers.update({name: None if value is None else value.clone() for name, value in kept.items()})

    def __exit__(self, *exception: object) -> None:
        for norm, kept in zip(self._norms, self._kept, strict=True):
            norm._buffers.update(kept)
        self._kept = []
