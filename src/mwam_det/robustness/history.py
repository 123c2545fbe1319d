"""The figure of MWAM over a run (Fig. 4)."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mwam_det.robustness.style import PALETTE, SOFT, plain, tidy

PANELS = {
    "bank": ("Frequency ratio (FRM), banked", "low over high frequencies"),
    "share": ("Share of the modality (T)", "1: no preference"),
    "weight": ("Weight of its stream (K)", "1: as without MWAM"),
}
"""Title and axis label of the panel of each quantity."""

NEUTRAL = {"share": 1.0, "weight": 1.0}
"""The value of a quantity that prefers no modality."""

MEANS = 20
"""The running mean covers this fraction of the run: 1 / 20."""

FEWEST = 3
"""Minimum number of mini-batches in a running mean."""


def draw_history(history: Path, file: Path) -> bool:
    """Draw the banked FRM, the share and the weight of every modality over the mini-batches of a run.

    Args:
        history: mwam.csv of the run; it may be missing.
        file: The picture to write.

    Returns:
        Whether there was anything to draw; if not, no picture is written.
    """
    figure = history_figure(history) if history.is_file() else None
    if figure is None:
        return False
    figure.savefig(file, dpi=150, facecolor="white")
    return True


def history_figure(history: Path) -> Figure | None:
    """Draw a history; see `draw_history`. Quantities that were never measured have no panel.

    Returns:
        The figure; None if there is nothing to draw.
    """
    with history.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    names = [key.removeprefix("bank_") for key in rows[0] if key.startswith("bank_")] if rows else []
    curves = {
        quantity: {name: np.array([float(row[f"{quantity}_{name}"]) for row in rows]) for name in names}
        for quantity in PANELS
    }
    drawn = [name for name, by_modality in curves.items() if any(np.isfinite(v).any() for v in by_modality.values())]
    if not drawn:
        return None
    window = max(FEWEST, round(len(rows) / MEANS))
    iterations = np.array([int(row["iteration"]) for row in rows])
    figure = Figure(figsize=(4.2 * len(drawn), 3.6), layout="constrained")
    for axis, quantity in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn, strict=True):
        if quantity in NEUTRAL:
            axis.axhline(NEUTRAL[quantity], color=SOFT, linestyle=":", linewidth=1)
        for index, values in enumerate(curves[quantity].values()):
            colour = PALETTE[index % len(PALETTE)]
            axis.plot(iterations, values, color=colour, linewidth=0.7, alpha=0.35)
            axis.plot(iterations, running_mean(values, window), color=colour, linewidth=2)
        title, meaning = PANELS[quantity]
        axis.set_title(title, fontsize=11)
        axis.set(xlabel="mini-batch", ylabel=meaning)
        if quantity == "bank":
            axis.set_yscale("log")
        tidy(axis)
    handles = [
        Line2D([], [], color=PALETTE[index % len(PALETTE)], linewidth=2, label=plain(name))
        for index, name in enumerate(names)
    ]
    handles += [
        Line2D([], [], color=SOFT, linewidth=2, label=f"mean of {window} mini-batches"),
        Line2D([], [], color=SOFT, linewidth=0.7, alpha=0.6, label="each mini-batch"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 3 * len(drawn)), frameon=False)
    return figure


def running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Average each value with its neighbours, with fewer at the ends.

    Args:
        values: Shape (N,), float; NaN where nothing was measured.
        window: Number of values in a mean.

    Returns:
        Shape (N,); NaN where a window has no value.
    """
    measured = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(measured, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(measured)])
    begins = np.arange(len(values)) - (window - 1) // 2
    first, end = begins.clip(min=0), (begins + window).clip(max=len(values))
    with np.errstate(invalid="ignore"):
        return (sums[end] - sums[first]) / (counts[end] - counts[first])
