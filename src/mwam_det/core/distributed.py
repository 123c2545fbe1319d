"""Agreement between ranks."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

Value = TypeVar("Value")


def mean_over_ranks(values: Tensor, counts: Tensor) -> Tensor:
    """Average values over all ranks, weighted by how many samples each rank drew them from.

    Args:
        values: Shape (M,), float.
        counts: Shape (M,), the dtype and device of `values`; 0 where this rank has nothing to say.

    Returns:
        Shape (M,), the same on every rank; 0 where no rank had a sample. `values` itself if torch.distributed is not
        initialised.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return values
    total = torch.stack([values * counts, counts])
    dist.all_reduce(total)
    return total[0] / total[1].clamp(min=1)


def from_first_rank(value: Value) -> Value:
    """Return on every rank what rank 0 has; `value` itself if torch.distributed is not initialised.

    Args:
        value: Anything that can be pickled. All ranks must call together.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return value
    values = [value]
    dist.broadcast_object_list(values, 0)
    return values[0]


def of_all_ranks(value: Value) -> list[Value]:
    """Return what each rank has, in order, on every rank; [value] if torch.distributed is not initialised.

    Args:
        value: Anything that can be pickled. All ranks must call together.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return [value]
    values = [value] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values
