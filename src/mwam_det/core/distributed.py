"""Agreement between ranks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist

Value = TypeVar("Value")


def mean_over_ranks(values: Tensor, counts: Tensor) -> Tensor:
    """Average values over all ranks, weighted by the number of samples on each rank.

    Args:
        values: Shape (M,), float.
        counts: Number of samples, shape (M,), dtype and device of `values`; 0 where this rank has no evidence.

    Returns:
        Shape (M,), the same on every rank; 0 where no rank had a sample. `values` itself if torch.distributed is not
        initialised.
    """
    if not _distributed():
        return values
    total = torch.stack([values * counts, counts])
    dist.all_reduce(total)
    return total[0] / total[1].clamp(min=1)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Average gradients over all ranks, for parameters outside `DistributedDataParallel`.

    Gradients may be averaged again after more were accumulated: the result is the same as averaging once. A parameter
    without a gradient on some ranks counts as 0 there; one without a gradient on every rank keeps none. Nothing happens
    if torch.distributed is not initialised.

    Args:
        parameters: The same on every rank, in the same order, of one dtype and on one device. All ranks must call
            together.
    """
    parameters = list(parameters)
    if not parameters or not _distributed():
        return
    known = parameters[0].new_tensor([float(parameter.grad is not None) for parameter in parameters])
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    total = torch.cat([known, *(gradient.flatten() for gradient in gradients)])
    dist.all_reduce(total)
    known, *means = total.split([len(parameters), *(parameter.numel() for parameter in parameters)])
    for parameter, is_known, mean in zip(parameters, known.tolist(), means, strict=True):
        if is_known:
            parameter.grad = (mean / dist.get_world_size()).view_as(parameter)


def take_from_first_rank(module: nn.Module) -> None:
    """Copy the parameters and buffers of a module from rank 0, as `DistributedDataParallel` does.

    Nothing happens if torch.distributed is not initialised.

    Args:
        module: The same on every rank except for its values. All ranks must call together.
    """
    if not _distributed():
        return
    for tensor in module.state_dict().values():
        dist.broadcast(tensor, 0)


def from_first_rank(value: Value) -> Value:
    """Return rank 0's value on every rank; `value` itself if torch.distributed is not initialised.

    Args:
        value: Any picklable object. All ranks must call together.
    """
    if not _distributed():
        return value
    values = [value]
    dist.broadcast_object_list(values, 0)
    return values[0]


def of_all_ranks(value: Value) -> list[Value]:
    """Return the values of all ranks, in order, on every rank; [value] if torch.distributed is not initialised.

    Args:
        value: Any picklable object. All ranks must call together.
    """
    if not _distributed():
        return [value]
    values = [value] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized()
