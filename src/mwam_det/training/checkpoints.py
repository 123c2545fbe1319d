"""Resuming a run: where its checkpoint is, and whether it was begun with the same settings."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal


class Interrupted(KeyboardInterrupt):
    """A training was interrupted.

    Attributes:
        resume: The value of `train.resume` that resumes it; None if nothing was saved yet.
    """

    def __init__(self, resume: str | Path | None):
        super().__init__()
        self.resume = resume


def checkpoint_to_resume(resume: Literal[True] | str, project: str | Path, name: str) -> Path:
    """Find the checkpoint that `train.resume` names.

    Args:
        resume: A file, or True for the newest last.pt of the runs of one name.
        project: The folder of the runs.
        name: The name of the runs, which also covers name-2, name-3 and so on.

    Raises:
        ValueError: If it does not exist.
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


def begun(folder: Path, read: Callable[[Path], dict[str, Any]]) -> dict[str, Any] | None:
    """Return the content of a run's last checkpoint; None if there is none, or if one is damaged, which is printed.

    Args:
        folder: The run folder.
        read: Reads a checkpoint, and raises ValueError if it cannot be read.
    """
    content = None
    try:
        for name in ("best.pt", "last.pt"):
            file = folder / "weights" / name
            content = read(file) if file.is_file() else None
    except ValueError as error:
        print(f"{error}: the run begins anew", file=sys.stderr)
        return None
    return content


def changed_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return which settings of two recipes differ, like "train.lr0 was 0.01, is 0.5"; an empty text if none does."""
    old, new = _flat(before), _flat(now)
    differing = sorted(key for key in old | new if old.get(key) != new.get(key))
    return ", ".join(f"{key} was {old.get(key)}, is {new.get(key)}" for key in differing)


def _flat(content: Any, prefix: str = "") -> dict[str, Any]:
    """Return {"section.key": value} of a nested mapping."""
    if not isinstance(content, Mapping) or not content:
        return {prefix: content}
    return {k: v for key, value in content.items() for k, v in _flat(value, f"{prefix}.{key}".lstrip(".")).items()}
