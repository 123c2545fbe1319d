"""The files of a comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mwam_det.files.writing import write_csv, write_json, written_whole
from mwam_det.study.comparison import Comparison
from mwam_det.study.figure import comparison_picture
from mwam_det.study.page import comparison_page


def save_comparison(comparison: Comparison, folder: str | Path, stem: str = "compare") -> list[Path]:
    """Write a comparison to a folder, as JSON, CSV, Markdown, a page and a figure, and return the files.

    The CSV has one row per arm, metric and column. The page is report.html, or report-<file>.html if the others are
    compare-<file>. There is no figure before a run is done.
    """
    folder = Path(folder)
    files = [folder / f"{stem}.{suffix}" for suffix in ("json", "csv", "md")]
    files += [folder / f"{stem.replace('compare', 'report', 1)}.html", folder / f"{stem}.png"]
    write_json(files[0], comparison.to_dict())
    header = "arm metric input seeds mean std against pairs difference low high"
    header += " specialist_pairs to_specialist specialist_low specialist_high"
    rows = [
        _csv_row(comparison, arm, column, metric)
        for arm in comparison.arms
        for metric in comparison.metrics
        for column in comparison.columns(metric)
    ]
    write_csv(files[1], [header.split(), *rows])
    files[2].write_text(comparison.markdown(), encoding="utf-8")
    picture = comparison_picture(comparison) if any(run.report for run in comparison.runs) else None
    with written_whole(files[3]) as page:
        page.write_text(comparison_page(comparison, picture), encoding="utf-8")
    if picture is None:
        return files[:4]
    files[4].write_bytes(picture)
    return files


def _csv_row(comparison: Comparison, arm: str, column: str, metric: str) -> list[Any]:
    entry = comparison.entry(arm, column, metric) or {"values": {}, "mean": None, "std": None}
    nothing = dict.fromkeys(("pairs", "mean", "low", "high"))
    pairs = [*entry.get("difference", nothing).values(), *entry.get("to_specialist", nothing).values()]
    return [arm, metric, column, len(entry["values"]), entry["mean"], entry["std"], comparison.reference(arm), *pairs]
