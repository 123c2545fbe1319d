"""Show an inspection in the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mwam_det.data.inspection.figures import Inspection
from mwam_det.data.inspection.findings import brief_list

CLASSES_SHOWN = 25
"""Number of classes shown, the most frequent ones; inspection.json has all."""


def tables(inspection: Inspection) -> Group:
    """Lay out an inspection for the terminal, with its findings last."""
    layouts = (_splits, _classes, _modalities, _alignment, _preference)
    parts: list[RenderableType] = [layout(inspection) for layout in layouts]
    if inspection.findings:
        parts.append(Text("Findings, the most serious first:", style="bold"))
        parts += [Text(f"{number}. {sentence}") for number, sentence in enumerate(inspection.findings, 1)]
    else:
        parts.append(Text("No findings."))
    return Group(*parts)


def _table(title: str, columns: Sequence[str]) -> Table:
    # wide enough for the title, which would be wrapped, up to the 80 columns of a terminal
    table = Table(title=Text(title), title_justify="left", min_width=min(len(title) + 2, 80))
    for index, column in enumerate(columns):
        # Text, since names must not be read as rich's markup
        table.add_column(Text(column), justify="right" if index else "left")
    return table


def _add(table: Table, name: str, values: Sequence[str]) -> None:
    table.add_row(*(Text(value) for value in (name, *values)))


def _splits(inspection: Inspection) -> Table:
    splits = inspection.splits
    table = _table("Pairs and labels (every pair)", ["", *splits])
    rows = {
        "images of the first modality": [split.images for split in splits.values()],
        "usable pairs": [split.pairs for split in splits.values()],
        "left out": [split.images - split.pairs for split in splits.values()],
        "objects": [sum(split.boxes.values()) for split in splits.values()],
        "pairs without objects": [split.without_objects for split in splits.values()],
        "pairs without label file": [split.without_label_file for split in splits.values()],
        "boxes past the border": [split.past_border for split in splits.values()],
        "boxes thinner than 1 px": [split.thin for split in splits.values()],
    }
    for name, counts in rows.items():
        _add(table, name, [f"{count:,}" for count in counts])
    sides = ["-" if split.median_side is None else f"{split.median_side:.0f} px" for split in splits.values()]
    _add(table, f"median object, √(width·height) at imgsz={inspection.imgsz}", sides)
    return table


def _classes(inspection: Inspection) -> Table:
    splits = inspection.splits
    names = list(next(iter(splits.values())).boxes)
    most = sorted(names, key=lambda name: -sum(split.boxes[name] for split in splits.values()))[:CLASSES_SHOWN]
    title = "Objects (and pairs that show them)"
    if len(names) > len(most):
        title += f", {len(most)} most frequent of {len(names)} classes"
    table = _table(title, ["class", *splits])
    for name in most if len(names) > len(most) else names:
        counts = [f"{split.boxes[name]:,} ({split.images_with[name]:,})" for split in splits.values()]
        _add(table, name, counts)
    return table


def _counted(counts: Mapping[str, int], unit: str = "") -> str:
    """Format counts by kind; a single kind without its count."""
    if len(counts) == 1:
        return f"{next(iter(counts))}{unit}"
    return brief_list([f"{kind}{unit} ({count:,})" for kind, count in counts.items()], most=4)


def _modalities(inspection: Inspection) -> Table:
    columns = ["", "size", "format", "colour", "chroma", "levels 1 · 50 · 99 %"]
    table = _table(f"Modalities ({inspection.sampled:,} sampled pairs; chroma and levels of 255)", columns)
    for name, figures in inspection.modalities.items():
        coloured = f"{figures.coloured / figures.sampled:.0%}"
        levels = " · ".join(f"{level:.0f}" for level in figures.levels)
        values = [_counted(figures.sizes, " px"), _counted(figures.formats), coloured, f"{figures.chroma:.1f}", levels]
        _add(table, name, values)
    return table


def _alignment(inspection: Inspection) -> Table:
    first = inspection.first_modality
    columns = ["", "same picture", "edges agree", "shift right", "shift down"]
    table = _table(f"Relative to {first} ({inspection.sampled:,} sampled pairs; shifts in px of its files)", columns)
    for name, figures in inspection.alignment.items():
        shift = ["unclear"] * 2 if figures.shift is None else [f"{by:+.1f} px" for by in figures.shift]
        values = [f"{sum(figures.same_picture.values()):,} pairs", f"{figures.edges_agree:,} pairs", *shift]
        _add(table, name, values)
    return table


def _preference(inspection: Inspection) -> Table:
    figures = inspection.preference
    rule = "FRM" if figures.rule == "frequency_ratio" else figures.rule
    batches = "1 mini-batch" if figures.batches == 1 else f"{figures.batches:,} mini-batches"
    title = f"MWAM on train with augmentation: means over {batches} of {figures.batch:,}"
    columns = ["", rule, *["from brightness"][: bool(figures.contributions)]]
    table = _table(title, [*columns, "share T", "T, least to most", "weight K", "K, least to most"])
    for name in figures.frm:
        if not math.isfinite(figures.share[name]):
            _add(table, name, ["not measured"] + (4 + bool(figures.contributions)) * ["-"])
            continue
        parts = figures.contributions.get(name)
        brightness = [] if parts is None else [f"{parts[0][0] / sum(map(sum, parts)):.0%}"]
        least_to_most = ["{:.2f} to {:.2f}".format(*by[name]) for by in (figures.share_range, figures.weight_range)]
        share, weight = f"{figures.share[name]:.2f}", f"{figures.weight[name]:.2f}"
        _add(table, name, [f"{figures.frm[name]:.3g}", *brightness, share, least_to_most[0], weight, least_to_most[1]])
    return table
