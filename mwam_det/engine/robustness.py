"""What a missing modality costs: a detector evaluated on every combination of its modalities."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mwam_det.core.missing import performance_collapse_rate

METRICS = ("mAP50", "mAP50-95")


@dataclass(frozen=True)
class CombinationResult:
    """The metrics of a detector on one combination of modalities.

    Attributes:
        available: The modalities that were not missing.
        metrics: mAP50 and mAP50-95 by name, in [0, 1].
    """

    available: tuple[str, ...]
    metrics: dict[str, float]


@dataclass(frozen=True)
class RobustnessReport:
    """The metrics on all 2^M − 1 combinations of modalities, with the Performance Collapse Rate of each.

    PCR = (A_full − A_miss) / A_full in per cent (Eq. 26), of mAP50. The average of a metric is over all combinations,
    the complete one included; the average of PCR is over the incomplete ones (Table 12).

    Args:
        modalities: All modalities.
        results: One result a combination.
        split: The split that was evaluated.
        weights: The evaluated checkpoint.

    Raises:
        ValueError: If the complete combination is not among the results.
    """

    modalities: tuple[str, ...]
    results: tuple[CombinationResult, ...]
    split: str = "val"
    weights: str = ""

    def __post_init__(self):
        if all(set(result.available) != set(self.modalities) for result in self.results):
            raise ValueError(f"the results lack the combination of all modalities ({', '.join(self.modalities)})")

    @property
    def full(self) -> CombinationResult:
        """The result with every modality."""
        return next(result for result in self.results if set(result.available) == set(self.modalities))

    def collapse_rate(self, result: CombinationResult, metric: str = "mAP50") -> float | None:
        """Return the PCR of a result in per cent; None for the complete one, or where the metric of that is 0."""
        if result == self.full:
            return None
        return performance_collapse_rate(self.full.metrics[metric], result.metrics[metric])

    def average(self, metric: str = "mAP50") -> float:
        """Average a metric over all combinations, the complete one included."""
        return sum(result.metrics[metric] for result in self.results) / len(self.results)

    def average_collapse_rate(self, metric: str = "mAP50") -> float | None:
        """Average PCR over the incomplete combinations, in per cent; None where it is undefined."""
        rates = [rate for result in self.results if (rate := self.collapse_rate(result, metric)) is not None]
        return sum(rates) / len(rates) if rates else None

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values, an undefined PCR as None."""
        return {
            "weights": self.weights,
            "split": self.split,
            "missing_input": "zero",
            "modalities": list(self.modalities),
            "combinations": [
                {
                    "available": list(result.available),
                    "missing": [name for name in self.modalities if name not in result.available],
                    **result.metrics,
                    "PCR": self.collapse_rate(result),
                }
                for result in self.results
            ],
            "average": {**{m: self.average(m) for m in METRICS}, "PCR": self.average_collapse_rate()},
        }

    def save(self, folder: str | Path) -> None:
        """Write robustness.json and robustness.csv to a folder; an undefined PCR is null and an empty cell."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        content = self.to_dict()
        (folder / "robustness.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        with (folder / "robustness.csv").open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(["available", *METRICS, "PCR"])
            rows = [("+".join(row["available"]), row) for row in content["combinations"]]
            for label, row in [*rows, ("average", content["average"])]:
                writer.writerow([label, *(row[m] for m in METRICS), "" if row["PCR"] is None else row["PCR"]])

    def show(self) -> None:
        """Print the table to the terminal."""
        from rich.console import Console
        from rich.table import Table

        table = Table(title=f"Missing modalities, split '{self.split}'", caption="PCR of mAP50; lower is more robust")
        for name in self.modalities:
            table.add_column(name, justify="center")
        for name in (*METRICS, "PCR %"):
            table.add_column(name, justify="right")
        for result in self.results:
            marks = ["●" if name in result.available else "○" for name in self.modalities]
            table.add_row(*marks, *_cells(result.metrics, self.collapse_rate(result)))
        averages = {metric: self.average(metric) for metric in METRICS}
        empty = [""] * (len(self.modalities) - 1)
        table.add_section()
        table.add_row("average", *empty, *_cells(averages, self.average_collapse_rate()))
        Console().print(table)


def _cells(metrics: dict[str, float], rate: float | None) -> Sequence[str]:
    return [*(f"{metrics[metric]:.3f}" for metric in METRICS), "-" if rate is None else f"{rate:.2f}"]
