"""A picture of MWAM over a run (Fig. 4)."""

from __future__ import annotations

import csv
from pathlib import Path

from matplotlib.figure import Figure


def draw_history(history: Path, file: Path) -> None:
    """Draw banked FRM, share and weight of every modality over the iterations of a run.

    Args:
        history: mwam.csv of the run; without a row there is no picture.
        file: The picture to write.
    """
    with history.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    if not rows:
        return
    iterations = [int(row["iteration"]) for row in rows]
    names = [key.removeprefix("bank_") for key in rows[0] if key.startswith("bank_")]
    panels = {"bank": "banked FRM (Eq. 2)", "share": "share T (Eq. 6)", "weight": "weight K (Eq. 5)"}
    figure = Figure(figsize=(13, 3.6), tight_layout=True)
    axes = figure.subplots(1, len(panels))
    for axis, (quantity, title) in zip(axes, panels.items(), strict=True):
        for name in names:
            axis.plot(iterations, [float(row[f"{quantity}_{name}"]) for row in rows], label=name, linewidth=1)
        axis.set_title(title)
        axis.set_xlabel("iteration")
        axis.grid(alpha=0.3)
    axes[0].set_yscale("log")
    axes[-1].legend()
    figure.savefig(file, dpi=150)
