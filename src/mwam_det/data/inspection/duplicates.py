"""Files that hold the same bytes: in two splits, twice in one, or as both images of a pair."""

from __future__ import annotations

import filecmp
import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path


def same_files(
    files: Mapping[str, Sequence[str]], pairs: Sequence[int] | None = None
) -> dict[str, dict[str, list[int]]]:
    """Find the pairs in which two modalities have files of the same bytes.

    Args:
        files: By modality, in order, its file of every pair.
        pairs: The numbers of the pairs to look at; all if left out.

    Returns:
        By modality and by each one before it, the numbers of these pairs.
    """
    names = list(files)
    pairs = range(len(files[names[0]])) if pairs is None else pairs
    return {
        name: {other: [i for i in pairs if _are_same(files[other][i], files[name][i])] for other in names[:place]}
        for place, name in enumerate(names)
    }


def _are_same(file: str, other: str) -> bool:
    return os.path.getsize(file) == os.path.getsize(other) and filecmp.cmp(file, other, shallow=False)


def repeated_files(files: Mapping[str, Iterable[str]]) -> dict[str, int]:
    """Count the files that hold the same bytes as another.

    Args:
        files: Files by split.

    Returns:
        Number of files by the splits in which their bytes occur, joined by ", ", like {"train, val": 3}: of those that
        several splits share, each content once; of those within one split, each file more than the first.
    """
    groups = defaultdict(list)
    for split, names in files.items():
        for name in names:
            groups[os.path.getsize(name)].append((split, name))
    repeated: Counter[str] = Counter()
    for size, same_size in groups.items():
        if len(same_size) < 2:
            continue
        probed = defaultdict(list)
        for split, name in same_size:  # uncompressed files are all of one size: look at a piece before at everything
            probed[_middle(name, size)].append((split, name))
        for candidates in probed.values():
            if len(candidates) < 2:
                continue
            contents = defaultdict(list)
            for split, name in candidates:
                contents[_digest(name)].append(split)
            for splits in contents.values():
                among = sorted(set(splits), key=list(files).index)
                if len(among) > 1:
                    repeated[", ".join(among)] += 1
                elif len(splits) > 1:
                    repeated[among[0]] += len(splits) - 1
    return dict(repeated)


def _middle(file: str, size: int) -> bytes:
    with open(file, "rb") as stream:
        stream.seek(size // 2)
        return stream.read(4096)


def _digest(file: str) -> bytes:
    return hashlib.sha256(Path(file).read_bytes()).digest()
