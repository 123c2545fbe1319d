"""Which images are partners: folders, or names of files, of which each is a modality."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from mwam_det.data.affixes import ADDED, HASH, find_namings, pattern_of
from mwam_det.data.drafting.survey import Survey, folders_of
from mwam_det.data.drafting.words import (
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
"""Which modality comes first: labels belong to that one, and its size is that of the pair."""

WHOLE = ""
"""The name of the only split of a set without folders of splits."""

MOST_MODALITIES = 5
SIMILAR = 0.2
"""An affix counts as one of a modality if it has at least this share of the files that the most frequent one has."""


@dataclass
class FoundModality:
    """One modality as it lies on the disk.

    Attributes:
        name: Its name in the recipe.
        template: Its folder below the root; the split is appended, or stands where it says "{split}".
        files: By split as it is called in the folders, the places of its images by stem below that folder. Where clips
            lie above the modalities, each is a split, called by its folders, like "set00/V000".
        naming: How its stems are made.
        is_named_by_word: Whether a word in its folder, or in the names of its files, says what it is.
    """

    name: str
    template: str
    files: dict[str, dict[str, str]]
    naming: Naming = ""
    is_named_by_word: bool = True

    def shared(self, split: str) -> dict[str, str]:
        """Return the places of its images in a split by what partners share of their stems."""
        return {
            shared_part(stem, self.naming): file
            for stem, file in self.files.get(split, {}).items()
            if has_naming(stem, self.naming)
        }


@dataclass
class Pairs:
    """All modalities of a set, and the pairs that they make.

    Attributes:
        modalities: The modalities, the first one first.
        keys: By split as it is called in the folders, what the partners of each complete pair share.
        ignored: Folders that were taken for no modality, for the user.
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
        """The number of complete pairs."""
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
            f"no pairs were found in {found.root}: partners have one name but for a beginning or an end, and lie in "
            f"folders called like modalities (visible, infrared), or carry it in their names. Folders with images: "
            f"{folders_of(found.images)}"
        )
    return max(complete, key=lambda pairs: (_named(pairs) >= 2, _named(pairs) >= 1, pairs.count))


def _named(pairs: Pairs) -> int:
    return sum(modality.name in ORDER for modality in pairs.modalities)


def order(modalities: list[FoundModality]) -> None:
    """Put modalities in the order of a recipe: the visible one, infrared, depth, and the others as they come."""
    modalities.sort(key=lambda m: ORDER.index(m.name) if m.name in ORDER else len(ORDER))


def _from_folders(images: Iterable[str], given: Iterable[str]) -> Pairs | None:
    """Take each of the folders that the user named for a modality."""
    by_folder = {folder: [file for file in images if file.startswith(f"{folder}/")] for folder in given}
    if any(not files for files in by_folder.values()):
        empty = next(folder for folder, files in by_folder.items() if not files)
        raise DatasetError(f"there is no image in {empty}")
    placed = {folder: _place(files, len(folder.split("/")) - 1) for folder, files in by_folder.items()}
    return _modalities({folder: (template, files) for folder, (template, files) in placed.items()})


def _by_folder(images: Iterable[str]) -> list[Pairs]:
    """Try every part of the paths as the one that names the modality."""
    groups: defaultdict[tuple[str, ...], defaultdict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for file in images:
        folders = file.split("/")[:-1]
        upto = 0
        if (split := split_of(folders)) is not None:
            folders[split.place], upto = split.template, split.place + 1
        for place, folder in enumerate(folders):
            key = tuple("*" if i == place else f for i, f in enumerate(folders[: max(place + 1, upto)]))
            groups[key][folder].append(file)
    found = []
    for key, by_name in groups.items():
        if not any(SPLIT in name for name in by_name if name != SPLIT):
            by_name.pop(SPLIT, None)  # a split, beside train_ir the visible modality
        chosen, ignored = _chosen(by_name)
        if 2 <= len(chosen) <= MOST_MODALITIES:
            placed = {name: _place(files, key.index("*")) for name, files in chosen.items()}
            pairs = _modalities(placed)
            if pairs is not None:
                pairs.ignored = ignored
                found.append(pairs)
    return found


def _by_clip(images: Iterable[str]) -> list[Pairs]:
    """Take folders that modalities are called by, below those of clips, for the modalities of all clips."""
    by_name: defaultdict[str, list[tuple[list[str], list[str]]]] = defaultdict(list)
    for file in images:
        parts = file.split("/")
        for place, folder in enumerate(parts[:-1]):
            if place and modality_of(folder) is not None:
                by_name[folder].append((parts[:place], parts[place + 1 :]))
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
    pairs = _modalities(placed)
    if pairs is not None:
        pairs.ignored = ignored
    return [] if pairs is None else [pairs]


def _chosen(by_name: Mapping[str, list[str]]) -> tuple[dict[str, list[str]], list[str]]:
    """Choose the folders beside each other that are modalities, and list the others."""
    named = {name: word for name in by_name if (word := modality_of(name)) is not None}
    if not named or len(by_name) == 2:
        return (dict(by_name), []) if len(by_name) == 2 else ({}, [])
    if len(set(named.values())) == 1 and len(named) > 1:  # near and far infrared, say
        return {name: by_name[name] for name in named}, sorted(by_name.keys() - named.keys())
    best: dict[str, str] = {}
    for name, word in named.items():
        if word not in best or len(by_name[name]) > len(by_name[best[word]]):
            best[word] = name
    return {name: by_name[name] for name in best.values()}, sorted(by_name.keys() - set(best.values()))


def _place(files: Iterable[str], at_least: int) -> tuple[str, dict[str, dict[str, str]]]:
    """Return the folder that files share, "{split}" in it if there is one, and the files by split and stem.

    Args:
        files: Their places.
        at_least: The part of the path that belongs to the folder in any case.
    """
    found = [(file.split("/"), split_of(file.split("/")[:-1])) for file in files]
    kind = Counter(None if split is None else (split.place, split.template) for _, split in found).most_common(1)[0][0]
    split_parts = [
        (parts, WHOLE if split is None else split.word)
        for parts, split in found
        if kind == (None if split is None else (split.place, split.template))
    ]
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
    if folders and folders[-1] == SPLIT:  # is appended by itself
        folders.pop()
    return "/".join(folders) or ".", dict(by_split)


def _modalities(placed: Mapping[str, tuple[str, dict[str, dict[str, str]]]]) -> Pairs | None:
    """Name modalities by their folders, and find how partners are called."""
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
        return None  # one has folders of splits, and the other has none
    return _with_namings(modalities)


def _names(words: Mapping[str, str | None]) -> dict[str, str]:
    """Return a name for each modality, given what its folder stands for."""
    names: dict[str, str] = {}
    for text, word in words.items():
        if word is not None and list(words.values()).count(word) == 1:
            names[text] = word
        else:
            names[text] = modality_name(PurePosixPath(text).name, set(names.values()))
    return names


def _with_namings(modalities: list[FoundModality]) -> Pairs:
    stems = {m.name: [f"{split}/{stem}" for split, files in m.files.items() for stem in files] for m in modalities}
    namings, _ = find_namings(stems)
    for modality in modalities:
        modality.naming = namings[modality.name]
    return Pairs(modalities)


def _by_affix(images: Iterable[str]) -> list[Pairs]:
    """Take images of one folder for several modalities, by the beginning or end of their names."""
    images = list(images)
    groups: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for file in images:
        folders = file.split("/")[:-1]
        if (split := split_of(folders)) is not None:
            folders[split.place] = split.template
        groups[tuple(folders)].append(file)
    sets = [images, max(groups.values(), key=len)] if len(groups) > 1 else [images]
    return [
        pairs
        for files in sets
        for affix_of, is_suffix in AFFIXES
        if (pairs := _parted(files, affix_of, is_suffix)) is not None
    ]


def _parted(files: Iterable[str], affix_of: Callable[[str], str], is_suffix: bool) -> Pairs | None:
    """Take images for several modalities by what `affix_of` returns of their names; None if that makes no pairs."""
    template, by_split = _place(files, -1)
    names = {stem: stem.rpartition("/")[2] for stems in by_split.values() for stem in stems}
    added = ADDED if all(map(HASH.fullmatch, names.values())) else ""
    parted: defaultdict[str, defaultdict[str, dict[str, str]]] = defaultdict(lambda: defaultdict(dict))
    for called, stems in by_split.items():
        for stem, file in stems.items():
            original = HASH.fullmatch(names[stem]) if added else None
            parted[affix_of(original[1] if original else names[stem])][called][stem] = file
    sizes = {affix: sum(map(len, of.values())) for affix, of in parted.items()}
    chosen = [affix for affix, size in sizes.items() if size >= SIMILAR * max(sizes.values())]
    if not 2 <= len(chosen) <= MOST_MODALITIES or (added and "" in chosen):
        return None
    words = {affix: modality_of_affix(affix) for affix in chosen}
    called_by = _names(words)
    modalities = [
        FoundModality(
            called_by[affix],
            template,
            dict(parted[affix]),
            _naming_of(affix, is_suffix, added),
            words[affix] is not None,
        )
        for affix in chosen
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
"""What tells modalities apart in names, by a function that returns it, and whether it is their end."""
