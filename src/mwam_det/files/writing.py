"""Atomic writes: a file is there whole or not at all, however the writing process ends."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def written_whole(file: Path) -> Iterator[Path]:
    """Yield a temporary path beside a file, which replaces the file when the block ends.

    After an error it is removed and the file is unchanged. A leftover of a process that died is overwritten.

    Args:
        file: The file; its folder exists.

    Raises:
        OSError: If it cannot be written.
    """
    unfinished = file.with_name(f".{file.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    try:
        yield unfinished
        os.replace(unfinished, file)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def write_json(file: Path, content: Any) -> None:
    """Write plain values as indented JSON, whole or not at all; names in no encoding as JSON's escapes."""
    with written_whole(file) as unfinished:
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        unfinished.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_csv(file: Path, rows: Iterable[Sequence[Any]]) -> None:
    """Write rows as CSV, the header first, whole or not at all; None becomes an empty cell."""
    with written_whole(file) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)
