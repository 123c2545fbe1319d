"""The tables of a robustness report as text, for any output, and tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mwam_det.robustness.degradation import DEGRADATIONS, SEVERITIES
from mwam_det.robustness.results import CombinationResult, RobustnessResults


@dataclass(frozen=True)
class CombinationTable:
    """The table of all combinations, as text.

    Attributes:
        columns: Names of the columns after those of the modalities.
        rows: For each combination, which modalities are available, and the cells.
        averages: The cells of the last row.
    """

    columns: list[str]
    rows: list[tuple[list[bool], list[str]]]
    averages: list[str]


def combination_table(report: RobustnessResults) -> CombinationTable:
    """Lay out the metrics and the PCR of every combination, and pycocotools' metrics if measured."""
    coco = report.full.coco is not None
    columns = [*report.metrics, "PCR %", *(f"COCO {metric}" for metric in report.metrics if coco)]
    rows = []
    for result in report.results:
        cells = [*(score(result.metrics[metric]) for metric in report.metrics), rate(report.collapse_rate(result))]
        cells += [score((result.coco or {}).get(metric)) for metric in report.metrics if coco]
        rows.append(([name in result.available for name in report.modalities], cells))
    averages = [*(score(report.average(metric)) for metric in report.metrics), rate(report.average_collapse_rate())]
    averages += [score(coco_average(report, metric)) for metric in report.metrics if coco]
    return CombinationTable(columns, rows, averages)


def class_table(report: RobustnessResults, metric: str) -> tuple[list[str], list[list[str]]]:
    """Lay out a metric of every class with every combination: columns, and one row per class."""
    columns = ["class", "objects", *(label(result) for result in report.results)]
    rows = [
        [each.name, str(each.objects), *(score(result.classes[index].metrics[metric]) for result in report.results)]
        for index, each in enumerate(report.full.classes)
    ]
    return columns, rows


def degradation_table(report: RobustnessResults) -> dict[str, list[dict[str, Any]]]:
    """Lay out the first metric of every degradation by modality.

    Returns:
        For each degraded modality, one row per degradation: its "name" and "parameter", and "cells", one per severity,
        with "value" (None if not measured), "level" and "worse", whether a missing modality would be better.
    """
    values = {(each.modality, each.name, each.severity): each.metrics[report.primary] for each in report.degradations}
    table = {}
    for modality in dict.fromkeys(each.modality for each in report.degradations):
        absent = report.without(modality)
        rows = []
        for name in dict.fromkeys(each.name for each in report.degradations if each.modality == modality):
            cells = []
            for severity, level in zip(SEVERITIES, DEGRADATIONS[name].levels, strict=True):
                value = values.get((modality, name, severity))
                worse = absent is not None and value is not None and value < absent.metrics[report.primary]
                cells.append({"value": value, "level": level, "worse": worse})
            rows.append({"name": name, "parameter": DEGRADATIONS[name].parameter, "cells": cells})
        table[modality] = rows
    return table


def label(result: CombinationResult) -> str:
    """Return the name of a combination, for display."""
    return " + ".join(result.available)


def dots(marks: Sequence[bool]) -> list[str]:
    """Return a full circle for each available modality and an empty one for each missing one."""
    return ["●" if mark else "○" for mark in marks]


def coco_average(report: RobustnessResults, metric: str) -> float | None:
    """Average a metric of pycocotools over all combinations; None unless measured for all."""
    values = [(result.coco or {}).get(metric) for result in report.results]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def score(value: float | None) -> str:
    """Format a metric."""
    return "-" if value is None else f"{value:.3f}"


def rate(value: float | None) -> str:
    """Format a PCR in per cent."""
    return "-" if value is None else f"{round(value, 2) + 0.0:.2f}"  # no -0.00


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]], names: int = 1) -> list[str]:
    """Lay out a table in Markdown, with numbers aligned to the right.

    Args:
        columns: The header, as text.
        rows: The cells, as Markdown; see `markdown_text`.
        names: Number of leading columns without numbers.

    Returns:
        Its lines, an empty one last.
    """
    rule = [":-:" if names > 1 else "---"] * names + ["--:"] * (len(columns) - names)
    return [*(f"| {' | '.join(row)} |" for row in (map(markdown_text, columns), rule, *rows)), ""]


def markdown_text(text: str) -> str:
    """Escape the markup of Markdown and HTML."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{character}" if character in "\\`*_[]|~" else character for character in text)
