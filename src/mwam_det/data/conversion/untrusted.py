"""Read sources written by strangers: names must stay in the source, numbers must be places in an image."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from mwam_det.data.conversion.model import Box, ConversionError, Report

LARGEST_COORDINATE = 1e6
"""Larger coordinates, in pixels, are rejected: no image is that large."""


def inside(folder: Path, name: str) -> Path:
    """Return the path of a file named by an annotation, which must lie in `folder`.

    Raises:
        ConversionError: If the name is empty, absolute (on Linux or Windows), leads out of the folder or holds a NUL.
    """
    path, drive = PurePosixPath(name.replace("\\", "/")), PureWindowsPath(name).drive
    if not path.parts or path.is_absolute() or drive or ".." in path.parts or "\0" in name:
        raise ConversionError(f"an annotation in {folder} names the file {name!r}, which lies outside of it")
    return folder / path


def require_folders(source: Path, title: str, names: Iterable[str]) -> None:
    """Raise `ConversionError` unless all folders of a published dataset exist in `source`."""
    for name in names:
        if not (source / name).is_dir():
            raise ConversionError(f"{source} is not {title}: there is no folder {name} in it")


def folders_in(source: Path) -> str:
    """List the first folders in `source`, for an error message."""
    return ", ".join(sorted(path.name for path in source.iterdir() if path.is_dir())[:12])


def files_by_stem(folder: Path, suffixes: Collection[str], what: str, report: Report) -> dict[str, Path]:
    """Return the files in a folder by stem, sorted; hidden files are skipped, files of the same stem left out.

    Args:
        folder: The folder; not searched recursively.
        suffixes: Accepted suffixes, without dot, in lower case.
        what: What the files are, for the report, like "rgb image".
        report: Counts the files left out.
    """
    found = defaultdict(list)
    for file in sorted(folder.iterdir()):
        if file.suffix[1:].lower() in suffixes and not file.name.startswith(".") and file.is_file():
            found[file.stem].append(file)
    for files in found.values():
        if len(files) > 1:
            report.leave_out(f"{what}: several of one name", ", ".join(map(str, files)), len(files))
    return {stem: files[0] for stem, files in found.items() if len(files) == 1}


def read_lines(file: Path) -> list[str]:
    """Return the lines of a UTF-8 text, with or without a byte order mark.

    Raises:
        ValueError: If it cannot be read.
    """
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} cannot be read ({error})") from None


def number(text: Any, what: str) -> float:
    """Read a coordinate: a number, or its text with or without a decimal point.

    Raises:
        ValueError: If it is not a finite number, or larger than any image.
    """
    try:
        value = float(text)
        if isinstance(text, str) and ("_" in text or not text.isascii()):  # Python also reads "1_0" and "٣"
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{what} is {text!r}, not a number") from None
    if not math.isfinite(value) or abs(value) > LARGEST_COORDINATE:
        raise ValueError(f"{what} is {text!r}, not a place in an image")
    return value


def box_of(x: float, y: float, width: float, height: float, what: str) -> Box:
    """Return the opposite corners of a box given by its top left corner and its sides, in pixels.

    Raises:
        ValueError: If a side is not positive.
    """
    if width <= 0 or height <= 0:
        raise ValueError(f"{what} is {width:g}×{height:g} pixels")
    return (x, y), (x + width, y + height)
