"""What the names of partners share: all of it, all but a suffix of each modality, or the group of a regular expression.

A name here is a stem, the path of a file below its folder without the file extension, like "night/0001_ir".
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

from ultralytics.data.utils import IMG_FORMATS

SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""What folders of splits are called, in lower case, and which split that is."""

Naming = str | re.Pattern[str]
"""How the names of a modality are made: a suffix behind the shared part, or a pattern whose group is that part."""


def match_pattern(text: str) -> re.Pattern[str]:
    """Compile a regular expression that has one group.

    Raises:
        ValueError: If it is no regular expression, or has another number of groups.
    """
    try:
        pattern = re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"is no regular expression ({error})") from None
    if pattern.groups != 1:
        raise ValueError(f"has {pattern.groups} groups: put one pair of brackets around what partners share, like (.+)")
    return pattern


def has_naming(stem: str, naming: Naming) -> bool:
    """Return whether a name can be one of a modality. Its last part counts; what is shared may not be empty."""
    name = stem.rpartition("/")[2]
    if isinstance(naming, str):
        return name.endswith(naming) and name != naming
    return bool((match := naming.fullmatch(name)) and match[1])


def shared_part(stem: str, naming: Naming) -> str:
    """Return what partners share of a name of which `has_naming` is true: its folders, and a part of the last one."""
    folder, slash, name = stem.rpartition("/")
    if isinstance(naming, str):
        return f"{folder}{slash}{name.removesuffix(naming)}"
    match = naming.fullmatch(name)
    return stem if match is None else f"{folder}{slash}{match[1]}"


def without_image_suffix(path: str) -> str:
    """Return a path with "/" between its parts and without the file extension, if that is one of images."""
    path = path.replace("\\", "/")
    stem, dot, suffix = path.rpartition(".")
    return stem if dot and suffix.lower() in IMG_FORMATS else path


class NamesByEnd:
    """Names below a folder, to be found by paths that people wrote elsewhere.

    Args:
        names: Stems, like "night/0001".
    """

    def __init__(self, names: Iterable[str]):
        self._names = set(names)
        self._by_last_part: defaultdict[str, list[str]] = defaultdict(list)
        for name in self._names:
            self._by_last_part[name.rpartition("/")[2]].append(name)

    def find(self, path: str) -> str | None:
        r"""Find the name that a path means: the longest end of it that is a name, or the only name of its last part.

        Args:
            path: Like "/home/ann/set/night/0001.jpg" or "C:\\set\\0001.png", with or without the file extension.

        Returns:
            The name; None if there is none, if several have that last part, or if the only one lies in the folder of
            another split than the path does.
        """
        parts = [part for part in without_image_suffix(path).split("/") if part not in ("", ".")]
        for start in range(len(parts)):
            if (end := "/".join(parts[start:])) in self._names:
                return end
        same = self._by_last_part.get(parts[-1], []) if parts else []
        if len(same) != 1:
            return None
        splits = [{SPLIT_WORDS[part] for part in of if part in SPLIT_WORDS} for of in (parts, same[0].split("/"))]
        return None if splits[0] and splits[1] and splits[0] != splits[1] else same[0]
