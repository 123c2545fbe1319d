"""The part of a name that partners share: all, all but a suffix of each modality, or the group of a regular expression.

A name here is a stem, the path of a file below its folder without the file extension, like "night/0001_ir".
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from ultralytics.data.utils import IMG_FORMATS

SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Split by the name of its folder, in lower case."""

Naming = str | re.Pattern[str]
"""The names of a modality: a suffix after the shared part, or a pattern whose group is the shared part."""


def match_pattern(text: str) -> re.Pattern[str]:
    """Compile a regular expression that has one group.

    Raises:
        ValueError: If it is not a regular expression, or has not one group.
    """
    try:
        pattern = re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"is not a regular expression ({error})") from None
    if pattern.groups != 1:
        raise ValueError(f"has {pattern.groups} groups: put one pair of brackets around what partners share, like (.+)")
    return pattern


def has_naming(stem: str, naming: Naming) -> bool:
    """Return whether the last part of a stem fits a naming, with a non-empty shared part."""
    name = stem.rpartition("/")[2]
    if isinstance(naming, str):
        return name.endswith(naming) and name != naming
    return bool((match := naming.fullmatch(name)) and match[1])


def shared_part(stem: str, naming: Naming) -> str:
    """Return the shared part of a stem for which `has_naming` is true, including its folders."""
    folder, slash, name = stem.rpartition("/")
    if isinstance(naming, str):
        return f"{folder}{slash}{name.removesuffix(naming)}"
    match = naming.fullmatch(name)
    return stem if match is None else f"{folder}{slash}{match[1]}"


def without_image_suffix(path: str) -> str:
    """Return a path with "/" as separator and without the extension of an image."""
    path = path.replace("\\", "/")
    stem, dot, suffix = path.rpartition(".")
    return stem if dot and suffix.lower() in IMG_FORMATS else path


def in_other_split(path: str, other: str) -> bool:
    """Return whether the innermost folders of splits in two paths, with "/" as separator, are of different splits."""
    splits = [
        next((SPLIT_WORDS[part] for part in reversed(each.lower().split("/")) if part in SPLIT_WORDS), None)
        for each in (path, other)
    ]
    return None not in splits and splits[0] != splits[1]


class NamesByEnd:
    """Names below a folder, found by paths written on other machines.

    Args:
        names: Stems, like "night/0001".
    """

    def __init__(self, names: Iterable[str]):
        self._names = set(names)
        self._by_last_part: defaultdict[str, list[str]] = defaultdict(list)
        for name in self._names:
            self._by_last_part[name.rpartition("/")[2]].append(name)

    def find(self, path: str) -> str | None:
        r"""Return the longest end of a path that is a name, or else the only name with the same last part.

        The latter must lie in folders that the path has, too: of "night/0001" and "day/0001" one may be missing. The
        folders of splits do not count, as sets are often split afterwards.

        Args:
            path: Like "/home/ann/set/night/0001.jpg" or "C:\\set\\0001.png", with or without the file extension.

        Returns:
            The name; None if there is none, several have that last part, or the only one lies in a folder that the path
            lacks, letters of either case being the same, or in that of another split.
        """
        parts = [part for part in without_image_suffix(path).split("/") if part not in ("", ".")]
        for start in range(len(parts)):
            if (end := "/".join(parts[start:])) in self._names:
                return end
        same = self._by_last_part.get(parts[-1], []) if parts else []
        if len(same) != 1 or in_other_split("/".join(parts), same[0]):
            return None
        stated, actual = map(_folders, (parts, same[0].split("/")))
        left = iter(stated)
        return same[0] if not stated or all(folder in left for folder in actual) else None  # all, in this order


def _folders(parts: Sequence[str]) -> list[str]:
    """Return the folders of a path to compare with others: in lower case, without those of splits."""
    return [folder for folder in map(str.lower, parts[:-1]) if folder not in SPLIT_WORDS]
