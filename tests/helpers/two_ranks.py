"""One of two processes that work on parts of the same mini-batch. A module, so that a spawned process finds it."""

from pathlib import Path

import torch
from ranks import one_of_two
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mwam_det import MWAM, GradientModulator, UpdateModulator
from mwam_det.core.distributed import average_gradients, take_from_first_rank


def whole_batch():
    generator = torch.Generator().manual_seed(0)
    rgb = torch.randint(0, 256, (6, 3, 24, 24), generator=generator, dtype=torch.uint8)
    ir = (torch.nn.functional.interpolate(rgb[:, :, ::4, ::4].float(), (24, 24), mode="bilinear")).byte()
    ir[:2] = 0  # rank 0 has no infrared image at all in what it sees below
    return {"rgb": rgb, "ir": ir}


def observe_a_share(rank):
    part = slice(0, 2) if rank == 0 else slice(2, 6)
    mwam = MWAM(["rgb", "ir"])
    mwam.observe({name: images[part] for name, images in whole_batch().items()})
    return mwam.last


class TwoStreams(nn.Module):
    def __init__(self):
        super().__init__()
        self.rgb, self.ir, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(1, 4, 3), nn.Linear(8, 2)

    def forward(self, rgb, ir):
        features = [self.rgb(rgb).tanh().mean((2, 3)), self.ir(ir).tanh().mean((2, 3))]
        return self.head(torch.cat(features, 1))


def two_streams():
    """A model in double precision: what remains of a difference is no rounding."""
    torch.manual_seed(0)
    return TwoStreams().double()


def mini_batch(seed):
    """Eight images of each modality, whose halves differ in their FRM."""
    generator = torch.Generator().manual_seed(seed)
    rgb = torch.rand(8, 3, 24, 24, generator=generator)
    rgb[4:] = nn.functional.avg_pool2d(rgb[4:], 5, 1, 2)
    ir = nn.functional.interpolate(torch.rand(8, 1, 3, 3, generator=generator), (24, 24), mode="bicubic").clamp(0, 1)
    target = torch.rand(8, 2, generator=generator)
    return {"rgb": rgb.double(), "ir": ir.double()}, target.double()


def backward(model, mwam, seed, part):
    """Observe and go backward on a part of a mini-batch; the loss is its mean."""
    inputs, target = mini_batch(seed)
    inputs = {name: images[part] for name, images in inputs.items()}
    mwam.observe(inputs)
    nn.functional.mse_loss(model(**inputs), target[part]).backward()


def scaled_gradients(part=slice(None), wrap=None, seeds=(0,)):
    """Gradients accumulated over mini-batches, and what was observed in each. `wrap` makes a model distributed."""
    model = two_streams()
    mwam = MWAM(["rgb", "ir"])
    GradientModulator(mwam, {"rgb": model.rgb, "ir": model.ir})
    host = wrap(model) if wrap else model
    observations = []
    for seed in seeds:
        if wrap and seed != seeds[-1]:
            with host.no_sync():
                backward(host, mwam, seed, part)
        else:
            backward(host, mwam, seed, part)
        observations.append(mwam.last)
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}, observations


def scaled_steps(part=slice(None), wrap=None, seeds=(0,)):
    """Parameters after a step of AdamW on each mini-batch, scaled by `UpdateModulator`."""
    model = two_streams()
    mwam = MWAM(["rgb", "ir"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    UpdateModulator(mwam, {"rgb": model.rgb, "ir": model.ir}, optimizer)
    host = wrap(model) if wrap else model
    for seed in seeds:
        optimizer.zero_grad()
        backward(host, mwam, seed, part)
        optimizer.step()
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


ACCUMULATED = (0, 1, 2)
"""Mini-batches of an accumulated step, and of a short training."""


def work_of_a_rank(part=slice(None), wrap=None):
    """Everything that is compared between a single process and each of two ranks."""
    return {
        "gradients": scaled_gradients(part, wrap),
        "accumulated": scaled_gradients(part, wrap, ACCUMULATED),
        "one step": scaled_steps(part, wrap),
        "steps": scaled_steps(part, wrap, ACCUMULATED),
    }


def gradients_beside_a_wrapper(rank):
    """Average twice, as where a step waits for another mini-batch; the gradients by parameter."""
    module = nn.ParameterDict({name: torch.full((2,), float(rank)) for name in ("both", "first", "none")})
    take_from_first_rank(module)
    for _ in range(2):
        loss = (rank + 1) * module["both"].sum() + (module["first"].sum() if rank == 0 else 0)
        loss.backward()
        average_gradients(module.parameters())
    return {name: (own.detach(), own.grad) for name, own in module.items()}


def run_a_rank(rank, folder):
    """Do everything that one rank does, then on rank 0 what a single process does, and save it as `folder`/rank.pt."""
    half = slice(0, 4) if rank == 0 else slice(4, 8)
    with one_of_two(rank, folder):
        results = {"observed": observe_a_share(rank), **work_of_a_rank(half, DistributedDataParallel)}
        results["beside"] = gradients_beside_a_wrapper(rank)
    if rank == 0:
        results["alone"] = work_of_a_rank()  # here, where everything is imported already
    torch.save(results, Path(folder) / f"{rank}.pt")
