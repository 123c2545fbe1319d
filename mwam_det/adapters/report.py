"""What a missing modality costs a host: a table of all combinations, for people and machines.

The detectors' `RobustnessReport` speaks of mAP50, boxes and classes throughout; this one is of any one metric.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mwam_det.core.missing import performance_collapse_rate

Scores = Mapping[tuple[str, ...], float]
"""A metric by available modalities."""


@dataclass(frozen=True)
class HostReport:
    """A metric on all 2^M − 1 combinations of modalities, with the Performance Collapse Rate of each.

    Averages are those of the paper's tables: of the metric over all combinations, of PCR over the incomplete ones.

    Args:
        metric: Name of the metric.
        modalities: All modalities.
        scores: The metric of each combination.
        samples: How many samples the split holds.
        split: The split that was evaluated.
        weights: The evaluated checkpoint.
        groups: By name, how many samples a group holds and its scores.
        notes: Sentences that a reader of the figures should know.

    Raises:
        ValueError: If the complete combination is not among the scores.
    """

    metric: str
    modalities: tuple[str, ...]
    scores: Scores
    samples: int
    split: str = "val"
    weights: str = ""
    groups: Mapping[str, tuple[int, Scores]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        if self.modalities not in self.scores:
            raise ValueError(f"the scores lack the combination of all modalities ({', '.join(self.modalities)})")

    def rows(self, scores: Scores | None = None) -> list[tuple[tuple[str, ...], float, float | None]]:
        """Return available modalities, metric and PCR in per cent of each combination; of the report's own scores."""
        scores = self.scores if scores is None else scores
        full = scores[self.modalities]
        return [
            (available, score, None if available == self.modalities else performance_collapse_rate(full, score))
            for available, score in scores.items()
        ]

    def averages(self, scores: Scores | None = None) -> tuple[float, float | None]:
        """Return the average metric over all combinations, and the average PCR over the incomplete ones, or None."""
        rows = self.rows(scores)
        rates = [rate for _, _, rate in rows if rate is not None]
        return sum(score for _, score, _ in rows) / len(rows), sum(rates) / len(rates) if rates else None

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values, an undefined PCR as None."""
        return {
            "weights": self.weights,
            "split": self.split,
            "images": self.samples,
            "missing_input": "zero",
            "metric": self.metric,
            "modalities": list(self.modalities),
            **self._table(self.scores),
            "groups": {name: {"images": count, **self._table(scores)} for name, (count, scores) in self.groups.items()},
            "notes": list(self.notes),
        }

    def _table(self, scores: Scores) -> dict[str, Any]:
        average, rate = self.averages(scores)
        return {
            "combinations": [
                {
                    "available": list(available),
                    "missing": [name for name in self.modalities if name not in available],
                    self.metric: score,
                    "PCR": its,
                }
                for available, score, its in self.rows(scores)
            ],
            "average": {self.metric: average, "PCR": rate},
        }

    def save(self, folder: Path) -> None:
        """Write robustness.json and robustness.csv to a folder; what an earlier report left there is replaced."""
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False)
        (folder / "robustness.json").write_text(f"{text}\n", encoding="utf-8")
        with (folder / "robustness.csv").open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(["group", "available", self.metric, "PCR"])
            for name, scores in {"": self.scores, **{n: own for n, (_, own) in self.groups.items()}}.items():
                lines = [("+".join(available), *cells) for available, *cells in self.rows(scores)]
                for line in [*lines, ("average", *self.averages(scores))]:
                    writer.writerow([name, *("" if cell is None else cell for cell in line)])

    def show(self) -> None:
        """Print the table and the notes to the terminal."""
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        table = Table(
            title=escape(f"Missing modalities, split '{self.split}', {self.samples} samples"),
            caption=f"PCR of {self.metric}; lower is more robust",
        )
        for name in self.modalities:
            table.add_column(escape(name), justify="center")
        every = {"": self.scores, **{name: own for name, (_, own) in self.groups.items()}}
        for name in every:
            for head in (self.metric, "PCR %"):
                table.add_column(escape(f"{name} {head}".strip()), justify="right")
        for available in self.scores:
            cells = []
            for scores in every.values():
                cells += _cells(next(row[1:] for row in self.rows(scores) if row[0] == available))
            table.add_row(*("●" if name in available else "○" for name in self.modalities), *cells)
        table.add_section()
        averages = [cell for scores in every.values() for cell in _cells(self.averages(scores))]
        table.add_row("average", *[""] * (len(self.modalities) - 1), *averages)
        console = Console()
        console.print(table)
        for note in self.notes:
            console.print(f"[bold]Note:[/bold] {escape(note)}")


def _cells(values: Sequence[float | None]) -> list[str]:
    score, rate = values
    return [f"{score:.3f}", "-" if rate is None else f"{round(rate, 2) + 0.0:.2f}"]  # no -0.00
