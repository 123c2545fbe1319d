"""Agreement between ranks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn
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


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Average the gradients of parameters over all ranks, for what no `DistributedDataParallel` wraps.

    Averaging again what was averaged and has grown since gives the same as averaging once. A parameter without a
    gradient on some ranks counts as 0 there; without one on any rank it stays without. Nothing happens if
    torch.distributed is not initialised.

    Args:
        parameters: The same on every rank, in the same order, of one dtype and on one device. All ranks must call
            together.
    """
    parameters = list(parameters)
    if not parameters or not (dist.is_available() and dist.is_initialized()):
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
    """Give a module the parameters and buffers of rank 0, as `DistributedDataParallel` does with what it wraps.

    Nothing happens if torch.distributed is not initialised.

    Args:
        module: The same on every rank but for its values. All ranks must call together.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return
    for tensor in module.state_dict().values():
        dist.broadcast(tensor, 0)


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
