"""Where the checkpoint of an interrupted run is."""

from __future__ import annotations

import re
from pathlib import Path


def checkpoint_to_resume(resume: bool | str, project: str | Path, name: str) -> Path:
    """Find the checkpoint that `train.resume` asks for.

    Args:
        resume: A file, or True for the newest last.pt of the runs of one name.
        project: The folder of the runs.
        name: Their name; what is numbered on (name-2, name-3, …) belongs to it.

    Raises:
        ValueError: If there is none.
    """
    if resume is not True:
        if not Path(resume).is_file() or Path(resume).suffix != ".pt":
            raise ValueError(f"train.resume={resume} is not a file of weights: give a last.pt, or true for the newest")
        return Path(resume)
    runs = re.compile(rf"{re.escape(name)}(-\d+)?")
    found = [file for file in Path(project).glob("*/weights/last.pt") if runs.fullmatch(file.parts[-3])]
    if not found:
        raise ValueError(f"train.resume=true, but there is no {project}/{name}*/weights/last.pt")
    return max(found, key=lambda file: file.stat().st_mtime)
