"""All that a resumed training needs to be the uninterrupted one, bit for bit on a CPU.

Ultralytics keeps half-precision averaged weights, half-precision optimizer states, and no random state. Kept here are
the weights and the averaged weights in full, the optimizer's states, gradients that wait for their step, and of every
rank its batch norms' statistics, the states of all its random generators and of the order of its samples, and which
images a mosaic may be made of.

Not kept, and so different after a resume: what loader workers draw, and the column of results.csv that says how long
the training took. Where the number of ranks changes, each rank takes over what the one of its number left, if any.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ultralytics.utils import RANK
from ultralytics.utils.torch_utils import unwrap_model

if TYPE_CHECKING:
    from mwam_det.engine.trainer import PairTrainer


def capture(trainer: PairTrainer, ranks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the state of a training at the end of an epoch: plain values and tensors.

    Args:
        trainer: That of rank 0.
        ranks: What `capture_rank` returned on each rank.
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


def capture_rank(trainer: PairTrainer) -> dict[str, Any]:
    """Return what this rank does not share with the others at the end of an epoch: plain values and tensors."""
    numpy_state: Any = np.random.get_state()
    name, keys, *rest = numpy_state
    model, loader = unwrap_model(trainer.model), trainer.train_loader
    return {
        "statistics": {} if RANK in {-1, 0} else {name: own.cpu() for name, own in model.named_buffers()},
        "random": {
            "python": random.getstate(),
            "numpy": [name, keys.tolist(), *rest],
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "order": loader.generator.get_state(),
        },
        "buffer": list(getattr(loader.dataset, "buffer", [])),
    }


def _own_part(state: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return what the rank of this number left; None without one."""
    ranks, own = state.get("ranks", []), max(RANK, 0)
    return ranks[own] if own < len(ranks) else None


def _parameters(trainer: PairTrainer) -> list[torch.nn.Parameter]:
    """List what the optimizer steps, auxiliary heads among it."""
    return [parameter for group in trainer.optimizer.param_groups for parameter in group["params"]]


def restore_weights(trainer: PairTrainer, state: Mapping[str, Any]) -> None:
    """Take over weights, averaged weights and the optimizer's states, once the trainer is set up."""
    unwrap_model(trainer.model).load_state_dict(state["model"])
    trainer.ema.ema.load_state_dict(state["averaged"])
    trainer.optimizer.load_state_dict(state["optimizer"])
    if own := _own_part(state):
        unwrap_model(trainer.model).load_state_dict(own["statistics"], strict=False)  # without parameters


def restore_epoch(trainer: PairTrainer, state: Mapping[str, Any]) -> None:
    """Take over the rest, as the last thing before the first mini-batch of the epoch that comes next."""
    for parameter, gradient in zip(_parameters(trainer), state["gradients"], strict=False):  # none if none waits
        parameter.grad = None if gradient is None else gradient.to(parameter)
    own = _own_part(state)
    if own is None:
        return
    loader = trainer.train_loader
    for index in own["buffer"]:
        loader.dataset.load_image(index)
    drawn = own["random"]
    random.setstate(_tuples(drawn["python"]))
    name, keys, *rest = drawn["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(drawn["torch"])
    if drawn["cuda"] and len(drawn["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(drawn["cuda"])
    _continue_order(loader, drawn["order"])
    if state["mosaic closed"]:  # the loop, which does not know, closes it again and makes the loader begin anew
        reset = loader.reset

        def reset_once() -> None:
            del loader.reset
            reset()
            _continue_order(loader, drawn["order"])

        loader.reset = reset_once


def _continue_order(loader: Any, order: torch.Tensor) -> None:
    """Continue the order of samples of the interrupted run; only without loader workers.

    A loader that begins draws a number, and a sampler that ends draws another order: both must have come as far as
    there. Of an order that is passed over no image is read.
    """
    if loader.num_workers:
        return
    loader.iterator = loader._get_iterator()
    for _ in range(len(loader)):
        next(loader.iterator._sampler_iter)
    loader.generator.set_state(order)


def _tuples(value: Any) -> Any:
    """Return nested lists as tuples, as Python's generator takes its state."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value
