"""Records of a conversion in its destination, finished or not."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ultralytics.data.utils import IMG_FORMATS

from mwam_det.data.conversion.model import ConversionError
from mwam_det.files.locks import LOCK, Hold
from mwam_det.files.writing import written_whole

if TYPE_CHECKING:
    from rich.console import RenderableType

RECORD = "conversion.json"
"""Written to a finished folder: what was converted and what was left out."""

UNFINISHED = "conversion.unfinished.json"
"""Marks an unfinished folder: what is being converted."""

BEGINNING = {UNFINISHED, f".{UNFINISHED}.unfinished", LOCK}
"""Files in a destination before any result is written."""


def summary(record: Mapping[str, Any]) -> RenderableType:
    """Summarise a conversion for the terminal: pairs and boxes per class and split, what was left out, notes, doubts.

    Args:
        record: What `convert` returned, or the content of a conversion.json.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    splits = record["splits"]
    kept = Table("", title=f"Converted from {record['format']}")
    for split in splits:
        kept.add_column(split, justify="right")
    kept.add_row("pairs", *(f"{split['pairs']:,}" for split in splits.values()), end_section=True)
    for name in dict.fromkeys(name for split in splits.values() for name in split["boxes"]):
        kept.add_row(Text(name), *(f"{split['boxes'].get(name, 0):,}" for split in splits.values()))
    parts: list[RenderableType] = [kept]
    if record["left_out"]:
        left_out = Table("left out", "number", "for example", title="Left out")
        left_out.columns[1].justify = "right"
        for reason, entry in record["left_out"].items():
            # Text, since names of files and classes must not be read as rich's markup
            left_out.add_row(Text(reason), f"{entry['count']:,}", Text(next(iter(entry["examples"]), "")))
        parts.append(left_out)
    parts += [Text(f"Note: {note}") for note in record["notes"]]
    parts += [Text(f"Doubt: {doubt}", style="bold") for doubt in record.get("doubts", ())]
    return Group(*parts)


def check_destination(destination: Path, request: Mapping[str, Any]) -> None:
    """Refuse a destination that is not new, empty or left by the same conversion."""
    if destination.exists() and not destination.is_dir():
        raise ConversionError(f"{destination} is a file: name a new folder")
    names = {path.name for path in destination.iterdir()} if destination.is_dir() else set()
    if not names - BEGINNING:
        return
    if UNFINISHED not in names:
        state = "holds a finished conversion" if RECORD in names else "is not empty"
        raise ConversionError(f"{destination} {state}: name a new folder, nothing is overwritten")
    if not any(set(files) - BEGINNING for _, _, files in os.walk(destination)):
        return  # nothing was written, so another request loses nothing
    try:
        begun = json.loads((destination / UNFINISHED).read_text(encoding="utf-8"))
    except ValueError:
        begun = None
    if not isinstance(begun, Mapping):
        raise ConversionError(f"{destination / UNFINISHED} is damaged: remove the folder, or name a new one")
    if begun != json.loads(as_json(request)):
        given = " ".join(f"{name}={value}" for name, value in dict(begun.get("options") or {}).items())
        raise ConversionError(
            f"{destination} holds an unfinished conversion of {begun.get('source')} as {begun.get('format')}"
            + (f" with {given}" if given else "")
            + ": finish that one, remove the folder, or name a new one"
        )


class Claim:
    """Context that holds a destination for this process and marks it as unfinished until it ends without an error.

    A conversion that fails before it has written anything leaves the destination as it was.
    """

    def __init__(self, destination: Path, request: Mapping[str, Any]) -> None:
        self._destination, self._request = destination, request
        self._marker = destination / UNFINISHED
        self._written: set[Path] = set()

    def __enter__(self) -> Claim:
        self._is_new = not self._destination.is_dir()
        self._hold = Hold(self._destination)
        try:
            check_destination(self._destination, self._request)  # another process may just have finished here
            write_text(self._marker, as_json(self._request))
        except BaseException:
            self._hold.release()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or not {path.name for path in self._destination.iterdir()} - BEGINNING:
            self._marker.unlink()
        self._hold.release()
        if kind is not None and self._is_new and not any(self._destination.iterdir()):
            self._destination.rmdir()

    def add(self, files: Iterable[Path]) -> None:
        """Add files to the result."""
        self._written.update(files)

    def write(self, file: Path, text: str) -> None:
        """Write a text file of the result."""
        write_text(file, text)
        self.add([file])

    def remove_others(self) -> None:
        """Remove what an earlier attempt wrote and this one did not: training would read it."""
        # compared without case, for file systems that ignore it
        ours = {str(file).casefold() for file in (*self._written, self._marker)}
        folders = {file.relative_to(self._destination).parts[0] for file in self._written}
        for file in (file for name in folders for file in (self._destination / name).rglob("*")):
            read = file.suffix[1:].lower() in (*IMG_FORMATS, "txt") or file.name.endswith(".unfinished")
            if read and file.is_file() and str(file).casefold() not in ours:
                file.unlink()


def write_text(target: Path, text: str) -> None:
    """Write a text file atomically, creating its folders."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(target) as unfinished:
        unfinished.write_text(text, encoding="utf-8", errors="backslashreplace")  # an escape of JSON


def as_json(content: Any) -> str:
    """Return content as the text of a record."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
