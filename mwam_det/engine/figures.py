"""The figures of the robustness report."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Polygon
from matplotlib.patheffects import Normal, withStroke
from ultralytics.utils.metrics import batch_probiou, bbox_ioa
from ultralytics.utils.ops import xywhr2xyxyxyxy
from ultralytics.utils.plotting import colors

from mwam_det.core.degradation import SEVERITIES
from mwam_det.engine.robustness import RECALLS, Boxes, RobustnessReport, Sample

CONFIDENCE = 0.25
"""The samples show predictions from this confidence on, as Ultralytics' predict does."""

IOU = 0.5
"""A prediction is a hit from this overlap with an object of its class on."""

# Colours that people with any colour vision can tell apart (Okabe and Ito); line styles help on grey paper.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
HIT, MISS, FALSE_ALARM, LABEL = "#00B884", "#F0E442", "#E8590C", "#56B4E9"
DASHES = ("-", "--", ":", "-.")
MARKERS = "osD^vPX*<>"
INK, SOFT = "#1d2330", "#5a6376"

_GROUND = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"}

_LARGEST_ROW = 6
"""More pictures beside each other are too small to see objects in."""

_MOST_CLASSES = 12
"""So many classes are explained above the samples."""


def draw_figures(report: RobustnessReport) -> dict[str, bytes]:
    """Draw what there is to draw.

    Returns:
        PNG files by name: "bars"; "curves", "degradations" and "samples" where the report has the figures for them.
    """
    figures = {"bars": bars(report)}
    if report.full.precision:
        figures["curves"] = curves(report)
    if report.degradations:
        figures["degradations"] = degradation_curves(report)
    if report.samples:
        figures["samples"] = sample_sheet(report)
    return {name: _png(figure) for name, figure in figures.items()}


def curves(report: RobustnessReport) -> Figure:
    """Draw precision over recall of every combination (Fig. 7)."""
    names = [f"{_label(r.available)}  ({r.metrics[report.primary]:.3f})" for r in report.results]
    figure = Figure(figsize=(6 + 0.085 * max(map(len, names)), 4.4), layout="constrained")
    axis = figure.subplots()
    styles = _styles(report)
    for result, style in zip(report.results, styles, strict=True):
        axis.plot(RECALLS, result.precision, clip_on=False, **style)
    axis.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.0))
    figure.legend(
        axis.get_lines(), names, title=f"available ({report.primary})", loc="outside right upper", frameon=False
    )
    _tidy(axis)
    return figure


def bars(report: RobustnessReport) -> Figure:
    """Draw two metrics and PCR of every combination."""
    count = len(report.results)
    figure = Figure(figsize=(9, 1.5 + 0.5 * count), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    places = np.arange(count)
    for offset, metric, colour in zip((-0.2, 0.2), report.metrics, (PALETTE[0], PALETTE[4]), strict=False):
        values = [result.metrics[metric] for result in report.results]
        drawn = left.barh(places + offset, values, 0.38, color=colour, label=metric)
        left.bar_label(drawn, fmt="%.3f", padding=3, fontsize=8, color=INK, bbox=_GROUND)
    left.axvline(
        report.average(), color=SOFT, linestyle="--", linewidth=1, zorder=0.9, label=f"average {report.primary}"
    )
    left.set(
        xlim=(0, 1.12 * max(0.05, *(r.metrics[report.primary] for r in report.results))),
        xlabel=", ".join(report.metrics),
    )
    left.set_yticks(places, [_label(result.available) for result in report.results])
    left.invert_yaxis()

    rates = [report.collapse_rate(result) for result in report.results]
    defined = [(place, rate) for place, rate in zip(places, rates, strict=True) if rate is not None]
    drawn = right.barh([place for place, _ in defined], [rate for _, rate in defined], 0.5, color=PALETTE[5])
    right.bar_label(drawn, fmt="%.2f", padding=3, fontsize=8, color=INK, bbox=_GROUND)
    for place, rate in zip(places, rates, strict=True):
        if rate is None:
            right.text(0, place, " -", va="center", color=SOFT)
    right.axvline(0, color=INK, linewidth=0.8)
    if (average := report.average_collapse_rate()) is not None:
        right.axvline(average, color=SOFT, linestyle="--", linewidth=1, zorder=0.9)
    low, high = min([0, *(rate for _, rate in defined)]), max([1, *(rate for _, rate in defined)])
    reach = high - low
    right.set(xlim=(low - (0.22 * reach if low < 0 else 0), high + 0.22 * reach), xlabel=f"PCR of {report.primary}, %")
    for axis in (left, right):
        _tidy(axis, "x")
        axis.tick_params("y", length=0)
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    return figure


def degradation_curves(report: RobustnessReport) -> Figure:
    """Draw the first metric over the severity of every degradation, a panel a modality, beside clean and missing."""
    modalities = list(dict.fromkeys(each.modality for each in report.degradations))
    names = list(dict.fromkeys(each.name for each in report.degradations))
    figure = Figure(figsize=(1 + 4.2 * len(modalities), 5.6 if len(modalities) > 1 else 6.2), layout="constrained")
    panels = figure.subplots(1, len(modalities), sharey=True, squeeze=False)[0]
    clean, handles = report.full.metrics[report.primary], {}
    for axis, modality in zip(panels, modalities, strict=True):
        handles["clean"] = axis.axhline(clean, color=INK, linestyle="--", linewidth=1.2)
        if absent := report.without(modality):
            handles["modality missing"] = axis.axhline(
                absent.metrics[report.primary], color=INK, linestyle=":", linewidth=1.6
            )
        for place, name in enumerate(names):
            measured = {
                e.severity: e.metrics[report.primary]
                for e in report.degradations
                if (e.modality, e.name) == (modality, name)
            }
            if not measured:
                continue
            severities = [0, *sorted(measured)]
            (handles[name],) = axis.plot(
                severities,
                [clean, *(measured[severity] for severity in severities[1:])],
                color=PALETTE[place % len(PALETTE)],
                linestyle=DASHES[place // len(PALETTE) % len(DASHES)],
                marker=MARKERS[place % len(MARKERS)],
                markersize=5,
                linewidth=1.5,
            )
        axis.set(title=_plain(modality), xlabel="severity")
        axis.set_xticks([0, *SEVERITIES], ["clean", *map(str, SEVERITIES)])
        _tidy(axis)
    highest = max(clean, *(max(line.get_ydata()) for axis in panels for line in axis.get_lines()), 0.01)
    panels[0].set(ylabel=report.primary, ylim=(0, 1.04 * highest))
    order = [name for name in ("clean", "modality missing", *names) if name in handles]
    figure.legend(
        [handles[name] for name in order],
        [name.replace("_", " ") for name in order],
        loc="outside lower center",
        ncols=min(5, 2 + 2 * len(modalities)) if len(modalities) > 1 else 3,
        frameon=False,
    )
    return figure


def sample_sheet(report: RobustnessReport) -> Figure:
    """Draw what was found (Fig. 6): a row an image, its modalities with the labels, then every combination.

    Predictions are drawn on the visible modality where it is available, else on the first one that is. Where a row
    would hold too many pictures to see objects in, an image takes several rows.
    """
    views = len(report.modalities) + len(report.results)
    rows_each = math.ceil(views / _LARGEST_ROW)
    columns = math.ceil(views / rows_each)
    heights = [_shape(sample) for sample in report.samples for _ in range(rows_each)]
    width, gaps = 2.3, 0.24 * len(heights) if rows_each > 1 else 0.06 * len(heights) + 0.2
    figure = Figure(figsize=(columns * width + 0.3, sum(heights) * width + gaps + 0.5), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
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
            if isinstance(sample.labels, Boxes):
                _draw_found(axis, sample.labels, sample.found[result.available])
            else:
                _paint(axis, sample.found[result.available])
        cells[0].text(
            -0.02, 0.5, _plain(sample.name, 28), rotation=90, ha="right", va="center", fontsize=6, color=SOFT,
            transform=cells[0].transAxes,
        )  # fmt: skip
    figure.legend(handles=_legend(report), loc="outside upper center", ncols=_LARGEST_ROW, frameon=False)
    return figure


def _legend(report: RobustnessReport) -> list[Line2D | Patch]:
    """Explain the colours of the samples: of the classes that occur most, or of labels, hits and errors."""
    if isinstance(report.samples[0].labels, Boxes):
        kinds = {"label": (LABEL, "-"), "hit": (HIT, "-"), "miss": (MISS, "--"), "false alarm": (FALSE_ALARM, ":")}
        return [
            Line2D([], [], color=colour, linestyle=dashes, linewidth=2.5, path_effects=_outline(2.5), label=name)
            for name, (colour, dashes) in kinds.items()
        ]
    counts = sum(np.bincount(sample.labels.ravel(), minlength=256) for sample in report.samples)[: len(report.names)]
    shown = sorted(np.argsort(-counts, kind="stable")[:_MOST_CLASSES][: (counts > 0).sum()])
    return [Patch(color=_class_colour(number), label=_plain(report.names[number], 20)) for number in shown]


def _class_colour(number: int) -> tuple[float, ...]:
    return tuple(channel / 255 for channel in colors(int(number)))


def _paint(axis: Axes, classes: np.ndarray) -> None:
    """Lay the colours of classes over an image, none where nothing counts."""
    colours = np.array([(*_class_colour(number), 0.6) for number in range(255)] + [(0, 0, 0, 0)])
    height, width = classes.shape
    axis.imshow(colours[classes], extent=(0, width, height, 0), interpolation="nearest")


def judge(labels: Boxes, found: Boxes, iou: float = IOU) -> tuple[np.ndarray, np.ndarray]:
    """Tell hits from false alarms, and found objects from missed ones.

    The predictions choose in the order of their scores; each takes the object of its class that overlaps most among
    those that are left.

    Args:
        labels: The objects.
        found: The predictions.
        iou: The least overlap of a hit.

    Returns:
        Whether each prediction is a hit, and whether each object was found, shapes (N_found,) and (N_labels,), bool.
    """
    hits, taken = np.zeros(len(found.classes), bool), np.zeros(len(labels.classes), bool)
    if not len(hits) or not len(taken):
        return hits, taken
    overlaps = _overlaps(found.coordinates, labels.coordinates)
    overlaps[found.classes[:, None] != labels.classes] = 0
    for place in np.argsort(-found.scores, kind="stable"):
        free = np.where(taken, 0, overlaps[place])
        if free.max() >= iou:
            hits[place] = taken[free.argmax()] = True
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
    """Return the overlap of every box that was found with every one that is labelled, as Ultralytics measures it."""
    if labels.shape[1] == 5:
        return batch_probiou(found.astype(np.float32), labels.astype(np.float32)).numpy()
    return bbox_ioa(found, labels, iou=True)


def _outline(width: float) -> list:
    """Return a dark edge around a line, which is then seen on light and dark ground."""
    return [withStroke(linewidth=width + 1, foreground="#00000090"), Normal()]


def _show(axis: Axes, image: np.ndarray, title: str) -> None:
    height, width = image.shape[:2]
    axis.imshow(image, extent=(0, width, height, 0), interpolation="antialiased")
    axis.set_title(_plain(title, 34), fontsize=8, color=INK, pad=3)


def _shape(sample: Sample) -> float:
    height, width = next(iter(sample.images.values())).shape[:2]
    return height / width


def _styles(report: RobustnessReport) -> list[dict]:
    """Return a line style for every combination; the complete one is black."""
    styles = []
    for place, result in enumerate(report.results):
        if result == report.full:
            styles.append({"color": INK, "linewidth": 2.2})
        else:
            dashes = DASHES[place // len(PALETTE) % len(DASHES)]
            styles.append({"color": PALETTE[place % len(PALETTE)], "linestyle": dashes, "linewidth": 1.7})
    return styles


def _tidy(axis: Axes, grid: str = "both") -> None:
    axis.grid(axis=grid, color="#d5dae3", linewidth=0.7)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def _label(available: Sequence[str]) -> str:
    return _plain(" + ".join(available), 40)


def _plain(text: str, longest: int = 40) -> str:
    """Shorten a name and keep matplotlib from reading formulas in it."""
    text = text if len(text) <= longest else f"{text[: longest - 1]}…"
    return text.replace("$", r"\$")


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=150, facecolor="white")
    return stream.getvalue()
