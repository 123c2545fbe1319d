"""Style of figures."""

from __future__ import annotations

import io
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
"""Colours distinguishable with any colour vision (Okabe and Ito); line styles help in greyscale."""

CONTRASTS = tuple(PALETTE[index] for index in (0, 5, 2, 3, 1, 4))
"""The same in an order of strong contrasts, for bars beside each other."""

DASHES = ("-", "--", ":", "-.")
MARKERS = "osD^vPX*<>"
INK, SOFT = "#1d2330", "#5a6376"


def tidy(axis: Axes, grid: Literal["both", "x", "y"] = "both") -> None:
    """Draw a light grid ("x", "y" or "both") and hide the top and right spines."""
    axis.grid(axis=grid, color="#d5dae3", linewidth=0.7)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def plain(text: str, longest: int = 40) -> str:
    """Shorten a name, and escape it so that matplotlib reads no formulas in it."""
    text = text if len(text) <= longest else f"{text[: longest - 1]}…"
    return text.replace("$", r"\$")


def png(figure: Figure) -> bytes:
    """Return a figure as a PNG file."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=150, facecolor="white")
    return stream.getvalue()
