"""What an annotation says that a stranger wrote: names may not leave the source, numbers must be places in an image."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from mwam_det.data.conversion.model import ConversionError, Report

LARGEST_COORDINATE = 1e6
"""Labels with larger numbers, in pixels, are refused: no image is so large."""


def inside(folder: Path, name: str) -> Path:
    """Return the path of a file that an annotation names, which must lie in `folder`.

    Raises:
        ConversionError: If the name is empty, absolute (on Linux or Windows), leads out of the folder or holds a zero
            byte.
    """
    path, drive = PurePosixPath(name.replace("\\", "/")), PureWindowsPath(name).drive
    if not path.parts or path.is_absolute() or drive or ".." in path.parts or "\0" in name:
        raise ConversionError(f"an annotation in {folder} names the file {name!r}, which lies outside of it")
    return folder / path


def files_by_stem(folder: Path, suffixes: Collection[str], what: str, report: Report) -> dict[str, Path]:
    """List the files that lie in a folder by name without suffix, in order; hidden ones are passed over.

    Where several share a name, nobody can tell which is meant: all are left out and reported.

    Args:
        folder: The folder; folders in it are not looked into.
        suffixes: Suffixes that count, without dot, in lower case.
        what: What the files are, for the report, like "rgb image".
        report: Takes what was left out.
    """
    found = defaultdict(list)
    for file in sorted(folder.iterdir()):
        if file.suffix[1:].lower() in suffixes and not file.name.startswith(".") and file.is_file():
            found[file.stem].append(file)
    for files in found.values():
        if len(files) > 1:
            report.leave_out(f"{what}: several of one name", ", ".join(map(str, files)), len(files))
    return {stem: files[0] for stem, files in found.items() if len(files) == 1}


def number(text: Any, what: str) -> float:
    """Read a coordinate: a number, or its text as tools write it, with or without a decimal point.

    Raises:
        ValueError: If it is no finite number, or larger than any image.
    """
    try:
        value = float(text)
        if isinstance(text, str) and ("_" in text or not text.isascii()):  # Python also reads "1_0" and "٣"
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{what} is {text!r}, not a number") from None
    if not math.isfinite(value) or abs(value) > LARGEST_COORDINATE:
        raise ValueError(f"{what} is {text!r}, which is no place in an image")
    return value
