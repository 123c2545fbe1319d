"""The figures of the robustness report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from mwam_det.robustness.degradation import SEVERITIES
from mwam_det.robustness.results import RECALLS, RobustnessResults
from mwam_det.robustness.style import DASHES, INK, MARKERS, PALETTE, SOFT, plain, png, tidy

_BACKGROUND = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"}


def draw_figures(report: RobustnessResults) -> dict[str, bytes]:
    """Draw all figures that the report has data for.

    Returns:
        PNG files by name: "bars", and where possible "curves", "degradations" and "samples".
    """
    figures = {"bars": bars(report)}
    if report.full.precision:
        figures["curves"] = curves(report)
    if report.degradations:
        figures["degradations"] = degradation_curves(report)
    if report.samples:
        from mwam_det.robustness.samples import sample_sheet  # needs Ultralytics; other hosts have no samples

        figures["samples"] = sample_sheet(report)
    return {name: png(figure) for name, figure in figures.items()}


def curves(report: RobustnessResults) -> Figure:
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
    tidy(axis)
    return figure


def bars(report: RobustnessResults) -> Figure:
    """Draw two metrics and PCR of every combination."""
    count = len(report.results)
    figure = Figure(figsize=(9, 1.5 + 0.5 * count), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    positions = np.arange(count)
    longest = 0.05
    for offset, metric, colour in zip((-0.2, 0.2), report.metrics, (PALETTE[0], PALETTE[4]), strict=False):
        values = [result.metrics[metric] for result in report.results]
        longest = max(longest, *values)
        drawn = left.barh(positions + offset, values, 0.38, color=colour, label=metric)
        left.bar_label(drawn, fmt="%.3f", padding=3, fontsize=8, color=INK, bbox=_BACKGROUND)
    left.axvline(
        report.average(), color=SOFT, linestyle="--", linewidth=1, zorder=0.9, label=f"average {report.primary}"
    )
    left.set(xlim=(0, 1.12 * longest), xlabel=", ".join(report.metrics))
    left.set_yticks(positions, [_label(result.available) for result in report.results])
    left.invert_yaxis()

    rates = [report.collapse_rate(result) for result in report.results]
    defined = [(position, rate) for position, rate in zip(positions, rates, strict=True) if rate is not None]
    drawn = right.barh([position for position, _ in defined], [rate for _, rate in defined], 0.5, color=PALETTE[5])
    right.bar_label(drawn, fmt="%.2f", padding=3, fontsize=8, color=INK, bbox=_BACKGROUND)
    for position, rate in zip(positions, rates, strict=True):
        if rate is None:
            right.text(0, position, " -", va="center", color=SOFT)
    right.axvline(0, color=INK, linewidth=0.8)
    if (average := report.average_collapse_rate()) is not None:
        right.axvline(average, color=SOFT, linestyle="--", linewidth=1, zorder=0.9)
    low, high = min([0, *(rate for _, rate in defined)]), max([1, *(rate for _, rate in defined)])
    reach = high - low
    right.set(xlim=(low - (0.22 * reach if low < 0 else 0), high + 0.22 * reach), xlabel=f"PCR of {report.primary}, %")
    for axis in (left, right):
        tidy(axis, "x")
        axis.tick_params("y", length=0)
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    return figure


def degradation_curves(report: RobustnessResults) -> Figure:
    """Draw the first metric over the severity of every degradation, one panel per modality, with clean and missing."""
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
        for index, name in enumerate(names):
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
                color=PALETTE[index % len(PALETTE)],
                linestyle=DASHES[index // len(PALETTE) % len(DASHES)],
                marker=MARKERS[index % len(MARKERS)],
                markersize=5,
                linewidth=1.5,
            )
        axis.set(title=plain(modality), xlabel="severity")
        axis.set_xticks([0, *SEVERITIES], ["clean", *map(str, SEVERITIES)])
        tidy(axis)
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


def _styles(report: RobustnessResults) -> list[dict]:
    """Return a line style for every combination; the complete one is black."""
    styles = []
    for index, result in enumerate(report.results):
        if result == report.full:
            styles.append({"color": INK, "linewidth": 2.2})
        else:
            dashes = DASHES[index // len(PALETTE) % len(DASHES)]
            styles.append({"color": PALETTE[index % len(PALETTE)], "linestyle": dashes, "linewidth": 1.7})
    return styles


def _label(available: Sequence[str]) -> str:
    return plain(" + ".join(available), 40)
