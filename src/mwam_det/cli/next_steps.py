"""Commands to copy that use a trained run."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from mwam_det.experiments import Experiment

EVALUATION_SECTIONS = ("task", "data", "report")
"""Sections of a recipe whose overrides an evaluation needs as well."""


def next_commands(folder: Path, experiment: Experiment, words: Sequence[str]) -> list[str]:
    """Return commands that use a trained run: predict on a pair of its data, and degrade its sensors.

    Args:
        folder: The run folder.
        experiment: What was trained.
        words: The recipe's file and the overrides, as on the command line; empty without a recipe.

    Returns:
        Shell commands; none for models other than Ultralytics', which support neither.
    """
    weights = next((file for name in ("best.pt", "last.pt") if (file := folder / "weights" / name).is_file()), None)
    if weights is None or not experiment.predicts:
        return []
    commands, report = [], experiment.recipe.report
    if pair := experiment.first_pair():
        sources = (f"{name}={shown(file)}" for name, file in pair.items())
        commands.append(["mwam-det", "predict", shown(weights), "--source", *sources])
    if words and not (isinstance(report, dict) and report.get("degradations")):
        kept = [word for word in words[1:] if word.partition("=")[0].partition(".")[0] in EVALUATION_SECTIONS]
        commands.append(["mwam-det", "robustness", shown(weights), words[0], *kept, "degradations=true"])
    return list(map(shlex.join, commands))


def shown(file: str | Path) -> str:
    """Return a path relative to the working directory if it lies below it, otherwise absolute."""
    path, here = Path(file).absolute(), Path.cwd()
    return os.path.relpath(path, here) if path.is_relative_to(here) else str(path)
