"""The comparison of arms over seeds: means, paired differences with confidence intervals, and tables."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mwam_det.core.missing import modality_combinations
from mwam_det.robustness.results import METRICS
from mwam_det.robustness.tables import markdown_table

if TYPE_CHECKING:
    from rich.console import RenderableType

CONFIDENCE = 0.95
AVERAGE, COLLAPSE = "average", "PCR"

EQUAL = 1e-9
"""Deviation below which values are equal; metrics are at most 100."""

NAMED = 3
"""Runs that a note names."""

TERMINAL = 78
"""Maximum length of a table's title in one line of a terminal."""


@dataclass(frozen=True)
class Estimate:
    """A quantity over seeds.

    Attributes:
        values: The quantity by seed.
    """

    values: dict[int, float]

    @property
    def mean(self) -> float:
        """The mean over seeds."""
        return statistics.fmean(self.values.values())

    @property
    def std(self) -> float | None:
        """The standard deviation over seeds, with n − 1 in the denominator; None for one seed."""
        return statistics.stdev(self.values.values()) if len(self.values) > 1 else None

    def minus(self, other: Estimate) -> Estimate:
        """Return the differences to another arm by seed, for the seeds that both have."""
        return Estimate({seed: self.values[seed] - other.values[seed] for seed in self.values if seed in other.values})

    def interval(self) -> tuple[float, float] | None:
        """Return the confidence interval of the mean, mean ± t · std / √n; None for one seed, or for equal values.

        Equal values, but for rounding, mean that neither arm found anything, not that the mean is known exactly.
        """
        if (std := self.std) is None or std < EQUAL:
            return None
        from scipy import stats  # takes half a second to import

        count = len(self.values)
        low, high = stats.t.interval(CONFIDENCE, count - 1, loc=self.mean, scale=std / math.sqrt(count))
        return float(low), float(high)


@dataclass(frozen=True)
class Run:
    """One training of a comparison.

    Attributes:
        arm: Name of the arm.
        seed: Its seed.
        state: "waiting", "running", "begun" (and interrupted), "done" or "failed".
        report: Content of robustness.json, if the run is done.
        error: Why the run failed.
        resumed: How often it was resumed from a checkpoint.
        versions: The release of each package that it was trained with, once begun.
    """

    arm: str
    seed: int
    state: str = "waiting"
    report: Mapping[str, Any] | None = None
    error: str = ""
    resumed: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)

    def measure(self, metric: str, available: Iterable[str]) -> float | None:
        """Return a metric of the run on a combination of modalities; None if not done, or without that combination."""
        for row in self.report["combinations"] if self.report else ():
            if set(row["available"]) == set(available):
                return row[metric]
        return None


@dataclass(frozen=True)
class TableCell:
    """A cell of a table.

    Attributes:
        text: Its text.
        more: A second line in smaller type.
        strong: Whether it is emphasised.
    """

    text: str
    more: str = ""
    strong: bool = False


@dataclass(frozen=True)
class Comparison:
    """The results of arms trained with the same seeds, on every combination of modalities.

    Every arm has one run per seed. An arm is compared with its reference seed by seed, as runs of one seed share
    everything that the seed determines. A uni-modal arm only has a value for its one modality: an average or a PCR over
    other combinations would not be comparable.

    Args:
        title: What is compared.
        modalities: All modalities.
        arms: Overrides of the recipe by arm, in order; the first is the reference of the others.
        runs: The runs.
        against: The reference of an arm, if it is not the first arm.
        command: The command that makes the comparison, if any.
    """

    title: str
    modalities: tuple[str, ...]
    arms: dict[str, list[str]]
    runs: tuple[Run, ...]
    against: dict[str, str] = field(default_factory=dict)
    command: str = ""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics of the runs, that of PCR first."""
        reports = (run.report for run in self.runs if run.report)
        return tuple(next(reports, {}).get("metrics", METRICS))

    @property
    def primary(self) -> str:
        """The metric of PCR."""
        return self.metrics[0]

    def columns(self, metric: str | None = None) -> list[str]:
        """List the columns of the tables: each combination, their average, and the mean PCR of the first metric."""
        columns = ["+".join(available) for available in modality_combinations(self.modalities)]
        if len(self.modalities) > 1:
            columns += [AVERAGE, COLLAPSE] if metric in (None, self.primary) else [AVERAGE]
        return columns

    def reference(self, arm: str) -> str | None:
        """Return the arm that an arm is compared with; None for the first one."""
        first = next(iter(self.arms))
        return self.against.get(arm, first if arm != first else None)

    def estimate(self, arm: str, column: str, metric: str | None = None) -> Estimate | None:
        """Estimate a metric of an arm in a column (see `columns`); None if no run has it."""
        measured = {run.seed: self._value(run, column, metric or self.primary) for run in self.runs if run.arm == arm}
        values = {seed: value for seed, value in measured.items() if value is not None}
        return Estimate(values) if values else None

    def difference(self, arm: str, column: str, metric: str | None = None) -> Estimate | None:
        """Estimate by how much an arm exceeds its reference; None if there is nothing to compare."""
        return self._paired(arm, self.reference(arm), column, metric)

    def specialist(self, column: str) -> str | None:
        """Return the arm trained and tested on the single modality of a column; None if none is done."""
        alone = (run.arm for run in self.runs if run.report and list(run.report["modalities"]) == [column])
        return next(alone, None) if len(self.modalities) > 1 else None

    def to_specialist(self, arm: str, column: str, metric: str | None = None) -> Estimate | None:
        """Estimate by how much an arm exceeds the specialist of a modality, given that one alone; None without."""
        specialist = self.specialist(column)
        return self._paired(arm, specialist if specialist != arm else None, column, metric)

    def _paired(self, arm: str, reference: str | None, column: str, metric: str | None) -> Estimate | None:
        minuend = self.estimate(arm, column, metric)
        subtrahend = self.estimate(reference, column, metric) if reference is not None else None
        if minuend is None or subtrahend is None:
            return None
        pairs = minuend.minus(subtrahend)
        return pairs if pairs.values else None

    def _value(self, run: Run, column: str, metric: str) -> float | None:
        if run.report is None:
            return None
        if column not in (AVERAGE, COLLAPSE):
            return run.measure(metric, column.split("+"))
        if set(run.report["modalities"]) != set(self.modalities):
            return None
        return run.report["average"][COLLAPSE if column == COLLAPSE else metric]

    def _found_nothing(self, run: Run) -> bool:
        """Return whether the run has no PCR, since it scores 0 with all modalities."""
        average, collapse = (self._value(run, column, self.primary) for column in (AVERAGE, COLLAPSE))
        return COLLAPSE in self.columns() and average is not None and collapse is None

    def done(self, arm: str) -> tuple[int, int]:
        """Return how many runs of an arm are done, and how many it has."""
        states = [run.state for run in self.runs if run.arm == arm]
        return states.count("done"), len(states)

    def progress(self) -> RenderableType:
        """Lay out the progress of the grid for the terminal."""
        from rich.table import Table
        from rich.text import Text

        done = sum(run.state == "done" for run in self.runs)
        header, *rows = self.run_table()
        table = Table(header[0], title=f"{done} of {len(self.runs)} runs done")
        if done:  # otherwise the name of the metric is not known
            table.caption = f"{self.primary} with all modalities of the arm, and its average over all combinations"
            table.min_width = len(table.caption)
        for name in header[1:]:
            table.add_column(name, justify="center")
        styles = {"waiting": "dim", "begun": "dim", "running": "bold", "failed": "red"}
        for arm, *cells in rows:
            table.add_row(arm, *(Text(cell, styles.get(cell, "")) for cell in cells))
        return table

    def run_table(self) -> list[list[str]]:
        """Return a header, and for each arm a row with the result or the state of each seed."""
        seeds = sorted({run.seed for run in self.runs})
        cells = {(run.arm, run.seed): _progress(run, self.primary) for run in self.runs}
        rows = ([arm, *(cells.get((arm, seed), "-") for seed in seeds)] for arm in self.arms)
        return [["arm", *(f"seed {seed}" for seed in seeds)], *rows]

    def table(self) -> RenderableType:
        """Lay out means and differences of the first metric for the terminal, and what failed."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        parts: list[RenderableType] = []
        for title, columns, rows in self.tables(self.primary):
            table = Table(*columns, title=title, min_width=min(len(title), TERMINAL))  # few columns make it narrow
            table.columns[0].min_width = max(len(arm.text) for arm, *_ in rows)  # do not cut names
            for column in table.columns[1:]:
                column.justify = "right"
            for arm, *cells in rows:
                # several lines per cell, to fit 80 columns; as Text, since brackets would be markup
                lines = (re.sub(r" (?=[±[(])|(?<=,) ", "\n", f"{cell.text} {cell.more}".rstrip()) for cell in cells)
                table.add_row(arm.text, *map(Text, lines))
            parts.append(table)
        return Group(*parts, *(Text(note) for note in (*self.notes(), *self.unfinished())))

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values: runs, values by seed, means, differences and intervals."""
        return {
            "title": self.title,
            "modalities": list(self.modalities),
            "command": self.command,
            "confidence": CONFIDENCE,
            "arms": [
                {
                    "name": arm,
                    "overrides": overrides,
                    "against": self.reference(arm),
                    "runs": [
                        {key: getattr(run, key) for key in ("seed", "state", "resumed", "error", "versions")}
                        for run in self.runs
                        if run.arm == arm
                    ],
                    "metrics": {
                        metric: {column: self.entry(arm, column, metric) for column in self.columns(metric)}
                        for metric in self.metrics
                    },
                }
                for arm, overrides in self.arms.items()
            ],
        }

    def entry(self, arm: str, column: str, metric: str) -> dict[str, Any] | None:
        """Return what `to_dict` has of an arm in a column; None if no run has it."""
        estimate, difference = self.estimate(arm, column, metric), self.difference(arm, column, metric)
        if estimate is None:
            return None
        entry = {"values": estimate.values, "mean": estimate.mean, "std": estimate.std}
        for key, pairs in (("difference", difference), ("to_specialist", self.to_specialist(arm, column, metric))):
            if pairs is not None:
                low, high = pairs.interval() or (None, None)
                entry[key] = {"pairs": len(pairs.values), "mean": pairs.mean, "low": low, "high": high}
        return entry

    def markdown(self) -> str:
        """Return the comparison as a Markdown document."""
        lines = [f"# {self.title}", ""]
        for metric in self.metrics:
            for title, columns, rows in self.tables(metric):
                lines += [f"## {title}", "", *markdown_table(columns, [list(map(_bold, row)) for row in rows])]
        lines += [*(f"{note}\n" for note in (*self.notes(), *self.unfinished())), "## Arms", ""]
        for arm, overrides in self.arms.items():
            lines.append(f"- {arm}: {' '.join(f'`{override}`' for override in overrides) or 'the recipe as it is'}")
        return "\n".join(lines) + "\n"

    def tables(self, metric: str) -> list[tuple[str, list[str], list[list[TableCell]]]]:
        """Lay out the tables of a metric: means, differences, and differences to specialists if there are any.

        Args:
            metric: One of `metrics`.

        Returns:
            Title, header and rows of each table. Differences whose interval excludes 0 are strong.
        """
        columns = self.columns(metric)
        header = ["arm", *(f"{column} %" if column == COLLAPSE else column for column in columns)]
        means: list[list[TableCell]] = []
        differences: list[list[TableCell]] = []
        for arm in self.arms:
            done, wanted = self.done(arm)
            label = arm if done == wanted else f"{arm} ({done} of {wanted} seeds)"
            cells = (TableCell(_mean(self.estimate(arm, column, metric), column, done)) for column in columns)
            means.append([TableCell(label), *cells])
            if self.reference(arm) is not None:
                label = arm if arm not in self.against else f"{arm} − {self.against[arm]}"
                cells = (_difference(self.difference(arm, column, metric), column) for column in columns)
                differences.append([TableCell(label), *cells])
        tables = [(f"{metric}, mean ± standard deviation over seeds", header, means)]
        if differences:
            title = f"{metric}, difference to {next(iter(self.arms))}, paired by seed [95 % interval]"
            tables.append((title, header, differences))
        if specialists := [column for column in columns if self.specialist(column)]:
            pairs = {arm: [self.to_specialist(arm, column, metric) for column in specialists] for arm in self.arms}
            rows = [
                [TableCell(arm), *map(_difference, found, specialists)] for arm, found in pairs.items() if any(found)
            ]
            title = f"{metric}, difference to the specialist of a modality, paired by seed [95 % interval]"
            tables.append((title, ["arm", *specialists], rows))
        return tables

    def notes(self) -> list[str]:
        """Return sentences on how to read the tables."""
        notes = [
            "The average is over all combinations of modalities, PCR over the incomplete ones, of "
            f"{self.primary}; less PCR is more robust. An arm with one modality alone has neither."
        ]
        if any(self.specialist(name) for name in self.modalities):
            notes.append("A specialist is trained and tested on one modality: what that modality can do alone.")
        pairs = [d for arm in self.arms for c in self.columns() if (d := self.difference(arm, c)) is not None]
        if any(difference.interval() for difference in pairs):
            notes.append(
                "Intervals are of Student's t over seeds, each on its own: of twenty without a true difference, one "
                "excludes 0 by chance. They cover the randomness of training, not that of the choice of images."
            )
        if any(difference.interval() is None for difference in pairs):
            notes.append("One seed, or equal differences for all seeds, give no interval: chance cannot be estimated.")
        if unscored := [f"{run.arm} seed {run.seed}" for run in self.runs if self._found_nothing(run)]:
            more = f" and {len(unscored) - NAMED} more" if len(unscored) > NAMED else ""
            notes.append(
                f"With all modalities {', '.join(unscored[:NAMED])}{more} found nothing, so PCR is undefined there: "
                "its means and differences leave these runs out, and say less of how robust such an arm is."
            )
        images = {run.arm: run.report.get("images") for run in self.runs if run.report}
        if len(set(images.values())) > 1:  # a uni-modal arm also has images without a partner
            counts = ", ".join(f"{arm} {count}" for arm, count in images.items())
            notes.append(f"The arms were evaluated on different numbers of images: {counts}.")
        return notes

    def unfinished(self) -> list[str]:
        """Return sentences on the runs that failed and the number not finished."""
        notes = [f"Failed: {run.arm}, seed {run.seed}: {run.error}" for run in self.runs if run.state == "failed"]
        unfinished = sum(run.state in ("waiting", "running", "begun") for run in self.runs)
        return notes + ([f"{unfinished} of {len(self.runs)} runs are not finished."] if unfinished else [])

    def versions(self) -> list[str]:
        """Return the releases that runs were trained with, as text without repetition."""
        sets = (", ".join(f"{name} {version}" for name, version in run.versions.items()) for run in self.runs)
        return list(dict.fromkeys(filter(None, sets)))


def _progress(run: Run, metric: str) -> str:
    if run.state != "done" or run.report is None:
        return run.state
    full, average = run.measure(metric, run.report["modalities"]), run.report["average"][metric]
    return f"{full:.3f}" if len(run.report["modalities"]) == 1 else f"{full:.3f}, {average:.3f}"


def _number(value: float, column: str, signed: bool = False) -> str:
    digits = 1 if column == COLLAPSE else 3
    text = f"{value:{'+' if signed else ''}.{digits}f}"
    return text.replace("-", "−")


def _mean(estimate: Estimate | None, column: str, done: int) -> str:
    """Format a mean over seeds, with their number where it is not that of the runs that are done."""
    if estimate is None:
        return "-"
    spread = "" if estimate.std is None else f" ± {_number(estimate.std, column)}"
    count = len(estimate.values)
    return _number(estimate.mean, column) + spread + (f" (n = {count})" if count < done else "")


def _difference(difference: Estimate | None, column: str) -> TableCell:
    if difference is None:
        return TableCell("-")
    text = _number(difference.mean, column, signed=True)
    if (interval := difference.interval()) is None:
        return TableCell(text)
    low, high = interval
    more = f"[{_number(low, column, signed=True)}, {_number(high, column, signed=True)}]"
    return TableCell(text, more, strong=low > 0 or high < 0)


def _bold(cell: TableCell) -> str:
    """Format a cell in Markdown."""
    text = f"{cell.text} {cell.more}".rstrip()
    return f"**{text}**" if cell.strong else text
