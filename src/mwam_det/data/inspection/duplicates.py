"""Find files with the same bytes: in two splits, twice in one, or as both images of a pair."""

from __future__ import annotations

import filecmp
import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any


def same_files(
    files: Mapping[str, Sequence[str]], pairs: Sequence[int] | None = None
) -> dict[str, dict[str, list[int]]]:
    """Return the indices of pairs whose files have the same bytes, by modality and by each earlier one.

    Args:
        files: The files of each modality, for all pairs.
        pairs: Indices of the pairs to check; all by default.
    """
    names = list(files)
    pairs = range(len(files[names[0]])) if pairs is None else pairs
    return {
        name: {other: [i for i in pairs if _are_same(files[other][i], files[name][i])] for other in names[:index]}
        for index, name in enumerate(names)
    }


def _are_same(file: str, other: str) -> bool:
    return os.path.getsize(file) == os.path.getsize(other) and filecmp.cmp(file, other, shallow=False)


def repeated_files(files: Mapping[str, Iterable[str]]) -> dict[str, int]:
    """Count the files with the same bytes as another.

    Args:
        files: Files by split.

    Returns:
        Number of files by the splits in which their bytes occur, joined by ", ", like {"train, val": 3}: for several
        splits, each content once; within one split, each file after the first.
    """
    groups = [[(split, file) for split, of_split in files.items() for file in of_split]]
    for key in (os.path.getsize, _middle, _digest):  # uncompressed files all have one size, hence the middle
        groups = [same for group in groups for same in _grouped(group, key) if len(same) > 1]
    repeated: Counter[str] = Counter()
    for group in groups:
        among = sorted({split for split, _ in group}, key=list(files).index)
        repeated[", ".join(among)] += 1 if len(among) > 1 else len(group) - 1
    return dict(repeated)


def _grouped(files: Iterable[tuple[str, str]], key: Callable[[str], Any]) -> Collection[list[tuple[str, str]]]:
    """Group files, each with its split, by a property."""
    groups = defaultdict(list)
    for split, file in files:
        groups[key(file)].append((split, file))
    return groups.values()


def _middle(file: str) -> bytes:
    with open(file, "rb") as stream:
        stream.seek(os.path.getsize(file) // 2)
        return stream.read(4096)


def _digest(file: str) -> bytes:
    return hashlib.sha256(Path(file).read_bytes()).digest()
