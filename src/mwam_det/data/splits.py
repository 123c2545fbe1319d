"""Values of the keys train, val and test of a data section: folders, text files that list images, or images.

A split consists of groups. In a resolved dataset it is the folder of each modality by name if it is one folder, else a
list of groups as mappings: "folders", a list of such folders by name, and "listed" if they select images in these
folders: text files with one path or stem per line, and images.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ultralytics.data.utils import IMG_FORMATS

from mwam_det.data.naming import NamesByEnd, Naming, in_other_split, shared_part, without_image_suffix
from mwam_det.files.paths import expanded

LIST_SUFFIX = ".txt"
SPLIT = "{split}"
SHOWN = 3
"""Number of images in the name of a split that lists them."""


@dataclass(frozen=True)
class Group:
    """Images of a split.

    Attributes:
        folders: The folder of every modality, and of "labels", by name; one mapping per location.
        listed: Text files and images that select images, or None for all in the folders.
    """

    folders: tuple[Mapping[str, str], ...]
    listed: tuple[str, ...] | None = None


def resolve_split(root: Path, templates: Mapping[str, str], value: Any) -> dict[str, str] | list[dict[str, Any]]:
    """Resolve the value of a split.

    Args:
        root: The dataset's folder.
        templates: Folder of every modality and of "labels" below it, the first modality first; the split is appended or
            replaces "{split}".
        value: Name of the split in the folders, a text file that lists images (below the dataset's folder, in that of
            the first modality, or anywhere), an image, or a list of these.

    Returns:
        The split of a resolved dataset; folders are absolute and need not exist.

    Raises:
        ValueError: If a value is invalid, or a text file is missing.
    """
    groups: list[Group] = []
    first = next(iter(templates.values()))
    for item in value if isinstance(value, list | tuple) else [value]:
        if isinstance(item, bool) or not isinstance(item, str | int | float):
            raise ValueError(f"{item!r} must name a folder, a text file that lists images, or an image")
        text = str(item)
        folders = {name: str(_folder(root, template, text)) for name, template in templates.items()}
        is_image = Path(text).suffix[1:].lower() in IMG_FORMATS
        if os.path.isdir(next(iter(folders.values()))) or not (is_image or _is_list(text)):
            groups.append(Group((folders,)))
            continue
        entry = _list_file(root, first, text) if _is_list(text) else text
        if groups and groups[-1].listed is not None:
            groups[-1] = Group(groups[-1].folders, (*groups[-1].listed, entry))
        else:
            groups.append(Group(_all_folders(root, templates), (entry,)))
    if len(groups) == 1 and groups[0].listed is None:
        return dict(groups[0].folders[0])
    return [
        {"folders": [dict(f) for f in group.folders], **({"listed": list(group.listed)} if group.listed else {})}
        for group in groups
    ]


def groups_of(split: Mapping[str, str] | Sequence[Mapping[str, Any]]) -> tuple[Group, ...]:
    """Read the groups of a split of a resolved dataset."""
    if isinstance(split, Mapping):
        return (Group((split,)),)
    return tuple(
        Group(tuple(group["folders"]), tuple(group["listed"]) if "listed" in group else None) for group in split
    )


def source_of(groups: Sequence[Group], first: str) -> str:
    """Return a name for a split by the source of its images: the folder of the modality `first`, if there is only one.

    Splits of one dataset have the same name only if they have the same images.
    """
    parts = []
    for group in groups:
        if group.listed is None:
            parts += [folders[first] for folders in group.folders]
        else:
            parts += filter(_is_list, group.listed)
            images = [entry for entry in group.listed if not _is_list(entry)]
            parts += images[:SHOWN]
            if len(images) > SHOWN:
                digest = hashlib.sha256("\n".join(images).encode()).hexdigest()[:8]
                parts.append(f"{len(images) - SHOWN} more images ({digest})")
    return ", ".join(parts)


def choose_listed(
    listed: Iterable[str], files: Mapping[str, str], naming: Naming, root: str | Path
) -> tuple[list[str], list[str]]:
    """Find the images named by lists.

    An entry is a path (absolute, or relative to its list, the dataset's folder, the folder of the images or the working
    directory), a stem, or a path of another machine or modality, which is found by its end.

    Args:
        listed: Text files with one entry per line, and images, which are entries themselves.
        files: Images of one modality, with the folder in which each was found.
        naming: Their naming.
        root: The dataset's folder.

    Returns:
        The images, each once, in the order of the lists; and the entries that name none.

    Raises:
        ValueError: If a list cannot be read; the message names it.
    """
    index = _Index(files, naming, root)
    chosen: dict[str, None] = {}
    unknown = []
    for entry, folder in _entries(listed):
        if (file := index.find(entry, [*([folder] if folder else []), str(root)])) is not None:
            chosen[file] = None
        else:
            unknown.append(entry)
    return list(chosen), unknown


def validation_part(names: Collection[str], seed: int, share: float) -> set[str]:
    """Draw the names for validation: the first share of the names ordered by a hash of seed and name."""
    ordered = sorted(names, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode(errors="replace")).digest())
    count = max(1, round(share * len(ordered)))  # no part is empty if possible
    return set(ordered[: min(count, len(ordered) - 1)]) if ordered else set()


class _Index:
    """Images by every name that a list may use."""

    def __init__(self, files: Mapping[str, str], naming: Naming, root: str | Path):
        self._by_path: defaultdict[str, list[str]] = defaultdict(list)
        self._folders = list(dict.fromkeys(files.values()))
        by_place: defaultdict[str, list[str]] = defaultdict(list)
        by_stem: defaultdict[str, list[str]] = defaultdict(list)
        by_shared: defaultdict[str, list[str]] = defaultdict(list)
        self._place: dict[str, str] = {}
        for file, folder in files.items():
            stem = without_image_suffix(Path(file).relative_to(folder).as_posix())
            below_root = Path(file).is_relative_to(root)
            self._place[file] = without_image_suffix(Path(file).relative_to(root if below_root else folder).as_posix())
            by_place[self._place[file]].append(file)
            by_stem[stem].append(file)
            by_shared[shared_part(stem, naming)].append(file)
            for path in {file, without_image_suffix(file)}:
                self._by_path[os.path.normpath(path)].append(file)
        self._by_name = [(names, NamesByEnd(names)) for names in (by_place, by_stem, by_shared)]

    def find(self, entry: str, bases: Iterable[str]) -> str | None:
        """Return the only image that an entry can mean, given the folders that it is first taken to be relative to."""
        path = entry.replace("\\", "/")
        for together in (*([base] for base in bases), self._folders, [os.getcwd()]):
            for spelling in (path, without_image_suffix(path)):
                places = [os.path.normpath(os.path.join(base, spelling)) for base in together]
                found = {file for place in places for file in self._by_path.get(place, [])}
                if len(found) == 1:
                    return found.pop()
        for names, ends in self._by_name:
            name = ends.find(path)
            if name is not None and len(names[name]) == 1 and not in_other_split(path, self._place[names[name][0]]):
                return names[name][0]
        return None


def _is_list(entry: str) -> bool:
    return entry.lower().endswith(LIST_SUFFIX)


def _entries(listed: Iterable[str]) -> Iterable[tuple[str, str | None]]:
    """Yield every entry, and the folder of its list if it comes from one."""
    for item in listed:
        if not _is_list(item):
            yield item, None
            continue
        try:
            lines = Path(item).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{item} cannot be read as a list of images ({error})") from None
        yield from ((line.strip(), os.path.dirname(item)) for line in lines if line.strip())


def _folder(root: Path, template: str, split: str) -> Path:
    folder = template.replace(SPLIT, split) if SPLIT in template else f"{template}/{split}"
    return (root / folder).resolve()


def _list_file(root: Path, first: str, text: str) -> str:
    """Return the absolute path of a text file that lists images."""
    paths = [(root / text).resolve(), _folder(root, first, text), expanded(text).resolve()]
    for path in paths:
        if path.is_file():
            return str(path)
    raise ValueError(f"there is no list of images {text}: looked for {', '.join(map(str, dict.fromkeys(paths)))}")


def _all_folders(root: Path, templates: Mapping[str, str]) -> tuple[dict[str, str], ...]:
    """Return the folders of all splits found: a list selects images of any of them."""
    first = next((template for template in templates.values() if SPLIT in template), None)
    if first is None:
        return ({name: str((root / template).resolve()) for name, template in templates.items()},)
    parts = str(root / first).split(SPLIT)
    pattern = re.compile("(.+)".join(map(re.escape, parts[:2])) + "".join(r"\1" + re.escape(p) for p in parts[2:]))
    paths = sorted(path for path in glob.glob("*".join(map(glob.escape, parts))) if os.path.isdir(path))
    words = [match[1] for path in paths if (match := pattern.fullmatch(path))]
    found = [{n: str((root / t.replace(SPLIT, word)).resolve()) for n, t in templates.items()} for word in words]
    complete = [folders for folders in found if all(map(os.path.isdir, folders.values()))]
    return tuple(complete or found or [{n: str(_folder(root, t, "*")) for n, t in templates.items()}])
