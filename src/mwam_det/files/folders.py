"""Walks over folders that may contain links."""

from __future__ import annotations

import os
import warnings
from pathlib import Path


def list_files(folder: str | Path) -> list[str]:
    """List the files below a folder in order, without hidden files and folders.

    Links to folders are followed, but each folder is visited once, since links may form a circle. A folder is listed by
    its path without links if it has one, otherwise by its first link. Pipes and devices are not files; a broken link is
    listed, so that reading it fails. A folder that cannot be listed is left out with a warning.
    """
    found: list[str] = []
    seen: set[str] = set()
    folder = str(Path(folder))
    folders, links = [folder], list[str]()
    while folders or links:
        current = folders.pop() if folders else links.pop(links.index(min(links)))
        if (target := os.path.realpath(current)) in seen:
            continue
        seen.add(target)
        try:
            entries = [entry for entry in os.scandir(current) if not entry.name.startswith(".")]
        except OSError as error:
            if current != folder and os.path.basename(current) != "lost+found":
                warnings.warn(f"{current} cannot be listed, so its files are left out ({error})", stacklevel=2)
            continue
        parent = "" if current == os.curdir else current
        for entry in entries:
            path = os.path.join(parent, entry.name)
            if not entry.is_symlink():
                if entry.is_dir():
                    folders.append(path)
                elif entry.is_file():
                    found.append(path)
            elif os.path.isdir(path):
                links.append(path)
            elif os.path.isfile(path) or not os.path.exists(path):
                found.append(path)
    return sorted(found)
