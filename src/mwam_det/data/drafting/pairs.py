"""Find modalities, by folders or by names of files, and pair their images."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from mwam_det.data.affixes import ADDED, HASH, find_namings, pattern_of
from mwam_det.data.drafting.survey import Survey, folders_of
from mwam_det.data.drafting.words import (
    NamedSplit,
    is_label_word,
    modality_name,
    modality_of,
    modality_of_affix,
    split_of,
    word_at_beginning,
    word_at_end,
)
from mwam_det.data.errors import DatasetError
from mwam_det.data.naming import Naming, has_naming, shared_part
from mwam_det.data.splits import SPLIT

ORDER = ("rgb", "ir", "depth")
"""Order of modalities; labels belong to the first, which determines the size."""

WHOLE = ""
"""Name of the only split of a set without folders of splits."""

MOST_MODALITIES = 5
SIMILAR = 0.2
"""Minimum number of files of an affix, as a share of the most frequent one's, to count as a modality."""


@dataclass
class FoundModality:
    """One modality as found on disk.

    Attributes:
        name: Its name in the recipe.
        template: Its folder below the root; the split is appended, or replaces "{split}".
        files: By split as named in the folders, the paths of its images by stem below that folder. Clips above the
            modalities are splits, named by their folders, like "set00/V000".
        naming: Naming of its stems.
        is_named_by_word: Whether a word in its folder, or in the names of its files, identifies it.
    """

    name: str
    template: str
    files: dict[str, dict[str, str]]
    naming: Naming = ""
    is_named_by_word: bool = True

    def shared(self, split: str) -> dict[str, str]:
        """Return the paths of its images in a split by the part of their stems that partners share."""
        return {
            shared_part(stem, self.naming): file
            for stem, file in self.files.get(split, {}).items()
            if has_naming(stem, self.naming)
        }


@dataclass
class Pairs:
    """All modalities of a set, and their pairs.

    Attributes:
        modalities: The modalities, the first one first.
        keys: By split as named in the folders, the shared part of the names of each complete pair.
        ignored: Folders that are no modality.
    """

    modalities: list[FoundModality]
    keys: dict[str, list[str]] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)

    def __post_init__(self):
        order(self.modalities)
        splits = dict.fromkeys(split for modality in self.modalities for split in modality.files)
        for split in splits:
            sets = [modality.shared(split).keys() for modality in self.modalities]
            if keys := set.intersection(*map(set, sets)):
                self.keys[split] = sorted(keys)

    @property
    def count(self) -> int:
        """Number of complete pairs."""
        return sum(map(len, self.keys.values()))


def find_pairs(found: Survey) -> Pairs:
    """Find the modalities of a set and pair their images.

    Raises:
        DatasetError: If there are no pairs; the message says which folders hold images.
    """
    images = [file for file in found.images if not any(map(is_label_word, file.split("/")[:-1]))] or list(found.images)
    if len(found.given) > 1:
        candidates = [_from_folders(images, found.given)]
    else:
        candidates = [*_by_folder(images), *_by_clip(images), *_by_affix(images)]
    complete = [pairs for pairs in candidates if pairs is not None and pairs.count]
    if not complete:
        raise DatasetError(
            f"no pairs were found in {found.root}: partners have the same name, except for a prefix or suffix, and lie "
            "in folders named like modalities (visible, infrared), or have the modality in their names. Folders with "
            f"images: {folders_of(found.images)}"
        )
    return max(complete, key=lambda pairs: (_named(pairs) >= 2, _named(pairs) >= 1, pairs.count))


def _named(pairs: Pairs) -> int:
    return sum(modality.name in ORDER for modality in pairs.modalities)


def order(modalities: list[FoundModality]) -> None:
    """Sort modalities for a recipe: the visible one, infrared, depth, then the others."""
    modalities.sort(key=lambda m: ORDER.index(m.name) if m.name in ORDER else len(ORDER))


def _from_folders(images: Iterable[str], given: Iterable[str]) -> Pairs | None:
    """Take each of the user's folders for a modality."""
    by_folder = {folder: [file for file in images if file.startswith(f"{folder}/")] for folder in given}
    for folder, files in by_folder.items():
        if not files:
            raise DatasetError(f"there is no image in {folder}")
    return _modalities({folder: _place(files, len(folder.split("/")) - 1) for folder, files in by_folder.items()})


def _by_folder(images: Iterable[str]) -> list[Pairs]:
    """Try every part of the paths as the name of the modality."""
    groups: defaultdict[tuple[str, ...], defaultdict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for file in images:
        folders = file.split("/")[:-1]
        upto = 0
        if (split := split_of(folders)) is not None:
            folders[split.position], upto = split.template, split.position + 1
        for position, folder in enumerate(folders):
            key = tuple("*" if i == position else f for i, f in enumerate(folders[: max(position + 1, upto)]))
            groups[key][folder].append(file)
    found = []
    for key, by_name in groups.items():
        if not any(SPLIT in name for name in by_name if name != SPLIT):
            by_name.pop(SPLIT, None)  # a split; next to train_ir, the visible modality
        chosen, ignored = _chosen(by_name)
        if 2 <= len(chosen) <= MOST_MODALITIES:
            pairs = _modalities({name: _place(files, key.index("*")) for name, files in chosen.items()}, ignored)
            found += [] if pairs is None else [pairs]
    return found


def _by_clip(images: Iterable[str]) -> list[Pairs]:
    """Take folders named like modalities, below those of clips, for the modalities of all clips."""
    by_name: defaultdict[str, list[tuple[list[str], list[str]]]] = defaultdict(list)
    for file in images:
        parts = file.split("/")
        for position, folder in enumerate(parts[:-1]):
            if position and modality_of(folder) is not None:
                by_name[folder].append((parts[:position], parts[position + 1 :]))
    chosen, ignored = _chosen({name: ["/".join(above) for above, _ in files] for name, files in by_name.items()})
    clips = [above for name in chosen for above, _ in by_name[name]]
    if len(chosen) < 2 or len(set(map(tuple, clips))) < 2:
        return []
    shared = os.path.commonprefix(clips)
    if shared in clips:  # one clip lies above the others
        return []
    placed = {}
    for name in chosen:
        below = os.path.commonprefix([rest[:-1] for _, rest in by_name[name]])
        by_split: defaultdict[str, dict[str, str]] = defaultdict(dict)
        for above, rest in by_name[name]:
            stem = PurePosixPath("/".join(rest[len(below) :])).with_suffix("").as_posix()
            by_split["/".join(above[len(shared) :])][stem] = "/".join([*above, name, *rest])
        placed[name] = "/".join([*shared, SPLIT, name, *below]), dict(by_split)
    pairs = _modalities(placed, ignored)
    return [] if pairs is None else [pairs]


def _chosen(by_name: Mapping[str, list[str]]) -> tuple[dict[str, list[str]], list[str]]:
    """Choose those of sibling folders that are modalities, and list the others."""
    named = {name: word for name in by_name if (word := modality_of(name)) is not None}
    if not named or len(by_name) == 2:
        return (dict(by_name), []) if len(by_name) == 2 else ({}, [])
    if len(set(named.values())) == 1 and len(named) > 1:  # such as near and far infrared
        return {name: by_name[name] for name in named}, sorted(by_name.keys() - named.keys())
    best: dict[str, str] = {}
    for name, word in named.items():
        if word not in best or len(by_name[name]) > len(by_name[best[word]]):
            best[word] = name
    return {name: by_name[name] for name in best.values()}, sorted(by_name.keys() - set(best.values()))


def _place(files: Iterable[str], at_least: int) -> tuple[str, dict[str, dict[str, str]]]:
    """Return the common folder of files, with "{split}" in it if there is one, and the files by split and stem.

    Args:
        files: Their paths.
        at_least: Index of the part of the path that belongs to the folder in any case.
    """

    def kind_of(split: NamedSplit | None) -> tuple[int, str] | None:
        return None if split is None else (split.position, split.template)

    found = [(file.split("/"), split_of(file.split("/")[:-1])) for file in files]
    kind = Counter(kind_of(split) for _, split in found).most_common(1)[0][0]
    split_parts = [(parts, WHOLE if split is None else split.word) for parts, split in found if kind_of(split) == kind]
    upto = max(at_least, -1 if kind is None else kind[0]) + 1
    while (
        all(len(parts) > upto + 1 for parts, _ in split_parts) and len({parts[upto] for parts, _ in split_parts}) == 1
    ):
        upto += 1
    by_split: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for parts, word in split_parts:
        stem = PurePosixPath("/".join(parts[upto:])).with_suffix("").as_posix()
        by_split[word][stem] = "/".join(parts)
    folders = split_parts[0][0][:upto]
    if kind is not None:
        folders[kind[0]] = kind[1]
    if folders and folders[-1] == SPLIT:  # appended automatically
        folders.pop()
    return "/".join(folders) or ".", dict(by_split)


def _modalities(
    placed: Mapping[str, tuple[str, dict[str, dict[str, str]]]], ignored: Sequence[str] = ()
) -> Pairs | None:
    """Name modalities by their folders, and find the namings of partners."""
    words = {
        name: modality_of(name) or next(filter(None, map(modality_of, reversed(template.split("/")))), None)
        for name, (template, _) in placed.items()
    }
    names = _names(words)
    modalities = [
        FoundModality(names[name], template, files, is_named_by_word=words[name] is not None)
        for name, (template, files) in placed.items()
    ]
    if len({bool(WHOLE in modality.files) for modality in modalities}) > 1:
        return None  # only one has folders of splits
    namings, _ = find_namings(
        {m.name: [f"{split}/{stem}" for split, files in m.files.items() for stem in files] for m in modalities}
    )
    for modality in modalities:
        modality.naming = namings[modality.name]
    return Pairs(modalities, ignored=list(ignored))


def _names(words: Mapping[str, str | None]) -> dict[str, str]:
    """Return a name for each modality, given the word for its folder, if any."""
    names: dict[str, str] = {}
    for text, word in words.items():
        if word is not None and list(words.values()).count(word) == 1:
            names[text] = word
        else:
            names[text] = modality_name(PurePosixPath(text).name, set(names.values()))
    return names


def _by_affix(images: Iterable[str]) -> list[Pairs]:
    """Divide images of one folder into modalities by the prefix or suffix of their names."""
    images = list(images)
    groups: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for file in images:
        folders = file.split("/")[:-1]
        if (split := split_of(folders)) is not None:
            folders[split.position] = split.template
        groups[tuple(folders)].append(file)
    sets = [images, max(groups.values(), key=len)] if len(groups) > 1 else [images]
    return [
        pairs
        for files in sets
        for affix_of, is_suffix in AFFIXES
        if (pairs := _parted(files, affix_of, is_suffix)) is not None
    ]


def _parted(files: Iterable[str], affix_of: Callable[[str], str], is_suffix: bool) -> Pairs | None:
    """Divide images into modalities by `affix_of` their names; None if that yields no pairs."""
    template, by_split = _place(files, -1)
    names = {stem: stem.rpartition("/")[2] for stems in by_split.values() for stem in stems}
    added = ADDED if all(map(HASH.fullmatch, names.values())) else ""
    parted: defaultdict[str, defaultdict[str, dict[str, str]]] = defaultdict(lambda: defaultdict(dict))
    for split, stems in by_split.items():
        for stem, file in stems.items():
            original = HASH.fullmatch(names[stem]) if added else None
            parted[affix_of(original[1] if original else names[stem])][split][stem] = file
    sizes = {affix: sum(map(len, of_affix.values())) for affix, of_affix in parted.items()}
    chosen = [affix for affix, size in sizes.items() if size >= SIMILAR * max(sizes.values())]
    if not 2 <= len(chosen) <= MOST_MODALITIES or (added and "" in chosen):
        return None
    words = {affix: modality_of_affix(affix) for affix in chosen}
    modalities = [
        FoundModality(name, template, dict(parted[affix]), _naming_of(affix, is_suffix, added), bool(words[affix]))
        for affix, name in _names(words).items()
    ]
    pairs = Pairs(modalities)
    return pairs if pairs.count >= SIMILAR * max(sizes.values()) else None


def _naming_of(affix: str, is_suffix: bool, added: str) -> Naming:
    if is_suffix:
        return pattern_of("", affix, added) if added else affix
    return pattern_of(affix, "", added) if affix or added else ""


def _end(name: str) -> str:
    match = re.fullmatch(r".*?([ _.-]+[A-Za-z]+\d?)", name)
    return match[1] if match else ""


def _beginning(name: str) -> str:
    match = re.match(r"[A-Za-z]+\d?[ _.-]+", name)
    return match[0] if match else ""


AFFIXES: tuple[tuple[Callable[[str], str], bool], ...] = (
    (_end, True),
    (_beginning, False),
    (word_at_end, True),
    (word_at_beginning, False),
)
"""Functions that return the affix of a name that may distinguish modalities, and whether it is a suffix."""
