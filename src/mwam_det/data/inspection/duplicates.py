"""Files that hold the same bytes: in two splits, twice in one, or as both images of a pair."""

from __future__ import annotations

import filecmp
import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from mwam_det.data.dataset import PairedDataset


def files_of(dataset: PairedDataset, modality: str) -> list[str]:
    """List the file of a modality for every pair."""
    return [dataset.partners[file][modality][0] for file in dataset.im_files]


def identical_partners(datasets: Iterable[PairedDataset], modality: str) -> list[str]:
    """List the files of the first modality whose partner holds the same bytes."""
    return [
        file
        for dataset in datasets
        for file, partner in zip(dataset.im_files, files_of(dataset, modality), strict=True)
        if os.path.getsize(file) == os.path.getsize(partner) and filecmp.cmp(file, partner, shallow=False)
    ]


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
