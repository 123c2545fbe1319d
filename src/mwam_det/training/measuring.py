"""Looking at a model in the middle of its training without leaving a trace."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Switch modules to evaluation, whatever each of them was in; afterwards each is in that again.

    Batch norms then go by their running statistics and leave them as they are, and dropout draws nothing.

    Args:
        modules: Each by itself: the modules inside of one are not switched unless they are named too.
    """
    training = [module for module in modules if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
