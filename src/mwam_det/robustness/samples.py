"""The figure of samples: predictions in images of the split (Fig. 6)."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Polygon
from matplotlib.patheffects import Normal, withStroke
from matplotlib.typing import LineStyleType
from ultralytics.utils.metrics import batch_probiou, bbox_ioa
from ultralytics.utils.ops import xywhr2xyxyxyxy
from ultralytics.utils.plotting import colors

from mwam_det.robustness.results import CONFIDENCE, IOU, Boxes, RobustnessResults, Sample
from mwam_det.robustness.style import INK, SOFT, plain

HIT, MISS, FALSE_ALARM, LABEL = "#00B884", "#F0E442", "#E8590C", "#56B4E9"

_LARGEST_ROW = 6
"""With more pictures in a row, objects would be too small to see."""

_MOST_CLASSES = 12
"""Number of classes in the legend."""


def sample_sheet(report: RobustnessResults) -> Figure:
    """Draw the samples (Fig. 6), one row each: modalities with labels, then the predictions of all combinations.

    Predictions are drawn on the visible modality if available, otherwise on the first available one. An image takes
    several rows if one would have too many pictures.
    """
    views = len(report.modalities) + len(report.results)
    rows_each = math.ceil(views / _LARGEST_ROW)
    columns = math.ceil(views / rows_each)
    heights = [_shape(sample) for sample in report.samples for _ in range(rows_each)]
    width, gaps = 2.3, 0.24 * len(heights) if rows_each > 1 else 0.06 * len(heights) + 0.2
    layout = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    figure = Figure(figsize=(columns * width + 0.3, sum(heights) * width + gaps + 0.5), layout=layout)
    grid = figure.subplots(len(heights), columns, squeeze=False, height_ratios=heights)
    for axis in grid.flat:
        axis.set_axis_off()
    for row, sample in enumerate(report.samples):
        cells = grid[row * rows_each : (row + 1) * rows_each].flatten()
        titled = rows_each > 1 or row == 0
        for axis, modality in zip(cells, report.modalities, strict=False):
            _show(axis, sample.images[modality], f"{modality}, labels" if titled else "")
            if isinstance(sample.labels, Boxes):
                _draw(axis, sample.labels.coordinates, LABEL, "-")
            else:
                _paint(axis, sample.labels)
        for axis, result in zip(cells[len(report.modalities) :], report.results, strict=False):
            modality = report.visible if report.visible in result.available else result.available[0]
            _show(axis, sample.images[modality], " + ".join(result.available) if titled else "")
            found = sample.found[result.available]
            if not isinstance(found, Boxes):
                _paint(axis, found)
            elif isinstance(sample.labels, Boxes):
                _draw_found(axis, sample.labels, found)
        cells[0].text(
            -0.02, 0.5, plain(sample.name, 28), rotation=90, ha="right", va="center", fontsize=6, color=SOFT,
            transform=cells[0].transAxes,
        )  # fmt: skip
    figure.legend(handles=_legend(report), loc="outside upper center", ncols=_LARGEST_ROW, frameon=False)
    return figure


def _legend(report: RobustnessResults) -> list[Line2D | Patch]:
    """Explain the colours: those of the most frequent classes, or of labels, hits and errors."""
    maps = [sample.labels for sample in report.samples if not isinstance(sample.labels, Boxes)]
    if not maps:
        kinds: dict[str, tuple[str, LineStyleType]] = {
            "label": (LABEL, "-"),
            "hit": (HIT, "-"),
            "miss": (MISS, "--"),
            "false alarm": (FALSE_ALARM, ":"),
        }
        return [
            Line2D([], [], color=colour, linestyle=dashes, linewidth=2.5, path_effects=_outline(2.5), label=name)
            for name, (colour, dashes) in kinds.items()
        ]
    counts = np.sum([np.bincount(classes.ravel(), minlength=256) for classes in maps], axis=0)[: len(report.names)]
    shown = sorted(np.argsort(-counts, kind="stable")[:_MOST_CLASSES][: (counts > 0).sum()])
    return [Patch(color=_class_colour(number), label=plain(report.names[number], 20)) for number in shown]


def _class_colour(number: int) -> tuple[float, float, float]:
    red, green, blue = colors(int(number))
    return red / 255, green / 255, blue / 255


def _paint(axis: Axes, classes: np.ndarray) -> None:
    """Overlay the colours of classes on an image, except where pixels are ignored."""
    colours = np.array([(*_class_colour(number), 0.6) for number in range(255)] + [(0, 0, 0, 0)])
    height, width = classes.shape
    axis.imshow(colours[classes], extent=(0, width, height, 0), interpolation="nearest")


def judge(labels: Boxes, found: Boxes) -> tuple[np.ndarray, np.ndarray]:
    """Match predictions with objects.

    Predictions are matched in the order of their scores, each with the remaining object of its class that it overlaps
    most.

    Args:
        labels: The objects.
        found: The predictions.

    Returns:
        Whether each prediction is a hit, and whether each object was found, shapes (N_found,) and (N_labels,), bool.
    """
    hits, taken = np.zeros(len(found.classes), bool), np.zeros(len(labels.classes), bool)
    if not len(hits) or not len(taken):
        return hits, taken
    overlaps = _overlaps(found.coordinates, labels.coordinates)
    overlaps[found.classes[:, None] != labels.classes] = 0
    for index in np.argsort(-found.scores, kind="stable"):
        free = np.where(taken, 0, overlaps[index])
        if free.max() >= IOU:
            hits[index] = taken[free.argmax()] = True
    return hits, taken


def _draw_found(axis: Axes, labels: Boxes, found: Boxes) -> None:
    sure = found.scores >= CONFIDENCE
    found = Boxes(found.coordinates[sure], found.classes[sure], found.scores[sure])
    hits, taken = judge(labels, found)
    _draw(axis, labels.coordinates[~taken], MISS, "--")
    _draw(axis, found.coordinates[~hits], FALSE_ALARM, ":")
    _draw(axis, found.coordinates[hits], HIT, "-")


def _draw(axis: Axes, coordinates: np.ndarray, colour: str, dashes: str) -> None:
    for corners in _corners(coordinates):
        axis.add_patch(
            Polygon(
                corners, closed=True, fill=False, edgecolor=colour, linestyle=dashes, linewidth=1.3,
                path_effects=_outline(1.3),
            )
        )  # fmt: skip


def _corners(coordinates: np.ndarray) -> np.ndarray:
    """Return the four corners of each box (see `Boxes`), shape (N, 4, 2)."""
    if coordinates.shape[1] == 5:
        return xywhr2xyxyxyxy(coordinates)
    return coordinates[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]


def _overlaps(found: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the overlap of every predicted box with every labelled one, as Ultralytics measures it."""
    if labels.shape[1] == 5:
        return batch_probiou(found.astype(np.float32), labels.astype(np.float32)).numpy()
    return bbox_ioa(found, labels, iou=True)


def _outline(width: float) -> list:
    """Return a dark outline, which makes a line visible on light and dark backgrounds."""
    return [withStroke(linewidth=width + 1, foreground="#00000090"), Normal()]


def _show(axis: Axes, image: np.ndarray, title: str) -> None:
    height, width = image.shape[:2]
    axis.imshow(image, extent=(0, width, height, 0), interpolation="antialiased")
    axis.set_title(plain(title, 34), fontsize=8, color=INK, pad=3)


def _shape(sample: Sample) -> float:
    height, width = next(iter(sample.images.values())).shape[:2]
    return height / width
