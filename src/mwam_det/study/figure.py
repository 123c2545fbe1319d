"""The figure of a comparison."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from mwam_det.robustness.style import CONTRASTS, png
from mwam_det.study.comparison import AVERAGE, COLLAPSE, Comparison

COLOURS = (*CONTRASTS, "#000000", "#8C6D31")

FIGURE_WIDTH = 11
"""Approximate maximum width of the figure in inches; columns that do not fit go to the next row."""


def comparison_picture(comparison: Comparison) -> bytes:
    """Return the figure of a comparison as a PNG file."""
    return png(comparison_figure(comparison))


def comparison_figure(comparison: Comparison) -> Figure:
    """Draw the first metric of every arm on every combination: means, standard deviations, and one dot per seed."""
    columns = [column for column in comparison.columns() if column != COLLAPSE]
    arms, inches = list(comparison.arms), 0.27 * len(comparison.arms) + 0.3
    per_row = max(1, min(len(columns), round(FIGURE_WIDTH / inches)))
    rows = [columns[first : first + per_row] for first in range(0, len(columns), per_row)]
    legend_columns = min(len(arms), 5)
    height = 3.4 * len(rows) + 0.25 * math.ceil(len(arms) / legend_columns) + 0.5
    figure = Figure(figsize=(max(7.0, inches * per_row + 1), height), layout="constrained")
    axes = figure.subplots(len(rows), sharey=True, squeeze=False)
    for axis, row in zip(axes[:, 0], rows, strict=True):
        for index, arm in enumerate(arms):
            _draw_arm(axis, comparison, row, arm, index)
        axis.set_xticks(range(len(row)), [column.replace("+", " + ") for column in row])
        axis.set_xlim(-0.6, per_row - 0.4)  # the last row may be shorter
        axis.set_ylabel(comparison.primary)
        axis.grid(axis="y", alpha=0.3)
        axis.set_axisbelow(True)
        if AVERAGE in row:
            axis.axvline(row.index(AVERAGE) - 0.5, color="grey", linewidth=0.8, linestyle=":")
    axes[0, 0].set_ylim(bottom=0)  # shared by all rows; set last, as it stops autoscaling
    figure.suptitle(f"{comparison.title}\nmean ± standard deviation; one dot per seed", fontsize="medium")
    handles = [Patch(**_style(index)) for index in range(len(arms))]
    # below the axes, so that long names take height instead of width
    figure.legend(handles, arms, loc="outside lower center", ncols=legend_columns, frameon=False)
    return figure


def _style(index: int) -> dict[str, Any]:
    """Return the style of an arm's bars."""
    colour, hatch = COLOURS[index % len(COLOURS)], ("", "//", "..")[index // len(COLOURS) % 3]
    return {"facecolor": f"{colour}73", "edgecolor": colour, "hatch": hatch}


def _draw_arm(axis: Any, comparison: Comparison, columns: Sequence[str], arm: str, index: int) -> None:
    """Draw the bars of one arm beside those of the others."""
    width, style = 0.84 / len(comparison.arms), _style(index)
    colour, shift = style["edgecolor"], (index - (len(comparison.arms) - 1) / 2) * width
    for group, column in enumerate(columns):
        if (estimate := comparison.estimate(arm, column)) is None:
            continue
        values = list(estimate.values.values())
        axis.bar(group + shift, estimate.mean, width * 0.92, **style)
        if estimate.std is not None:
            axis.errorbar(group + shift, estimate.mean, estimate.std, color=colour, capsize=3, linewidth=1.4)
        offsets = np.linspace(-width / 4, width / 4, len(values)) if len(values) > 1 else np.zeros(1)
        # dots side by side, so that equal values do not hide each other
        axis.scatter(group + shift + offsets, values, s=14, color=colour, edgecolor="white", linewidth=0.5, zorder=3)
