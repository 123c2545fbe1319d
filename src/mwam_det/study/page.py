"""A comparison as one page for a browser."""

from __future__ import annotations

from datetime import datetime

from mwam_det.robustness.pages import embedded, render
from mwam_det.study.comparison import Comparison, TableCell


def comparison_page(comparison: Comparison, picture: bytes | None = None) -> str:
    """Return a comparison as a self-contained HTML page.

    Args:
        comparison: The comparison.
        picture: Its figure as a PNG file, if any.
    """
    header, *rows = comparison.run_table()
    return render(
        "comparison.html",
        "mwam_det.study",
        comparison=comparison,
        done=sum(run.state == "done" for run in comparison.runs),
        seeds=sorted({run.seed for run in comparison.runs}),
        versions=comparison.versions(),
        date=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        figure=None if picture is None else embedded(picture),
        metrics={metric: comparison.tables(metric) for metric in comparison.metrics},
        notes=comparison.notes(),
        missing=comparison.unfinished(),
        runs=[header, *(list(map(TableCell, row)) for row in rows)],
    )
