"""How figures look."""

from __future__ import annotations

from typing import Literal

from matplotlib.axes import Axes

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
"""Colours that people with any colour vision can tell apart (Okabe and Ito); line styles help on grey paper."""

DASHES = ("-", "--", ":", "-.")
MARKERS = "osD^vPX*<>"
INK, SOFT = "#1d2330", "#5a6376"


def tidy(axis: Axes, grid: Literal["both", "x", "y"] = "both") -> None:
    """Draw a quiet grid ("x", "y" or "both") and leave out the lines above and on the right."""
    axis.grid(axis=grid, color="#d5dae3", linewidth=0.7)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def plain(text: str, longest: int = 40) -> str:
    """Shorten a name and keep matplotlib from reading formulas in it."""
    text = text if len(text) <= longest else f"{text[: longest - 1]}…"
    return text.replace("$", r"\$")
