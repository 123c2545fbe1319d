"""How far does a constant weight move the streams, by optimizer and mode?

    python benchmarks/displacement.py [--steps 4]

For every optimizer that Ultralytics offers, built by Ultralytics: ‖θ_after − θ_before‖ over all parameters of the
streams after a few steps of two-stream YOLOv8n at 64 px with the weight K = 0.5 or 1.5 for both, over the same with
K = 1. A weight with full effect gives K, one without effect gives 1. Later steps start from different parameters; with
the small learning rate the figures are close, but not exact. RAdam starts like SGD and normalises later.

Ultralytics clips all gradients to a joint norm of 10 in its optimizer step. The second half of the table is without
clipping, and "norm" is the median norm before clipping with K = 1, which shows how much is clipped.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import warnings
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from machine import argument_parser, show
from material import demo_data, train_step, trainer_at_start
from rich.table import Table

from mwam_det.models.two_stream import streams_of

OPTIMIZERS = ("SGD", "MuSGD", "Adam", "Adamax", "AdamW", "NAdam", "RAdam", "RMSprop")
COLUMNS = [(mode, weight) for mode in ("gradient", "update") for weight in (0.5, 1.5)]
BATCH, LEARNING_RATE = 4, 1e-4


class Bench:
    """Trains repeatedly from the same start on the same mini-batches.

    Args:
        folder: A temporary folder.
        steps: Mini-batches to train on.
    """

    def __init__(self, folder: Path, steps: int):
        self.folder = folder
        self.data = demo_data(folder, train=BATCH * steps)
        self.batches = list(self._trainer("SGD", "gradient", 1.0).train_loader)

    def _trainer(self, optimizer: str, mode: str, weight: float) -> Any:
        mwam = {"alpha": weight, "beta": 0.0, "mode": mode}  # Eq. 5 with β = 0: K = α
        common = {"imgsz": 64, "batch": BATCH, "lr0": LEARNING_RATE, "seed": 0}
        return trainer_at_start(self.data, self.folder, optimizer=optimizer, mwam=mwam, **common)

    def displacement(self, optimizer: str, mode: str, weight: float, clip: bool) -> tuple[float, float]:
        """Return the displacement of the streams, and the median norm of all gradients before clipping."""
        trainer, norms = self._trainer(optimizer, mode, weight), []
        parameters = [p for stream in streams_of(trainer.model).values() for p in stream.parameters()]
        before = [p.detach().clone() for p in parameters]
        original = torch.nn.utils.clip_grad_norm_

        def clip_or_not(parameters: Any, max_norm: float) -> None:
            norms.append(original(parameters, max_norm if clip else math.inf).item())

        with mock.patch("torch.nn.utils.clip_grad_norm_", clip_or_not):
            for batch in self.batches:
                train_step(trainer, batch)
        moves = torch.cat([(p.detach() - b).flatten() for p, b in zip(parameters, before, strict=True)])
        return moves.norm().item(), statistics.median(norms)


def main() -> None:
    """Measure and print."""
    parser = argument_parser(__doc__, steps=4)
    args = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*rescales gradients.*")  # what is measured here
    names = [f"{mode}\nK = {weight}" for mode, weight in COLUMNS]
    table = Table("optimizer", "norm", *names, *(f"{name}\nunclipped" for name in names))
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), args.steps)
        for optimizer in OPTIMIZERS:
            cells = []
            for clip in (True, False):
                plain, norm = bench.displacement(optimizer, "gradient", 1.0, clip)
                if clip:
                    cells.append(f"{norm:.0f}")
                cells += [f"{bench.displacement(optimizer, *c, clip)[0] / plain:.2f}" for c in COLUMNS]
            table.add_row(optimizer, *cells)
    show(
        f"two-stream YOLOv8n, 64 px, batch {BATCH}, {args.steps} steps, lr0 {LEARNING_RATE}: "
        "displacement of the streams over that with K = 1",
        table,
    )


if __name__ == "__main__":
    main()
