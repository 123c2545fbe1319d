"""The state that makes a resumed training equal to an uninterrupted one, bit for bit on a CPU.

Ultralytics saves averaged weights and optimizer states in half precision, and no random state. Saved here are weights
and averaged weights in full precision, the optimizer's states, accumulated gradients, and for every rank its batch
norms' statistics, the states of its random generators and of the order of its samples, and the mosaic buffer.

Not saved, and so different after resuming: the random numbers of loader workers, and the elapsed time in results.csv.
If the number of ranks changes, each rank takes the state of the rank with its number, if any.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from ultralytics.utils import RANK
from ultralytics.utils.torch_utils import unwrap_model


class Training(Protocol):
    """What is saved and restored of a trainer; `waiting` counts mini-batches since the optimizer's last step."""

    epoch: int
    epochs: int
    waiting: int
    model: torch.nn.Module
    ema: Any
    optimizer: Any
    train_loader: Any
    args: Any


def capture(trainer: Training, ranks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the state of a training at the end of an epoch: plain values and tensors.

    Args:
        trainer: The trainer of rank 0.
        ranks: The result of `capture_rank` on each rank.
    """
    return {
        "epoch": trainer.epoch,
        "model": unwrap_model(trainer.model).state_dict(),
        "averaged": trainer.ema.ema.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "waiting": trainer.waiting,
        "gradients": [parameter.grad for parameter in _parameters(trainer)] if trainer.waiting else [],
        "mosaic closed": trainer.epoch >= trainer.epochs - trainer.args.close_mosaic,
        "ranks": list(ranks),
    }


def capture_rank(trainer: Training) -> dict[str, Any]:
    """Return the state specific to this rank at the end of an epoch: plain values and tensors."""
    numpy_state: Any = np.random.get_state()
    name, keys, *rest = numpy_state
    model, loader = unwrap_model(trainer.model), trainer.train_loader
    return {
        "statistics": {} if RANK in {-1, 0} else {name: buffer.cpu() for name, buffer in model.named_buffers()},
        "random": {
            "python": random.getstate(),
            "numpy": [name, keys.tolist(), *rest],
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "order": loader.generator.get_state(),
        },
        "buffer": list(getattr(loader.dataset, "buffer", [])),
    }


def _state_of_rank(state: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the state of the rank with this number; None without one."""
    ranks, rank = state.get("ranks", []), max(RANK, 0)
    return ranks[rank] if rank < len(ranks) else None


def _parameters(trainer: Training) -> list[torch.nn.Parameter]:
    """List the optimizer's parameters, including those of auxiliary heads."""
    return [parameter for group in trainer.optimizer.param_groups for parameter in group["params"]]


def restore_weights(trainer: Training, state: Mapping[str, Any]) -> None:
    """Restore weights, averaged weights and the optimizer's states, once the trainer is set up."""
    unwrap_model(trainer.model).load_state_dict(state["model"])
    trainer.ema.ema.load_state_dict(state["averaged"])
    groups = zip(state["optimizer"]["param_groups"], trainer.optimizer.param_groups, strict=True)
    kernels = [{**saved, "fused": group.get("fused")} for saved, group in groups]  # those of this device
    trainer.optimizer.load_state_dict({**state["optimizer"], "param_groups": kernels})
    if rank := _state_of_rank(state):
        unwrap_model(trainer.model).load_state_dict(rank["statistics"], strict=False)  # without parameters


def restore_epoch(trainer: Training, state: Mapping[str, Any]) -> None:
    """Restore the rest, immediately before the first mini-batch of the next epoch."""
    for parameter, gradient in zip(_parameters(trainer), state["gradients"], strict=False):  # may be empty
        parameter.grad = None if gradient is None else gradient.to(parameter)
    rank = _state_of_rank(state)
    if rank is None:
        return
    loader = trainer.train_loader
    for index in rank["buffer"]:
        loader.dataset.load_image(index)
    drawn = rank["random"]
    random.setstate(_tuples(drawn["python"]))
    name, keys, *rest = drawn["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(drawn["torch"])
    if drawn["cuda"] and len(drawn["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(drawn["cuda"])
    _continue_order(loader, drawn["order"])
    if state["mosaic closed"]:  # the loop closes it again, which restarts the loader
        reset = loader.reset

        def reset_once() -> None:
            del loader.reset
            reset()
            _continue_order(loader, drawn["order"])

        loader.reset = reset_once


def _continue_order(loader: Any, order: torch.Tensor) -> None:
    """Continue the order of samples of the interrupted run; only without loader workers.

    A starting loader draws a number, and an exhausted sampler draws a new order: both are advanced to that state. No
    image of the skipped order is read.
    """
    if loader.num_workers:
        return
    loader.iterator = loader._get_iterator()
    for _ in range(len(loader)):
        next(loader.iterator._sampler_iter)
    loader.generator.set_state(order)


def _tuples(value: Any) -> Any:
    """Convert nested lists to tuples, as Python's generator needs for its state."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value
