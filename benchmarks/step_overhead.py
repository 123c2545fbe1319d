"""What do MWAM, incomplete views and balancing methods add to a training step?

    python benchmarks/step_overhead.py [--imgsz 320] [--batch 16] [--rounds 12] [--device cuda] [--amp fp16]
        [--contiguous] [--memory] [--balancing]

Times a whole step (preprocess_batch, forward, loss, backward, optimizer step with clipping and EMA) of two-stream
YOLOv8n with SGD, on one mini-batch of generated uint8 images and random boxes: on complete input, with MWAM's modes
"gradient" and "update", and with incomplete views; or, with --balancing, with the balancing methods that act in a step
(MSLR and MSES act after validations, and their step is MWAM's "update"). The trainers are built with one seed and
step in turn; each ratio is taken within a round. A second trainer of the first kind shows the ratio that comes from the
machine alone.

With --amp fp16 (on a GPU) or bf16 (anywhere), steps are in mixed precision. On a GPU, Ultralytics trains with channels
last; --contiguous trains with the format of a CPU.

With --memory, each way runs its steps in its own process instead, which reports its peak memory: that of the device's
allocator on a GPU, otherwise that of the process beyond its memory before the first step.
"""

from __future__ import annotations

import resource
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from machine import argument_parser, show, time_in_turn
from material import demo_data, pictures, train_step, trainer_at_start
from rich.table import Table

BOXES = 8  # per image
WAYS: dict[str, dict[str, Any]] = {
    "off": {"mwam": False},
    "off, once more": {"mwam": False},
    "MWAM, gradient": {"mwam": {"mode": "gradient"}},
    "MWAM, update": {"mwam": {"mode": "update"}},
    "dropout of features": {"mwam": False, "incomplete": {"views": 1}},
    "views 2": {"mwam": False, "incomplete": {"views": 2}},
    "views all": {"mwam": False, "incomplete": {"views": "all"}},
    "views 2, checkpoint": {"mwam": False, "incomplete": {"views": 2, "checkpoint": True}},
    "views all, checkpoint": {"mwam": False, "incomplete": {"views": "all", "checkpoint": True}},
}
BALANCING: dict[str, dict[str, Any]] = {
    "off": {"mwam": False},
    "off, once more": {"mwam": False},
    "OGM-GE": {"mwam": False, "balancing": {"method": "ogm_ge"}},
    "AGM": {"mwam": False, "balancing": {"method": "agm"}},
    "MMPareto": {"mwam": False, "balancing": {"method": "mmpareto"}},
    "UPGrad": {"mwam": False, "balancing": {"method": "torchjd", "aggregator": "UPGrad"}},
}
STEPS = 3
"""Number of steps for the peak memory."""


def mini_batch(batch: int, imgsz: int, pinned: bool) -> dict[str, Any]:
    """Return a mini-batch like the loader's."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.rand(batch * BOXES, 2, generator=generator) * 0.6 + 0.2
    sides = torch.rand(batch * BOXES, 2, generator=generator) * 0.2 + 0.1
    tensors = {
        "img": pictures((batch, 6, imgsz, imgsz), seed=0),
        "cls": torch.randint(0, 3, (batch * BOXES, 1), generator=generator).float(),
        "bboxes": torch.cat([centres, sides], 1),
        "batch_idx": torch.arange(batch).repeat_interleave(BOXES).float(),
    }
    return {key: value.pin_memory() if pinned else value for key, value in tensors.items()}


def peak_memory(way: str, common: dict[str, Any], precision: torch.dtype, send: Any) -> None:
    """Run a few steps of one way and send the peak memory in bytes."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_at_start(demo_data(Path(folder)), Path(folder), **{**WAYS, **BALANCING}[way], **common)
        on_gpu = trainer.device.type == "cuda"
        batch = mini_batch(common["batch"], common["imgsz"], pinned=on_gpu)
        before = 0 if on_gpu else resident()
        for _ in range(STEPS):
            train_step(trainer, batch, precision)
        send.put(torch.cuda.max_memory_allocated() if on_gpu else peak_resident() - before)


def resident() -> int:
    """Return the memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def peak_resident() -> int:
    """Return the peak memory of this process in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def in_own_process(way: str, common: dict[str, Any], precision: torch.dtype) -> float:
    """Return the peak memory of a way in MiB."""
    context = torch.multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    process = context.Process(target=peak_memory, args=(way, common, precision, queue))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"the steps of '{way}' failed")
    return queue.get() / 2**20


def main() -> None:
    """Measure and print."""
    parser = argument_parser(__doc__, imgsz=320, batch=16, rounds=12)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--amp", nargs="?", const="fp16", choices=["fp16", "bf16"], help="mixed precision")
    parser.add_argument("--contiguous", action="store_true", help="do not train with channels last on a GPU")
    parser.add_argument("--memory", action="store_true", help="measure peak memory instead of time")
    parser.add_argument("--balancing", action="store_true", help="balancing methods instead of MWAM and views")
    args = parser.parse_args()
    if args.amp == "fp16" and args.device == "cpu":
        parser.error("--amp fp16 needs a GPU: give --device cuda, or --amp bf16")
    ways = BALANCING if args.balancing else WAYS
    common = {"imgsz": args.imgsz, "batch": args.batch, "device": args.device, "optimizer": "SGD"}
    # The trainer does not need to know of bfloat16: it has no scaler then, as in float32.
    common |= {"amp": args.amp == "fp16", "channels_last": False if args.contiguous else None}
    precision = torch.bfloat16 if args.amp == "bf16" else torch.float16
    if args.memory:
        peaks = {way: in_own_process(way, common, precision) for way in ways}
        table = Table("step", "peak memory, MiB", "over complete input", title=f"{args.imgsz} px, batch {args.batch}")
        for way, peak in peaks.items():
            table.add_row(way, f"{peak:.0f}", f"{peak / peaks['off']:.2f}")
        show(table)
        return
    batch = mini_batch(args.batch, args.imgsz, pinned=torch.cuda.is_available() and args.device != "cpu")
    with tempfile.TemporaryDirectory() as folder:
        data = demo_data(Path(folder))
        trainers = {name: trainer_at_start(data, Path(folder), **way, **common) for name, way in ways.items()}
        steps = {name: partial(train_step, trainer, batch, precision) for name, trainer in trainers.items()}
        times = time_in_turn(steps, args.rounds, warmup=2, device=str(trainers["off"].device))

    table = Table("step", "ms, median (IQR)", "step / off, median (IQR)")
    for name, spread in times.items():
        table.add_row(name, f"{spread:.0f}", "" if name == "off" else f"{spread.over(times['off']):.3f}")
    show(
        f"two-stream YOLOv8n, {args.imgsz} px, batch {args.batch}, SGD, {trainers['off'].device}, "
        f"{args.amp or 'fp32'}{', contiguous' if args.contiguous else ''}, {args.rounds} rounds in turn",
        table,
    )


if __name__ == "__main__":
    main()
