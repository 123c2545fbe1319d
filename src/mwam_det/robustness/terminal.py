"""The robustness report in a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mwam_det.files.terminal import marks_in, tolerate_encodings
from mwam_det.robustness.results import RobustnessResults
from mwam_det.robustness.tables import combination_table


def print_report(results: RobustnessResults) -> None:
    """Print the table of combinations, that of each group, and the notes."""
    tolerate_encodings()
    console = Console()
    there, missing = marks_in(console.encoding)
    for part, own in {"": results, **results.groups}.items():
        content = combination_table(own)
        of_part = f", {part}: {own.images} images" if part else ""
        table = Table(
            title=escape(f"Missing modalities, split '{results.split}'{of_part}"),
            caption=f"PCR of {results.primary}; lower is more robust",
        )
        for name in results.modalities:
            table.add_column(escape(name), justify="center")
        for name in content.columns:
            table.add_column(name, justify="right")
        for marks, cells in content.rows:
            table.add_row(*(there if mark else missing for mark in marks), *cells)
        table.add_section()
        table.add_row("average", *[""] * (len(results.modalities) - 1), *content.averages)
        console.print(table)
    for note in results.notes:
        console.print(f"[bold]Note:[/bold] {escape(note)}")
