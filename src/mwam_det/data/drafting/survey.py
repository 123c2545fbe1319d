"""List the images and other files of folders."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

from ultralytics.data.utils import IMG_FORMATS

from mwam_det.data.errors import DatasetError
from mwam_det.files.folders import list_files
from mwam_det.files.paths import expanded


@dataclass(frozen=True)
class Survey:
    """The files of a folder, or of several.

    Attributes:
        root: The folder, or the common parent of several.
        given: The given folders relative to it; "." for a single one.
        images: Paths of images relative to `root`, with "/" as separator.
        others: Paths of the other files.
    """

    root: Path
    given: tuple[str, ...]
    images: tuple[str, ...]
    others: tuple[str, ...]

    def with_suffix(self, *suffixes: str) -> list[str]:
        """List the other files with one of these suffixes, like ".txt"."""
        return [file for file in self.others if Path(file).suffix.lower() in suffixes]


def survey(folders: Sequence[str | Path]) -> Survey:
    """List the files of folders.

    Raises:
        DatasetError: If one is not a folder or lies in another, or there is no image.
    """
    paths = [expanded(folder).resolve() for folder in folders]
    for path in paths:
        if not path.is_dir():
            raise DatasetError(f"{path} is not a folder")
    for outer, inner in permutations(paths, 2):
        if outer == inner or outer in inner.parents:
            raise DatasetError(f"{inner} lies in {outer}: name one of them, or separate folders")
    root = Path(os.path.commonpath(paths))
    files = sorted(Path(file).relative_to(root).as_posix() for path in paths for file in list_files(path))
    images = tuple(file for file in files if Path(file).suffix[1:].lower() in IMG_FORMATS)
    if not images:
        raise DatasetError(f"there is no image in {' or '.join(map(str, paths))}")
    given = tuple(path.relative_to(root).as_posix() for path in paths)
    return Survey(root, given, images, tuple(sorted(set(files) - set(images))))


def folders_of(files: Iterable[str]) -> str:
    """Return the folders of files with the number of files in each, the largest first, as text."""
    counts = Counter(file.rpartition("/")[0] or "." for file in files)
    shown = [f"{folder} ({count:,})" for folder, count in counts.most_common(8)]
    return ", ".join([*shown, *(["…"] if len(counts) > 8 else [])])
