"""How large are the other hosts, and what does MWAM, or a balancing method, cost them?

    python benchmarks/hosts.py [--rounds 7] [--scale 0.5] [--device cuda] [--only esanet-md-r34 sf-md] [--balancing]

What the paper's Table 6 has. For each host at the paper's size (classifiers 112×112, ESANet 480×640, 40 classes):
parameters and GFLOPs of one sample at inference after some training steps without MWAM and with it, and what MWAM adds
to a training step for each sample, counted by torch.utils.flop_counter. It counts a multiplication and an addition as
two operations; published figures often count them as one. Then the time of MWAM alone on a mini-batch, and of a whole
training step (observe, normalise, forward, loss, backward, SGD) without MWAM and with it, in turn, at `--scale` times
that size; each ratio is taken within a round. A second host without MWAM shows the ratio that comes from the machine
alone. With --balancing, the methods of Table 13 that act in a step are timed instead, on hosts other than MMANet.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from machine import argument_parser, show, time_in_turn
from rich.table import Table
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mwam_det.core.balancing.methods import balancing_config
from mwam_det.core.config import MWAMConfig
from mwam_det.core.mwam import MWAM
from mwam_det.hosts.data.samples import HostModality, HostSample, MultimodalDataset, Normalise
from mwam_det.hosts.experiment import CLASSIFICATION, MMANETS, MODELS
from mwam_det.hosts.loop import Host, HostTrainer
from mwam_det.hosts.models.classifiers import SFMD
from mwam_det.hosts.models.esanet import STRIDE
from mwam_det.hosts.models.mmanet import MMANetGuidance, Teacher
from mwam_det.hosts.settings import TrainSettings
from mwam_det.hosts.tasks import Classification, Segmentation
from mwam_det.training.config import RunConfig
from mwam_det.training.incomplete import IncompleteConfig

WAYS: dict[str, dict[str, Any]] = {"off": {}, "off, once more": {}, "MWAM": {"mwam": MWAMConfig()}}
BALANCING: dict[str, dict[str, Any]] = {
    "off": {},
    "off, once more": {},
    "MWAM gradient": {"mwam": MWAMConfig()},
    "MWAM loss": {"mwam": MWAMConfig(mode="loss")},
    "views": {"incomplete": IncompleteConfig()},
    **{
        name: {"balancing": balancing_config({"method": method})}
        for name, method in {
            "OGM-GE": "ogm_ge", "AGM": "agm", "LFM": "lfm", "MMPareto": "mmpareto", "UPGrad": "torchjd"
        }.items()
    },
}  # fmt: skip
CLASSES = {"classification": 2, "segmentation": 40}


def modalities_of(name: str) -> tuple[HostModality, ...]:
    """Return the modalities that the paper gives a host."""
    if name.startswith(("sf-md", "mmanet")):
        return HostModality("rgb"), HostModality("depth"), HostModality("ir")
    return HostModality("rgb"), HostModality("depth", 1 if name.startswith("esanet") else 3)


def trainer_of(name: str, size: tuple[int, int], batch: int, device: str, way: dict[str, Any]) -> HostTrainer:
    """Build a trainer of a host, without data, which each step is given. `way` holds values of `RunConfig`."""
    modalities = modalities_of(name)
    kind = "classification" if name in MODELS[CLASSIFICATION] else "segmentation"
    task = Classification(CLASSES[kind]) if kind == "classification" else Segmentation(CLASSES[kind])
    torch.manual_seed(0)
    model = next(models[name] for models in MODELS.values() if name in models)(
        {m.name: m.channels for m in modalities}, CLASSES[kind]
    )
    no_data = MultimodalDataset([HostSample({}, 0)] * batch, modalities, size)
    settings = TrainSettings(imgsz=list(size), batch=batch, device=device, schedule="constant", epochs=10_000)
    statistics = {m.name: ([0.5] * m.channels, [0.25] * m.channels) for m in modalities}
    guidance = guidance_of(model, modalities, CLASSES[kind], statistics) if name in MMANETS else None
    folder = Path(tempfile.gettempdir())  # nothing is written: epochs are not trained
    return HostTrainer(
        Host(
            model,
            model.streams,
            task,
            CLASSES[kind],
            no_data,
            no_data,
            folder,
            settings,
            RunConfig(**{"incomplete": IncompleteConfig(views=1, p=0.5)} if guidance else {}, **way),
            guidance=guidance,
            describe={"statistics": statistics},
        )  # fmt: skip
    )


def guidance_of(model: SFMD, modalities: tuple[HostModality, ...], classes: int, statistics: dict) -> MMANetGuidance:
    """Build the guidance of MMANet as after its first epochs."""
    teacher = Teacher(SFMD({m.name: m.channels for m in modalities}, classes), Normalise(statistics))
    guidance = MMANetGuidance(model, teacher, [m.name for m in modalities], classes)
    guidance.weakest.fill_(0)
    return guidance


def mini_batch(trainer: HostTrainer, batch: int) -> tuple[dict[str, Tensor], Tensor]:
    """Return random images and targets on the trainer's device."""
    generator, size = torch.Generator().manual_seed(0), trainer.host.settings.size
    images = {
        m.name: torch.randint(0, 256, (batch, m.channels, *size), dtype=torch.uint8, generator=generator)
        for m in trainer.host.train_set.modalities
    }
    shape = (batch,) if isinstance(trainer.host.task, Classification) else (batch, *size)
    target = torch.randint(0, trainer.host.classes, shape, generator=generator)
    return {name: batch.to(trainer.device) for name, batch in images.items()}, target.to(trainer.device)


def step(trainer: HostTrainer, images: dict[str, Tensor], target: Tensor) -> None:
    """Do one training step."""
    trainer.model.train()
    trainer.run.begin_epoch(0, 1)
    trainer._step(images, target)


def count(model: nn.Module, inputs: dict[str, Tensor]) -> tuple[int, int, float]:
    """Return parameters, those of side outputs that only training uses, and GFLOPs of one sample at inference."""
    sides = sum(parameter.numel() for name, parameter in model.named_parameters() if ".side." in name)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(inputs)
    return sum(parameter.numel() for parameter in model.parameters()), sides, counter.get_total_flops() / 1e9


def observation_gflops(mwam: MWAM, inputs: dict[str, Tensor]) -> float:
    """Return the GFLOPs that MWAM takes to observe a mini-batch."""
    with FlopCounterMode(display=False) as counter:
        mwam.observe(inputs)
    return counter.get_total_flops() / 1e9


def main() -> None:
    """Measure and print."""
    names = [name for models in MODELS.values() for name in models]
    parser = argument_parser(__doc__, rounds=7, batch=4)
    parser.add_argument("--scale", type=float, default=1.0, help="size of the timed steps, of the paper's")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="HOST")
    parser.add_argument("--balancing", action="store_true", help="time balancing methods instead of MWAM")
    parser.add_argument("--counts", action="store_true", help="count only, time nothing")
    args = parser.parse_args()
    counts = Table(
        "host", "MWAM", "parameters", "of which training's side outputs", "GFLOPs", "GFLOPs of MWAM", title="one sample"
    )
    ways = BALANCING if args.balancing else WAYS
    others = [way for way in ways if way != "off"]
    times = Table("host", "px", "off, ms", *(f"{way} / off" for way in others), title="a training step")
    alone = Table("host", "px", "MWAM alone, ms", title="observing a mini-batch")
    for name in args.only:
        if args.balancing and name in MMANETS:
            continue
        full = (480, 640) if name.startswith("esanet") else (112, 112)
        size = tuple(max(round(side * args.scale / STRIDE), 1) * STRIDE for side in full) if args.scale != 1 else full
        trainers = {way: trainer_of(name, size, args.batch, args.device, how) for way, how in ways.items()}
        steps = {way: partial(step, trainer, *mini_batch(trainer, args.batch)) for way, trainer in trainers.items()}
        if args.counts:
            for way in steps.values():
                way()
        else:
            spread = time_in_turn(steps, args.rounds, warmup=2, device=args.device)
            ratios = [f"{spread[way].over(spread['off']):.3f}" for way in others]
            times.add_row(name, "×".join(map(str, size)), f"{spread['off']:.0f}", *ratios)
            if not args.balancing:
                observe = partial(trainers["MWAM"].run.mwam.observe, mini_batch(trainers["MWAM"], args.batch)[0])
                taken = time_in_turn({"MWAM": observe}, 2 * args.rounds, warmup=2, device=args.device)
                alone.add_row(name, "×".join(map(str, size)), f"{taken['MWAM']:.1f}")
        for way in () if args.balancing else ("off", "MWAM"):
            model = trainers[way].model
            inputs = {m.name: torch.rand(1, m.channels, *full, device=args.device) for m in modalities_of(name)}
            parameters, sides, gflops = count(model, inputs)
            mwam = f"{observation_gflops(trainers[way].run.mwam, inputs):.4f}" if way == "MWAM" else "-"
            counts.add_row(name, way, f"{parameters:,}", f"{sides:,}", f"{gflops:.3f}", mwam)
    results = [] if args.balancing else [counts]
    if not args.counts:
        results += [f"batch {args.batch}, SGD, float32, {args.rounds} rounds in turn, median (IQR)", times]
        results += [] if args.balancing else [alone]
    show(*results)


if __name__ == "__main__":
    main()
