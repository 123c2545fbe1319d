"""Where results go: a folder for each run, in the folder that `train.project` names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mwam_det.files.paths import expanded

RUNS = Path("runs")
"""Folder of all runs unless a recipe names one, in the working directory."""


def runs_folder(project: Any = None) -> Path:
    """Return the absolute path of the folder that `project` names, or of `RUNS` if it names none."""
    return expanded(str(project or RUNS)).resolve()


def new_folder(project: Path, name: str) -> Path:
    """Make the folder of a new run in `project`: name, name-2, name-3 and so on."""
    number = 1
    while True:
        folder = project / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return folder
