"""The robustness report as files: tables for machines and papers, and one page for a browser."""

from __future__ import annotations

import base64
import csv
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader

from mwam_det.robustness.degradation import DEGRADATIONS, SEVERITIES
from mwam_det.robustness.figures import CONFIDENCE, IOU, draw_figures
from mwam_det.robustness.report import CombinationResult, RobustnessReport

FILES = (
    "robustness.json",
    "robustness.csv",
    "robustness.md",
    "robustness.tex",
    "robustness_classes.csv",
    "robustness_groups.csv",
    "robustness_degradations.csv",
    "robustness_curves.png",
    "robustness_bars.png",
    "robustness_degradations.png",
    "robustness_samples.png",
    "report.html",
)
"""All files that a report may consist of."""

MEASURED = {"obb": "rotated boxes", "segment": "masks", "pose": "keypoints"}
"""What the metrics are of, where a task does not say it."""

_UP, _DOWN = r"$\uparrow$", r"$\downarrow$"

_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_", "%": r"\%",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}",
}  # fmt: skip


@dataclass(frozen=True)
class CombinationTable:
    """The table of all combinations, as text.

    Attributes:
        columns: Names of the columns after those of the modalities.
        rows: For each combination, which modalities were there, and the cells.
        averages: The cells of the last row.
    """

    columns: list[str]
    rows: list[tuple[list[bool], list[str]]]
    averages: list[str]


def combination_table(report: RobustnessReport) -> CombinationTable:
    """Lay out the metrics and the PCR of every combination, and those of pycocotools where they were measured."""
    coco = report.full.coco is not None
    columns = [*report.metrics, "PCR %", *(f"COCO {metric}" for metric in report.metrics if coco)]
    rows = []
    for result in report.results:
        cells = [*(_score(result.metrics[metric]) for metric in report.metrics), _rate(report.collapse_rate(result))]
        cells += [_score((result.coco or {}).get(metric)) for metric in report.metrics if coco]
        rows.append(([name in result.available for name in report.modalities], cells))
    averages = [*(_score(report.average(metric)) for metric in report.metrics), _rate(report.average_collapse_rate())]
    averages += [_score(_coco_average(report, metric)) for metric in report.metrics if coco]
    return CombinationTable(columns, rows, averages)


def markdown(report: RobustnessReport) -> str:
    """Write the report as Markdown, without the figures."""
    lines = ["# Missing modalities", "", _summary(report), ""]
    lines += _markdown_combinations(report)
    lines += [f"> {_markdown(note)}\n" for note in report.notes]
    for name, group in report.groups.items():
        lines += [f"## {_markdown(name)}, {group.images} images", "", *_markdown_combinations(group)]
    if report.full.classes:
        columns, rows = class_table(report, report.primary)
        lines += [f"## {report.primary} of each class", "", *_markdown_table(columns, rows)]
    for modality, rows in degradation_table(report).items():
        lines += [f"## {report.primary} with {_markdown(modality)} degraded", ""]
        lines += _markdown_table(
            ["degradation", *(f"severity {severity}" for severity in SEVERITIES)],
            [[row["name"], *(_score(cell["value"]) for cell in row["cells"])] for row in rows],
        )
    return "\n".join(lines).rstrip() + "\n"


def _markdown_combinations(report: RobustnessReport) -> list[str]:
    content = combination_table(report)
    return _markdown_table(
        [*report.modalities, *content.columns],
        [
            *([*("●" if mark else "○" for mark in marks), *cells] for marks, cells in content.rows),
            ["average", *[""] * (len(report.modalities) - 1), *content.averages],
        ],
        len(report.modalities),
    )


def latex(report: RobustnessReport) -> str:
    """Write the table of combinations for LaTeX, in the form of the paper's Table 12; it needs the package booktabs."""
    content = combination_table(report)
    count = len(report.modalities)
    heads = [
        f"{_latex(name.removeprefix('COCO '))} {_DOWN if name.startswith('PCR') else _UP}" for name in content.columns
    ]
    coco = sum(name.startswith("COCO ") for name in content.columns)
    above = [rf"\multicolumn{{{count}}}{{c}}{{Modality}}", *[""] * (len(heads) - coco)]
    above += [rf"\multicolumn{{{coco}}}{{c}}{{COCO protocol}}"] if coco else []
    rules = rf"\cmidrule(lr){{1-{count}}}"
    rules += rf" \cmidrule(lr){{{count + len(heads) - coco + 1}-{count + len(heads)}}}" if coco else ""
    rows = [
        " & ".join([*(r"$\bullet$" if mark else r"$\circ$" for mark in marks), *cells]) for marks, cells in content.rows
    ]
    average = " & ".join([rf"\multicolumn{{{count}}}{{c}}{{Average}}", *content.averages])
    return "\n".join(
        [
            r"% Needs \usepackage{booktabs}",
            r"\begin{table}",
            r"  \centering\small\setlength{\tabcolsep}{4pt}",
            rf"  \caption{{{_latex(_summary(report))}}}",
            rf"  \begin{{tabular}}{{{'c' * count}{'r' * len(heads)}}}",
            r"    \toprule",
            rf"    {' & '.join(above)} \\",
            f"    {rules}",
            rf"    {' & '.join([*map(_latex, report.modalities), *heads])} \\",
            r"    \midrule",
            *(rf"    {row} \\" for row in rows),
            r"    \midrule",
            rf"    {average} \\",
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def html(report: RobustnessReport, figures: dict[str, bytes] | None = None) -> str:
    """Write everything as one HTML page that needs neither a network nor other files.

    Args:
        report: The report.
        figures: PNG files by name, see `draw_figures`.
    """
    worst = min(report.results, key=lambda result: result.metrics[report.primary])
    page = Environment(
        loader=PackageLoader("mwam_det.robustness", "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    ).get_template("report.html")
    return page.render(
        report=report,
        tables={name: combination_table(each) for name, each in {"": report, **report.groups}.items()},
        figures={name: base64.b64encode(picture).decode() for name, picture in (figures or {}).items()},
        key_figures=[
            (f"{report.primary}, complete", _score(report.full.metrics[report.primary])),
            (f"{report.primary}, average", _score(report.average())),
            (f"{report.primary}, worst: {label(worst)}", _score(worst.metrics[report.primary])),
            ("PCR, average", f"{rate:.2f} %" if (rate := report.average_collapse_rate()) is not None else "-"),
        ],
        class_tables={metric: class_table(report, metric) for metric in report.metrics} if report.full.classes else {},
        degradations=degradation_table(report),
        severities=SEVERITIES,
        score=_score,
        confidence=CONFIDENCE,
        iou=IOU,
    )


def class_table(report: RobustnessReport, metric: str) -> tuple[list[str], list[list[str]]]:
    """Lay out a metric of every class with every combination: columns, and a row a class."""
    columns = ["class", "objects", *(label(result) for result in report.results)]
    rows = [
        [each.name, str(each.objects), *(_score(result.classes[place].metrics[metric]) for result in report.results)]
        for place, each in enumerate(report.full.classes)
    ]
    return columns, rows


def degradation_table(report: RobustnessReport) -> dict[str, list[dict[str, Any]]]:
    """Lay out the first metric of every degradation by modality.

    Returns:
        For each degraded modality a row a degradation: its "name" and "parameter", and "cells", one a severity, with
        "value" (None if not measured), "level" and "worse", whether having no such modality at all is better.
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


def write_report(report: RobustnessReport, folder: Path, plots: bool = True) -> None:
    """Write all files of a report, whole or not at all; see `RobustnessReport.save`.

    robustness.json is there if and only if all others are.
    """
    unfinished = folder / "report.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)  # of a process that died
    unfinished.mkdir(parents=True)
    _write_files(report, unfinished, plots)
    for name in FILES:  # robustness.json is the first
        (folder / name).unlink(missing_ok=True)
    for file in sorted(unfinished.iterdir(), key=lambda file: file.name == FILES[0]):
        os.replace(file, folder / file.name)
    unfinished.rmdir()


def _write_files(report: RobustnessReport, folder: Path, plots: bool) -> None:
    content = report.to_dict()
    figures = draw_figures(report) if plots else {}
    texts = {
        "robustness.json": json.dumps(content, indent=2, ensure_ascii=False) + "\n",
        "robustness.md": markdown(report),
        "robustness.tex": latex(report),
        "report.html": html(report, figures),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    for name, picture in figures.items():
        (folder / f"robustness_{name}.png").write_bytes(picture)

    columns, rows = _combination_rows(report)
    _write_csv(folder / "robustness.csv", columns, rows)
    if report.groups:
        grouped = {name: _combination_rows(group) for name, group in report.groups.items()}
        columns = ["group", *next(iter(grouped.values()))[0]]
        _write_csv(
            folder / "robustness_groups.csv", columns, [[n, *row] for n, (_, rows) in grouped.items() for row in rows]
        )
    if content["classes"]:
        classes = [
            ["+".join(row["available"]), row["class"], row["objects"], *(row[metric] for metric in report.metrics)]
            for row in content["classes"]
        ]
        _write_csv(folder / "robustness_classes.csv", ["available", "class", "objects", *report.metrics], classes)
    if content["degradations"]:
        columns = ["modality", "degradation", "severity", *report.metrics, "PCR"]
        degraded = [[row[column] for column in columns] for row in content["degradations"]]
        _write_csv(folder / "robustness_degradations.csv", columns, degraded)


def _combination_rows(report: RobustnessReport) -> tuple[list[str], list[list[Any]]]:
    """Lay out the table of all combinations in full precision: columns and rows, the averages last."""
    coco = [metric for metric in report.metrics if report.full.coco is not None]
    rows = [
        [
            "+".join(result.available),
            *(result.metrics[metric] for metric in report.metrics),
            report.collapse_rate(result),
            *((result.coco or {}).get(metric) for metric in coco),
        ]
        for result in report.results
    ]
    averages = ["average", *map(report.average, report.metrics), report.average_collapse_rate()]
    averages += [_coco_average(report, metric) for metric in coco]
    return ["available", *report.metrics, "PCR", *(f"COCO {metric}" for metric in coco)], [*rows, averages]


def label(result: CombinationResult) -> str:
    """Name a combination for people."""
    return " + ".join(result.available)


def _summary(report: RobustnessReport) -> str:
    parts = [f"split {report.split}", f"{report.images} images"] if report.images else [f"split {report.split}"]
    if report.weights:
        parts.insert(0, report.weights)
    measured = f" {report.primary} is that of {MEASURED[report.task]}." if report.task in MEASURED else ""
    return (
        f"{', '.join(parts)}. Fill of what is missing: {report.fill}.{measured} PCR is that of {report.primary}; "
        "lower is more robust."
    )


def _coco_average(report: RobustnessReport, metric: str) -> float | None:
    values = [(result.coco or {}).get(metric) for result in report.results]
    return None if None in values else sum(values) / len(values)


def _write_csv(file: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(["" if cell is None else cell for cell in row] for row in rows)


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{round(value, 2) + 0.0:.2f}"  # no -0.00


def _markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]], centred: int = 1) -> list[str]:
    lines = [columns, [":-:"] * centred + ["--:"] * (len(columns) - centred)]
    shown = [[_markdown(cell) for cell in lines[0]], lines[1], *([_markdown(cell) for cell in row] for row in rows)]
    return [*(f"| {' | '.join(row)} |" for row in shown), ""]


def _markdown(text: str) -> str:
    """Escape what Markdown would take for marks, or HTML for tags."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{character}" if character in "\\`*_[]|~" else character for character in text)


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
