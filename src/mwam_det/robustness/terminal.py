"""The robustness report in a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from mwam_det.files.terminal import holds, marks_in, tolerate_encodings
from mwam_det.robustness.degradation import SEVERITIES
from mwam_det.robustness.results import RobustnessResults
from mwam_det.robustness.tables import combination_table, degradation_table, label, score
from mwam_det.robustness.words import in_words


def print_report(results: RobustnessResults) -> None:
    """Print the tables of combinations, of each group and of degradations, a summary, and the notes."""
    tolerate_encodings()
    console = Console()
    present, missing = marks_in(console.encoding)
    for group, part in {"": results, **results.groups}.items():
        content = combination_table(part)
        suffix = f", {group}: {part.images} images" if group else ""
        table = Table(title=escape(f"Missing modalities, split '{results.split}'{suffix}"))
        for name in results.modalities:
            table.add_column(escape(name), justify="center")
        for name in content.columns:
            table.add_column(name, justify="right")
        for marks, cells in content.rows:
            table.add_row(*(present if mark else missing for mark in marks), *cells)
        table.add_section()
        table.add_row("average", *[""] * (len(results.modalities) - 1), *content.averages)
        console.print(table)
    console.print(
        f"{present} present  {missing} missing. PCR: share of {results.primary} that is lost, lower is better."
    )
    if sentence := in_words(results):
        console.print(Text(sentence, style="bold"))
    _print_degradations(results, console)
    for note in results.notes:
        console.print(f"[bold]Note:[/bold] {escape(note)}")


def _print_degradations(results: RobustnessResults, console: Console) -> None:
    """Print the first metric at every severity of every degradation, one table per modality."""
    mark = "▼" if holds(console.encoding, "▼") else "!"
    marked = False
    for modality, rows in degradation_table(results).items():
        absent = results.without(modality)
        title = f"{results.primary} with {modality} degraded"
        if absent is not None:
            title += f" (without it: {score(absent.metrics[results.primary])})"
        table = Table(title=escape(title))
        table.add_column("severity")
        for severity in SEVERITIES:
            table.add_column(str(severity), justify="right")
        for row in rows:
            marked |= any(cell["worse"] for cell in row["cells"])
            cells = (
                f"{mark} {score(cell['value'])}" if cell["worse"] else score(cell["value"]) for cell in row["cells"]
            )
            table.add_row(row["name"], *cells)
        console.print(table)
    if marked:
        clean = (
            f"{results.primary} with {label(results.full)} unchanged: {score(results.full.metrics[results.primary])}"
        )
        console.print(escape(f"{clean}. {mark} worse than without the degraded modality."))
