"""Walks over folders that people have put together from links."""

from __future__ import annotations

import os
from pathlib import Path


def list_files(folder: str | Path) -> list[str]:
    """List the files below a folder, in order; hidden ones and hidden folders are passed over.

    Linked folders are looked into, but each folder once: links may lead round in a circle, or to one place many times.
    Where a folder is reached without a link, that is its name, else the link that comes first. A pipe or a device is no
    file; a link to a file that is gone is one, so that it is missed when it is read.
    """
    found: list[str] = []
    seen: set[str] = set()
    folders, links = [str(Path(folder))], list[str]()
    while folders or links:
        place = folders.pop() if folders else links.pop(links.index(min(links)))
        if (target := os.path.realpath(place)) in seen:
            continue
        seen.add(target)
        try:
            entries = [entry for entry in os.scandir(place) if not entry.name.startswith(".")]
        except OSError:  # not ours to look into, like lost+found
            continue
        above = "" if place == os.curdir else place
        for entry in entries:
            path = os.path.join(above, entry.name)
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
