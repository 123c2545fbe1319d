"""Checkpoints on disk: written whole or not at all, and repaired if a process died between two of them.

Beside Ultralytics' content, last.pt holds a record for resuming (see `mwam_det.engine.resuming`). It is an entry of the
same archive that torch.load ignores. best.pt and finished checkpoints have none.
"""

from __future__ import annotations

import io
import os
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from ultralytics.nn.tasks import torch_safe_load
from ultralytics.utils.torch_utils import strip_optimizer

UNFINISHED = "unfinished"
"""Folder beside the checkpoints for one that is being written."""

RECORD = "resume.pt"
"""Name of the record in the archive of last.pt."""


if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    _ConcretePath = Path
else:
    _ConcretePath = type(Path())  # before Python 3.12, Path itself cannot be extended


class CheckpointPath(_ConcretePath):
    """The path of a checkpoint, or of a folder of checkpoints, which are written whole or not at all.

    Attributes:
        record: Plain values and tensors to add to the archive; None for nothing.
    """

    record: Mapping[str, Any] | None = None

    def write_bytes(self, data: ReadableBuffer) -> int:
        """Write a checkpoint to a temporary file, which then replaces this one.

        Raises:
            OSError: If it cannot be written, as on a full disk; it names this file, and nothing is left behind.
        """
        if self.record is not None:
            data = _with_record(data, self.record)
        folder = Path(self.parent) / UNFINISHED
        shutil.rmtree(folder, ignore_errors=True)  # left by a process that died
        try:
            folder.mkdir()
            written = (folder / self.name).write_bytes(data)
            os.replace(folder / self.name, self)
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise OSError(error.errno, error.strerror, str(self)) from None
        folder.rmdir()
        return written


def _with_record(data: ReadableBuffer, record: Mapping[str, Any]) -> bytes:
    content, archive = io.BytesIO(), io.BytesIO(data)
    torch.save(dict(record), content)
    with zipfile.ZipFile(archive, "a") as entries:
        top = entries.namelist()[0].split("/")[0]  # torch refuses entries outside its folder
        entries.writestr(f"{top}/{RECORD}", content.getvalue())
    return archive.getvalue()


def read_record(file: Path) -> dict[str, Any] | None:
    """Return the record in a checkpoint; None if there is none, as in best.pt and finished ones."""
    try:
        with zipfile.ZipFile(file) as entries:
            name = next((name for name in entries.namelist() if name.endswith(f"/{RECORD}")), None)
            content = entries.read(name) if name else None
    except (OSError, zipfile.BadZipFile):
        return None
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True) if content else None


def strip_whole(file: Path, updates: dict[str, Any] | None = None) -> dict[str, Any]:
    """Finish a checkpoint as Ultralytics' `strip_optimizer` does, whole or not at all.

    Args:
        file: The checkpoint.
        updates: Entries to add to it.

    Returns:
        Its content; empty if the file is not a checkpoint, which is then unchanged.
    """
    folder = Path(file).parent / UNFINISHED
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    content = strip_optimizer(file, str(folder / file.name), updates)
    if content:
        os.replace(folder / file.name, file)
    folder.rmdir()
    return content


def repair_best(last: Path, best: Path, content: Mapping[str, Any]) -> None:
    """Replace best.pt by last.pt if its epoch is the best one but best.pt is from another.

    That happens if a process dies between writing the two.

    Args:
        last: The last checkpoint.
        best: The best one; it may be missing.
        content: Content of the last one.
    """
    fitness = content["train_metrics"]["fitness"]
    if fitness is None or fitness != content["best_fitness"] or _epoch_of(best) == content["epoch"]:
        return
    kept = io.BytesIO()
    with zipfile.ZipFile(last) as entries, zipfile.ZipFile(kept, "w") as others:
        for entry in entries.infolist():
            if not entry.filename.endswith(f"/{RECORD}"):
                others.writestr(entry, entries.read(entry))
    CheckpointPath(best).write_bytes(kept.getvalue())


def _epoch_of(file: Path) -> int | None:
    """Return the epoch of a checkpoint, None if it is missing or damaged."""
    try:
        return torch_safe_load(file)[0]["epoch"] if file.is_file() else None
    except Exception:  # a damaged archive or pickle may raise anything
        return None


def finish_checkpoints(last: Path, best: Path) -> None:
    """Strip the checkpoints of a run of what only its training needs; finished ones are unchanged."""
    results = strip_whole(last).get("train_results") if last.is_file() else None
    if best.is_file():
        strip_whole(best, {"train_results": results})


def is_trained(content: Mapping[str, Any]) -> bool:
    """Return whether a run has trained its last epoch, by the content of its last.pt.

    The validation of best.pt and the report may still be missing.
    """
    state = content.get("train_args", {}).get("run_state") or {}
    epoch = content.get("epoch", -1)
    return epoch < 0 or epoch >= content["train_args"]["epochs"] - 1 or bool(state.get("stopped"))
