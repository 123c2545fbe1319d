"""Check names of modalities and classes, which become folders, columns and keys."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

RESERVED = {
    "average": "a report has a row of that name",
    "pcr": "a comparison has a column of that name",
    "labels": "a dataset has its labels under that name",
    "img": "a batch has the stacked images under that name",
}
"""Names that modalities may not have, in lower case, and why."""

LONGEST_FOLDER = 200
"""Longest name of a class folder, in bytes; file systems allow 255."""


def check_modality_names(names: Iterable[Any]) -> None:
    """Check that names of modalities can be parts of file names, columns and keys of `torch.nn.ModuleDict`.

    Raises:
        ValueError: If one cannot, or two differ in case only.
    """
    known: dict[str, Any] = {}
    for name in names:
        if not isinstance(name, str) or not re.fullmatch(r"[^\W\d_][\w-]{0,63}", name):
            raise ValueError(
                f"a modality may not be called {name!r}: it becomes the name of folders and columns, so use a letter, "
                "then up to 63 letters, digits, '_' or '-'"
            )
        reason = RESERVED.get(name.casefold())
        if reason is None and hasattr(nn.ModuleDict(), name):
            reason = "every module of PyTorch has an attribute of that name"
        if reason is not None:
            raise ValueError(f"a modality may not be called '{name}': {reason}")
        other = known.setdefault(_without_case(name), name)
        if other != name:
            raise ValueError(f"the modalities '{other}' and '{name}' would share folders: they differ in case only")


def class_folders(names: Mapping[int, Any]) -> dict[int, str]:
    r"""Return the name of the folder of each class, by its number.

    It is the name of the class, with "-" in place of / \ : * ? " < > |, control characters, leading dots, and trailing
    dots and spaces, which some systems interpret, hide or drop.

    Raises:
        ValueError: If a name is empty or too long, or two classes would share a folder, also if case is ignored.
    """
    folders: dict[int, str] = {}
    known: dict[str, int] = {}
    for number, name in names.items():
        folder = re.sub(r'[/\\:*?"<>|\x00-\x1f\x7f-\x9f\ud800-\udfff]', "-", str(name))
        folder = re.sub(r"^\.+|[. ]+$", lambda match: "-" * len(match[0]), folder)
        if not folder:
            raise ValueError(f"the class {number} has an empty name, which cannot be that of a folder")
        if len(folder.encode()) > LONGEST_FOLDER:
            raise ValueError(
                f"the class '{folder[:40]}…' has a name too long for a folder: at most {LONGEST_FOLDER} bytes"
            )
        other = known.setdefault(_without_case(folder), number)
        if other != number:
            raise ValueError(f"the classes {names[other]!r} and {name!r} would share the folder '{folder}': rename one")
        folders[number] = folder
    return folders


def _without_case(name: str) -> str:
    """Return the same text for names that some file systems do not distinguish."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
