"""What lies in a folder: images and other files, by their place."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ultralytics.data.utils import IMG_FORMATS

from mwam_det.data.errors import DatasetError
from mwam_det.files.folders import list_files


@dataclass(frozen=True)
class Survey:
    """The files of a folder, or of several.

    Attributes:
        root: The folder, or the one that holds them all.
        given: The folders below it that were named; one that is "." where it is one folder.
        images: Places of images below `root`, with "/" between the parts.
        others: Those of the other files.
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
        DatasetError: If one is no folder or lies in another, or there is no image.
    """
    places = [Path(folder).expanduser().resolve() for folder in folders]
    for place in places:
        if not place.is_dir():
            raise DatasetError(f"{place} is not a folder")
    for one in places:
        for other in places:
            if one is not other and (one == other or one in other.parents):
                raise DatasetError(f"{other} lies in {one}: name one of them, or folders beside each other")
    root = Path(os.path.commonpath(places))
    files = sorted(Path(file).relative_to(root).as_posix() for place in places for file in list_files(place))
    images = tuple(file for file in files if Path(file).suffix[1:].lower() in IMG_FORMATS)
    if not images:
        raise DatasetError(f"there is no image in {' or '.join(map(str, places))}")
    given = tuple(place.relative_to(root).as_posix() for place in places)
    return Survey(root, given, images, tuple(sorted(set(files) - set(images))))


def folders_of(files: Iterable[str], most: int = 8) -> str:
    """List the folders of files with the number of files in each, the fullest first."""
    counts = Counter(file.rpartition("/")[0] or "." for file in files)
    shown = [f"{folder} ({count:,})" for folder, count in counts.most_common(most)]
    return ", ".join([*shown, *(["…"] if len(counts) > most else [])])
