"""Losses and accuracy over epochs, for a comparison whose arms filter modalities (Section 3.1, Fig. 1)."""

from __future__ import annotations

import csv
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from mwam_det.data.filtering import WindowFilter, read_filters
from mwam_det.recipe import with_overrides
from mwam_det.robustness.style import DASHES, PALETTE, tidy
from mwam_det.study.spectra import save_files

OVERRIDE = "data.filter"
LOGS = ("history.csv", "results.csv")
"""Names of a run's log, from the hosts or Ultralytics."""

METRICS_OF_LOGS = (
    "metrics/mAP50(M)",
    "metrics/mAP50(P)",
    "metrics/mAP50(B)",
    "metrics/mIoU",
    "metrics/accuracy_top1",
)
"""Ultralytics' names of a report's first metric, masks and keypoints before boxes. The hosts log theirs last."""


@dataclass(frozen=True)
class Curves:
    """The logs of an arm's runs, as means over the finished seeds.

    Attributes:
        arm: Name of the arm.
        filters: The filter of each modality that has one.
        seeds: Number of finished runs.
        loss: Training loss by epoch.
        metric: The validation metric by epoch.
        reached: The metric of the report with all modalities, by seed.
    """

    arm: str
    filters: Mapping[str, WindowFilter]
    seeds: int
    loss: list[float]
    metric: list[float]
    reached: list[float]

    @property
    def kind(self) -> tuple[str, int]:
        """The filter of all modalities, like ("low", 9); ("raw", 0) without one, ("", 0) if they differ."""
        kinds = {(each.keeps, each.window) for each in self.filters.values()}
        return ("raw", 0) if not kinds else kinds.pop() if len(kinds) == 1 else ("", 0)

    @property
    def area(self) -> float:
        """Mean training loss over all epochs: a lower value is a faster decrease."""
        return statistics.fmean(self.loss)

    @property
    def label(self) -> str:
        """The filter, like "low 9"; the arm's name if modalities differ."""
        keeps, window = self.kind
        return self.arm if not keeps else keeps if keeps == "raw" else f"{keeps} {window}"


def read_curves(folder: Path) -> list[Curves]:
    """Read the arms of the comparison in a folder that has arms with a filter.

    Args:
        folder: The folder of `mwam-det compare`.

    Returns:
        The arms with a finished run, in order, and of those without a filter the first. Arms that lack a modality are
        left out.

    Raises:
        ValueError: If there is no comparison with a filter, or none of its runs is done.
    """
    for file in sorted(folder.glob("compare*.json")):
        content = json.loads(file.read_text(encoding="utf-8"))
        arms = {arm["name"]: _filters(arm["overrides"], content["modalities"]) for arm in content["arms"]}
        if any(arms.values()):
            break
    else:
        raise ValueError(f"{folder} holds no comparison of arms with data.filter, like cfg/studies/spectrum.yaml")
    full = "+".join(content["modalities"])
    found: list[Curves] = []
    for arm in content["arms"]:
        done = [run["seed"] for run in arm["runs"] if run["state"] == "done"]
        logs = [_log(folder / arm["name"] / f"seed{seed}") for seed in done]
        filters = arms[arm["name"]]
        if not logs or (not filters and any(not each.filters for each in found)):
            continue
        if (values := next(iter(arm["metrics"].values()))[full]) is None:
            continue
        loss, metric = map(_means, zip(*logs, strict=True))
        found.append(Curves(arm["name"], filters, len(done), loss, metric, list(values["values"].values())))
    if not found:
        raise ValueError(f"no run in {folder} is done yet")
    return found


def _means(series: Sequence[Sequence[float]]) -> list[float]:
    """Return the mean over seeds for each epoch that all have reached."""
    return [statistics.fmean(values) for values in zip(*series, strict=False)]


def _filters(overrides: Sequence[str], modalities: Sequence[str]) -> dict[str, WindowFilter]:
    given = with_overrides({}, (override for override in overrides if override.startswith(OVERRIDE)))
    return read_filters(given.get("data", {}).get("filter"), modalities)


def _log(folder: Path) -> tuple[list[float], list[float]]:
    """Return training loss and validation metric by epoch.

    Raises:
        ValueError: If the run has no log.
    """
    file = next((folder / name for name in LOGS if (folder / name).is_file()), None)
    if file is None:
        raise ValueError(f"{folder} has no log: {' or '.join(LOGS)}")
    with file.open(encoding="utf-8", newline="") as stream:
        rows = [{key.strip(): value for key, value in row.items()} for row in csv.DictReader(stream)]
    losses = [key for key in rows[0] if key == "loss"] or [k for k in rows[0] if k.startswith("train/")]
    metric = next((name for name in METRICS_OF_LOGS if name in rows[0]), list(rows[0])[-1])
    return [sum(float(row[key]) for key in losses) for row in rows], [float(row[metric] or math.nan) for row in rows]


def claims(curves: Sequence[Curves]) -> list[str]:
    """Return the comparisons of Section 3.1 as sentences, as far as there are arms for them."""
    sentences = []
    by_kind = {each.kind: each for each in curves}
    raw = by_kind.get(("raw", 0))
    for window in sorted({window for keeps, window in by_kind if keeps in ("low", "high")}):
        low, high = by_kind.get(("low", window)), by_kind.get(("high", window))
        if low and high:
            sentences.append(f"Window {window}: low frequencies {_summary(low)}; high frequencies {_summary(high)}.")
    if raw:
        sentences.append(f"Unfiltered: {_summary(raw)}.")
    for keeps in ("low", "high"):
        alone = {name: each for each in curves if (name := _alone(each, keeps))}
        if len(alone) > 1:
            fastest = min(alone, key=lambda name: alone[name].area)
            figures = "; ".join(f"{name} {_summary(each)}" for name, each in alone.items())
            sentences.append(f"The loss falls fastest on the {keeps} frequencies of {fastest}: {figures}.")
    return sentences


def _alone(curves: Curves, keeps: str) -> str | None:
    """Return the only modality that is not reduced to its mean, if its filter keeps the given frequencies."""
    more = {name: each for name, each in curves.filters.items() if each != WindowFilter("low", 1)}
    lone = len(more) == 1 and len(curves.filters) > 1 and len(more) < len(curves.filters)
    ((name, each),) = more.items() if lone else (("", WindowFilter("", 0)),)
    return name if each.keeps == keeps else None


def _summary(curves: Curves) -> str:
    return f"mean loss {curves.area:.3f}, last loss {curves.loss[-1]:.3f}, metric {_spread(curves.reached)}"


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.fmean(values):.3f}" + (f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else "")


def curve_table(curves: Sequence[Curves]) -> list[list[str]]:
    """Return a header, and for each arm the number of seeds, its losses and the metric reached."""
    rows = [["arm", "seeds", "mean loss", "last loss", "metric"]]
    for each in curves:
        rows.append([each.arm, str(each.seeds), f"{each.area:.3f}", f"{each.loss[-1]:.3f}", _spread(each.reached)])
    return rows


def save_curves(curves: Sequence[Curves], folder: Path) -> list[Path]:
    """Write spectrum.json, spectrum.csv (one row per arm and epoch) and spectrum.png, and return the files."""
    content: dict[str, Any] = {
        "claims": claims(curves),
        "arms": {
            each.arm: {
                "filter": {name: {kept.keeps: kept.window} for name, kept in each.filters.items()},
                "seeds": each.seeds,
                "mean_loss": each.area,
                "last_loss": each.loss[-1],
                "metric": each.reached,
            }
            for each in curves
        },
    }
    rows: list[Sequence[Any]] = [["arm", "epoch", "loss", "metric"]]
    for each in curves:
        rows += [(each.arm, k, *both) for k, both in enumerate(zip(each.loss, each.metric, strict=True), 1)]
    return save_files(folder, content, rows, curves_figure(curves))


def curves_figure(curves: Sequence[Curves]) -> Figure:
    """Draw training loss and validation metric over epochs, and the metric reached over windows.

    Arms with the same filter for all modalities are in the first row, others in the second.
    """
    alike = [each for each in curves if each.kind[0]]
    rows = [row for row in (alike, [each for each in curves if not each.kind[0]]) if row]
    figure = Figure(figsize=(12, 3.8 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), 3, squeeze=False)
    for row, (losses, metrics, reached) in zip(rows, axes, strict=True):
        for index, each in enumerate(row):
            style = _style(each, index, row)
            epochs = range(1, len(each.loss) + 1)
            losses.plot(epochs, each.loss, label=each.label, **style)
            metrics.plot(epochs, each.metric, **style)
        losses.set(xlabel="epoch", ylabel="training loss", ylim=(0, None))
        metrics.set(xlabel="epoch", ylabel="validation metric")
        _draw_reached(reached, row)
        losses.legend(frameon=False, fontsize="small")
        for axis in (losses, metrics, reached):
            tidy(axis)
    return figure


def _style(each: Curves, index: int, row: Sequence[Curves]) -> dict[str, Any]:
    keeps, window = each.kind
    if keeps == "raw":
        return {"color": "black"}
    if not keeps:
        return {"color": PALETTE[index % len(PALETTE)], "linestyle": DASHES[index % len(DASHES)]}
    windows = sorted({other.kind[1] for other in row if other.kind[0] == keeps})
    dash = DASHES[windows.index(window) % len(DASHES)]
    return {"color": PALETTE[0] if keeps == "low" else PALETTE[5], "linestyle": dash}


def _draw_reached(axis: Any, row: Sequence[Curves]) -> None:
    """Draw the metric that arms reached over their windows, or as bars if their modalities differ."""
    if not row[0].kind[0]:
        for index, each in enumerate(row):
            color = PALETTE[index % len(PALETTE)]
            axis.bar(index, statistics.fmean(each.reached), 0.7, facecolor=f"{color}73", edgecolor=color)
            axis.scatter([index] * len(each.reached), each.reached, s=12, color=color, zorder=3)
        axis.set_xticks(range(len(row)), [each.arm for each in row], rotation=20)
        axis.set_ylabel("metric reached")
        return
    for keeps, color in (("low", PALETTE[0]), ("high", PALETTE[5])):
        arms = sorted((each for each in row if each.kind[0] == keeps), key=lambda each: each.kind[1])
        windows, means = [each.kind[1] for each in arms], [statistics.fmean(each.reached) for each in arms]
        if not arms:
            continue
        axis.plot(windows, means, color=color, marker="o", label=f"{keeps}-pass")
        for each in arms:
            axis.scatter([each.kind[1]] * len(each.reached), each.reached, s=12, color=color, alpha=0.6)
    for each in row:
        if each.kind[0] == "raw":
            axis.axhline(statistics.fmean(each.reached), color="black", linewidth=1, label="raw")
    axis.set_xticks(sorted({each.kind[1] for each in row if each.kind[1]}))
    axis.set(xlabel="window", ylabel="metric reached")
    axis.legend(frameon=False, fontsize="small")
