"""The robustness report as files: tables for machines and papers, and one page for a browser."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from mwam_det.files.writing import write_csv, write_json
from mwam_det.robustness.degradation import SEVERITIES
from mwam_det.robustness.figures import draw_figures
from mwam_det.robustness.pages import embedded, render
from mwam_det.robustness.results import CONFIDENCE, FILES, IOU, RobustnessResults
from mwam_det.robustness.tables import (
    class_table,
    coco_average,
    combination_table,
    degradation_table,
    dots,
    label,
    markdown_table,
    markdown_text,
    score,
)
from mwam_det.robustness.words import in_words

MEASURED = {"obb": "rotated boxes", "segment": "masks", "pose": "keypoints"}
"""What the metrics measure, for tasks where the names of the metrics do not say it."""

_UP, _DOWN = r"$\uparrow$", r"$\downarrow$"

_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_", "%": r"\%",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}",
}  # fmt: skip


def markdown(report: RobustnessResults) -> str:
    """Return the report as Markdown, without the figures."""
    lines = ["# Missing modalities", "", _summary(report), ""]
    trained = ", ".join(f"{name}: {markdown_text(value)}" for name, value in report.origin.trained.items())
    made = ", ".join(f"{name} {version}" for name, version in report.origin.versions.items())
    lines += [f"Trained: {trained}.", ""] if trained else []
    lines += [f"Made {report.origin.date} by {made}.", ""] if made else []
    lines += [markdown_text(sentence), ""] if (sentence := in_words(report)) else []
    lines += _markdown_combinations(report)
    lines += [f"> {markdown_text(note)}\n" for note in report.notes]
    for name, group in report.groups.items():
        lines += [f"## {markdown_text(name)}, {group.images} images", "", *_markdown_combinations(group)]
    if report.full.classes:
        columns, rows = class_table(report, report.primary)
        lines += [
            f"## {report.primary} of each class",
            "",
            *markdown_table(columns, [[markdown_text(name), *cells] for name, *cells in rows]),
        ]
    for modality, degraded in degradation_table(report).items():
        lines += [f"## {report.primary} with {markdown_text(modality)} degraded", ""]
        lines += markdown_table(
            ["degradation", *(f"severity {severity}" for severity in SEVERITIES)],
            [[markdown_text(row["name"]), *(score(cell["value"]) for cell in row["cells"])] for row in degraded],
        )
    return "\n".join(lines).rstrip() + "\n"


def _markdown_combinations(report: RobustnessResults) -> list[str]:
    content = combination_table(report)
    return markdown_table(
        [*report.modalities, *content.columns],
        [
            *([*dots(marks), *cells] for marks, cells in content.rows),
            ["average", *[""] * (len(report.modalities) - 1), *content.averages],
        ],
        len(report.modalities),
    )


def latex(report: RobustnessResults) -> str:
    """Return the table of combinations in LaTeX, in the form of the paper's Table 12; needs the package booktabs."""
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


def html(report: RobustnessResults, figures: dict[str, bytes] | None = None) -> str:
    """Return the report as one self-contained HTML page.

    Args:
        report: The report.
        figures: PNG files by name, see `draw_figures`; and "history", mwam.png of the training.
    """
    worst = min(report.results, key=lambda result: result.metrics[report.primary])
    return render(
        "report.html",
        report=report,
        tables={name: combination_table(each) for name, each in {"": report, **report.groups}.items()},
        figures={name: embedded(picture) for name, picture in (figures or {}).items()},
        key_figures=[
            (f"{report.primary}, complete", score(report.full.metrics[report.primary])),
            (f"{report.primary}, average", score(report.average())),
            (f"{report.primary}, worst: {label(worst)}", score(worst.metrics[report.primary])),
            ("PCR, average", f"{rate:.2f} %" if (rate := report.average_collapse_rate()) is not None else "-"),
        ],
        sentence=in_words(report),
        class_tables={metric: class_table(report, metric) for metric in report.metrics} if report.full.classes else {},
        degradations=degradation_table(report),
        severities=SEVERITIES,
        score=score,
        confidence=CONFIDENCE,
        iou=IOU,
    )


def write_report(report: RobustnessResults, folder: Path, plots: bool = True) -> None:
    """Write all files of a report, whole or not at all; see `RobustnessReport.save`.

    robustness.json exists if and only if all others do.
    """
    unfinished = folder / "report.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)  # left by a process that died
    unfinished.mkdir(parents=True)
    _write_files(report, unfinished, plots, _history_picture(report, folder))
    for name in FILES:  # robustness.json is the first
        (folder / name).unlink(missing_ok=True)
    for file in sorted(unfinished.iterdir(), key=lambda file: file.name == FILES[0]):
        os.replace(file, folder / file.name)
    unfinished.rmdir()


def _write_files(report: RobustnessResults, folder: Path, plots: bool, history: Path | None) -> None:
    content = report.to_dict()
    figures = draw_figures(report) if plots else {}
    embedded_figures = {**figures, "history": history.read_bytes()} if plots and history is not None else figures
    texts = {
        "robustness.md": markdown(report),
        "robustness.tex": latex(report),
        "report.html": html(report, embedded_figures),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    for name, picture in figures.items():
        (folder / f"robustness_{name}.png").write_bytes(picture)

    write_json(folder / "robustness.json", content)
    write_csv(folder / "robustness.csv", _combination_rows(report))
    if report.groups:
        header, *_ = _combination_rows(report)
        rows = [[name, *row] for name, group in report.groups.items() for row in _combination_rows(group)[1:]]
        write_csv(folder / "robustness_groups.csv", [["group", *header], *rows])
    if content["classes"]:
        columns = ["class", "objects", *report.metrics]
        rows = [["+".join(row["available"]), *(row[column] for column in columns)] for row in content["classes"]]
        write_csv(folder / "robustness_classes.csv", [["available", *columns], *rows])
    if content["degradations"]:
        columns = ["modality", "degradation", "severity", *report.metrics, "PCR"]
        rows = [[row[column] for column in columns] for row in content["degradations"]]
        write_csv(folder / "robustness_degradations.csv", [columns, *rows])


def _history_picture(report: RobustnessResults, folder: Path) -> Path | None:
    """Return mwam.png of the run of the weights, or that in the report's folder; None without one."""
    runs = [folder] if not report.weights else [Path(report.weights).resolve().parent.parent, folder]
    return next((picture for run in runs if (picture := run / "mwam.png").is_file()), None)


def _combination_rows(report: RobustnessResults) -> list[list[Any]]:
    """Lay out the table of all combinations in full precision: the header, the combinations and the averages."""
    coco = [metric for metric in report.metrics if report.full.coco is not None]
    header = ["available", *report.metrics, "PCR", *(f"COCO {metric}" for metric in coco)]
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
    averages += [coco_average(report, metric) for metric in coco]
    return [header, *rows, averages]


def _summary(report: RobustnessResults) -> str:
    parts = [f"split {report.split}", f"{report.images} images"] if report.images else [f"split {report.split}"]
    if report.weights:
        parts.insert(0, report.weights)
    measured = f" {report.primary} is that of {MEASURED[report.task]}." if report.task in MEASURED else ""
    return (
        f"{', '.join(parts)}. Fill of what is missing: {report.fill}.{measured} PCR is that of {report.primary}; "
        "lower is more robust."
    )


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
