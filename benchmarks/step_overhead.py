"""What does MWAM add to a training step?

    python benchmarks/step_overhead.py [--imgsz 320] [--batch 16] [--rounds 12] [--device cuda --amp]

Times a whole step (preprocess_batch, forward, loss, backward, optimizer step with clipping and EMA) of two-stream
YOLOv8n with SGD, on one mini-batch of generated uint8 images and random boxes: without MWAM, with mode "gradient" and
with mode "update". The trainers are built with one seed and step in turn; each ratio is taken within a round. A second
trainer without MWAM shows how large a ratio comes from the machine alone.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from machine import machine, time_in_turn
from material import demo_data, pictures, train_step, trainer_at_start
from rich.console import Console
from rich.table import Table

BOXES = 8  # an image
WAYS = {"off": False, "off, once more": False, "gradient": {"mode": "gradient"}, "update": {"mode": "update"}}


def mini_batch(batch: int, imgsz: int, pinned: bool) -> dict[str, Any]:
    """Return a mini-batch as the loader gives it."""
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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--amp", action="store_true", help="mixed precision, on a GPU")
    args = parser.parse_args()
    batch = mini_batch(args.batch, args.imgsz, pinned=torch.cuda.is_available() and args.device != "cpu")
    with tempfile.TemporaryDirectory() as folder:
        data = demo_data(Path(folder))
        common = {"imgsz": args.imgsz, "batch": args.batch, "device": args.device, "amp": args.amp, "optimizer": "SGD"}
        trainers = {name: trainer_at_start(data, Path(folder), mwam=mwam, **common) for name, mwam in WAYS.items()}
        steps = {name: partial(train_step, trainer, batch) for name, trainer in trainers.items()}
        times = time_in_turn(steps, args.rounds, warmup=2, device=str(trainers["off"].device))

    console = Console(width=max(120, Console().width))
    console.print(machine())
    console.print(
        f"two-stream YOLOv8n, {args.imgsz} px, batch {args.batch}, SGD, {trainers['off'].device}, "
        f"{'float16' if trainers['off'].amp else 'float32'}, {args.rounds} rounds in turn"
    )
    table = Table("MWAM", "ms, median (IQR)", "step / off, median (IQR)")
    for name, spread in times.items():
        table.add_row(name, f"{spread:.0f}", "" if name == "off" else f"{spread.over(times['off']):.3f}")
    console.print(table)


if __name__ == "__main__":
    main()
