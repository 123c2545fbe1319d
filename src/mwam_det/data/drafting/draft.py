"""Write a recipe from the content of a folder, with the conclusions in sentences."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mwam_det.data.drafting.known import Known, recognise
from mwam_det.data.drafting.labels import Labels, find_labels, why_no_labels
from mwam_det.data.drafting.pairs import FoundModality, Pairs, find_pairs, order
from mwam_det.data.drafting.pixels import Values, look_at
from mwam_det.data.drafting.survey import Survey, survey
from mwam_det.data.drafting.words import is_label_word, split_of
from mwam_det.data.errors import DatasetError
from mwam_det.data.modality import VISIBLE_NAMES
from mwam_det.data.naming import SPLIT_WORDS
from mwam_det.data.section import SPLITS
from mwam_det.data.splits import choose_listed, validation_part

VAL_SHARE, SEED = 0.2, 0
"""Share of the pairs drawn for validation if there is no split, and the seed of the draw."""

ENOUGH_FOLDERS = 5
"""Number of folders from which whole folders are held out, since each is often one clip."""

SHOWN = 3
"""Number of unused files of class names that are named."""

SAME_SHAPE = 0.02
"""Largest relative difference of equal aspect ratios."""

MODELS = {
    "detect": "yolov8n.yaml",
    "obb": "yolov8n-obb.yaml",
    "segment": "yolov8n-seg.yaml",
    "semantic": "yolo26n-sem.yaml",
    "classify": "yolov8n-cls.yaml",
}
LARGEST_IMGSZ, SMALLEST_IMGSZ = 640, 64


@dataclass(frozen=True)
class Draft:
    """A recipe to be written, with its reasons.

    Attributes:
        recipe: Its text.
        lists: Texts to be written beside it, by name.
        conclusions: What was found, in sentences.
        doubts: What the user should check.
    """

    recipe: str
    lists: dict[str, str]
    conclusions: list[str]
    doubts: list[str] = field(default_factory=list)


def draft(folders: Sequence[str | Path], recipe: Path) -> Draft | Known:
    """Draft a recipe for folders, without writing it.

    Args:
        folders: One that holds everything, or one per modality, the first one first.
        recipe: File of the recipe; lists of images go beside it and begin with its name.

    Returns:
        The draft, or what the folder holds if it must be converted first.

    Raises:
        DatasetError: If there are no pairs, or no labels; the message says what was expected and found.
    """
    found = survey(folders)
    try:
        pairs = find_pairs(found)
    except DatasetError:
        if (known := recognise(found, None)) is not None:
            return known
        raise
    labels = find_labels(found, pairs)
    if all(each.task == "classify" for each in labels) and (known := recognise(found, pairs)) is not None:
        return known
    if not labels:
        raise DatasetError(_no_labels(found, pairs))
    values = {}
    for modality in pairs.modalities:
        seen = look_at(found.root, _all_files(modality), modality.name == "depth")
        if seen is None:
            raise DatasetError(f"no image of {modality.name} in {found.root} can be read")
        values[modality.name] = seen
    _name_the_visible(pairs, values)
    return _Writer(found, pairs, labels, values, recipe).draft()


def _no_labels(found: Survey, pairs: Pairs) -> str:
    first = pairs.modalities[0]
    split, keys = next(iter(pairs.keys.items()))
    return (
        f"{pairs.count} pairs were found in {found.root}, but no labels: expected YOLO's text files named like the "
        f"images ({keys[0]}.txt for {first.shared(split)[keys[0]]}), images of class numbers in a folder called labels "
        f"or masks, or folders of classes{why_no_labels(found, pairs)}"
    )


def _all_files(modality: FoundModality) -> list[str]:
    return [file for of_split in modality.files.values() for file in of_split.values()]


def _name_the_visible(pairs: Pairs, values: dict[str, Values]) -> None:
    """Name the only modality with colour rgb, unless a word names it."""
    names = [modality.name for modality in pairs.modalities]
    coloured = [name for name in names if values[name].colour]
    if len(coloured) == 1 and not any(name.lower() in VISIBLE_NAMES for name in names):
        modality = pairs.modalities[names.index(coloured[0])]
        if modality.is_named_by_word:
            return
        modality.name = "rgb"
        values["rgb"] = values.pop(coloured[0])
        order(pairs.modalities)


class _Writer:
    """Collects the findings and writes the draft."""

    def __init__(self, found: Survey, pairs: Pairs, labels: Sequence[Labels], values: dict[str, Values], recipe: Path):
        self.found, self.pairs, self.values, self.recipe = found, pairs, values, recipe
        self.labels, *self.other_labels = labels
        self.lists: dict[str, str] = {}
        self.conclusions: list[str] = []
        self.doubts: list[str] = []

    def draft(self) -> Draft:
        """Write the draft."""
        self._describe()
        splits = self._splits()
        names = [modality.name for modality in self.pairs.modalities]
        lines = [
            f"# Drafted by mwam-det init from {' '.join(str(self.found.root).split())}: look through it first.",
            f"task: {self.labels.task}",
            f"model: {MODELS[self.labels.task]}     # n, s, m, l or x; YOLO 3 to 26",
            "fusion: concat",
            "data:",
            f"  path: {_flow(str(self.found.root))}",
            f"  modalities: {_flow({m.name: m.template for m in self.pairs.modalities})}",
            *self._naming_lines(),
            *self._value_lines(),
            *self._label_lines(),
            *(f"  {split}: {_flow(place)}{note}" for split, (place, note) in splits.items()),
            *self._name_lines(),
            "mwam: true",
            "incomplete: {views: 2}     # each step also sees every sample with a modality missing",
            "train:",
            "  epochs: 100",
            f"  imgsz: {self._imgsz()}",
            "  batch: 16",
            "  nbs: 16          # step at every batch",
            "  optimizer: SGD",
            "  lr0: 0.01",
            "report: {split: val}",
        ]
        if not any(name.lower() in VISIBLE_NAMES for name in names):
            coloured = [name for name in names if self.values[name].colour]
            line = f"  visible: {coloured[0] if len(coloured) == 1 else 'null'}     # takes colour augmentation"
            lines.insert(lines.index("mwam: true"), line)
        return Draft("\n".join(lines) + "\n", self.lists, self.conclusions, self.doubts)

    def _splits(self) -> dict[str, tuple[Any, str]]:
        """Return the value and a comment for each split; draw splits if there are none."""
        words: defaultdict[str | None, list[str]] = defaultdict(list)
        for word in self.pairs.keys:
            words[_split_named(word)].append(word)
        if {"train", "val"} <= words.keys():
            self.conclusions.append(f"split: {self._counts(words)}, from the folders")
            return {split: (_one_or_all(words[split]), "") for split in SPLITS if split in words}
        if {"train", "test"} <= words.keys():
            self.conclusions.append(f"split: {self._counts(words)}; there is no val, so test is used to validate")
            train, test = (_one_or_all(words[split]) for split in ("train", "test"))
            return {"train": (train, ""), "val": (test, "     # there is no other")}
        if (listed := self._listed()) is not None:
            return listed
        if len(self.pairs.keys) > 1:
            return self._drawn_clips()
        first = self.pairs.modalities[0]
        files = {first.shared(split)[key] for split, keys in self.pairs.keys.items() for key in keys}
        clips = {file.rpartition("/")[0] for file in files}
        by_clip = len(clips) >= ENOUGH_FOLDERS
        drawn = validation_part(sorted(clips if by_clip else files), SEED, VAL_SHARE)
        val = {file for file in files if (file.rpartition("/")[0] if by_clip else file) in drawn}
        parts = {"train": sorted(files - val), "val": sorted(val)}
        if not parts["train"] or not parts["val"]:
            raise DatasetError(f"there is only one pair in {self.found.root}: training and validation need one each")
        values: dict[str, tuple[Any, str]] = {}
        for split, part in parts.items():
            name = f"{self.recipe.stem}-{split}.txt"
            self.lists[name] = "".join(f"{file}\n" for file in part)
            values[split] = str(self.recipe.with_name(name)), ""
        self.conclusions.append(
            f"split: none in the folders, so {len(parts['train']):,} pairs were drawn for train and "
            f"{len(parts['val']):,} for val (seed {SEED}); "
            + ("each folder is in one of them" if by_clip else "frames of one clip may be in both")
        )
        return values

    def _listed(self) -> dict[str, tuple[Any, str]] | None:
        """Return the text files of a folder that are named like splits and list images, if there are any."""
        first, root = self.pairs.modalities[0], self.found.root
        files = {str(root / file): str(root) for file in _all_files(first)}
        folders: defaultdict[str, dict[str, tuple[str, int]]] = defaultdict(dict)
        for text in self.found.with_suffix(".txt"):
            folder, _, name = text.rpartition("/")
            if (split := _split_named(name.rpartition(".")[0])) is not None:
                try:
                    chosen, unknown = choose_listed([str(root / text)], files, first.naming, root)
                except ValueError:
                    continue
                if len(chosen) > len(unknown):
                    folders[folder].setdefault(split, (text, len(chosen)))
        for lists in folders.values():
            if "train" in lists and (validation := next((split for split in ("val", "test") if split in lists), None)):
                counts = [f"{lists[split][1]:,} images in {lists[split][0]}" for split in SPLITS if split in lists]
                self.conclusions.append(f"split: {', '.join(counts)}")
                values: dict[str, tuple[Any, str]] = {s: (lists[s][0], "") for s in SPLITS if s in lists}
                return values | {"val": (lists[validation][0], "")}
        return None

    def _drawn_clips(self) -> dict[str, tuple[Any, str]]:
        """Split the folders of clips above the modalities."""
        clips = sorted(self.pairs.keys)
        drawn = validation_part(clips, SEED, VAL_SHARE)
        parts = {"train": [clip for clip in clips if clip not in drawn], "val": sorted(drawn)}
        counts = {split: sum(len(self.pairs.keys[clip]) for clip in part) for split, part in parts.items()}
        self.conclusions.append(
            f"split: none in the folders, so of {len(clips):,} clips {len(drawn):,} were drawn for val (seed {SEED}): "
            f"{counts['train']:,} pairs in train, {counts['val']:,} in val"
        )
        return {split: (_one_or_all(part), "") for split, part in parts.items()}

    def _counts(self, words: Mapping[str | None, Sequence[str]]) -> str:
        return ", ".join(
            f"{sum(len(self.pairs.keys[word]) for word in words[split]):,} pairs in "
            f"{words[split][0] if len(words[split]) == 1 else f'{len(words[split])} folders of {split}'}"
            for split in SPLITS
            if split in words
        )

    def _describe(self) -> None:
        """Report modalities, pairs and labels."""
        first = self.pairs.modalities[0]
        for modality in self.pairs.modalities:
            seen = self.values[modality.name]
            files, sizes = _all_files(modality), list(seen.sizes)
            self.conclusions.append(
                f"{modality.name}: {len(files):,} images in {modality.template}, {seen.format}, "
                f"{'in colour' if seen.colour else 'grey'}, {', '.join(sizes[:3])}{' …' * (len(sizes) > 3)}"
            )
            if (over := len(files) - self.pairs.count) > 0:
                self.doubts.append(f"{over:,} of {len(files):,} images of {modality.name} have no partner: left out")
            if seen.unreadable:
                self.doubts.append(f"{seen.unreadable} cannot be read")
            if seen.transparent:
                self.doubts.append(f"images of {modality.name} have a fourth channel, which is not used")
            (first_height, first_width), (height, width) = self.values[first.name].shape, seen.shape
            if abs(first_width / first_height * height / width - 1) > SAME_SHAPE:
                self.doubts.append(
                    f"{modality.name} has another aspect ratio than {first.name}: it is stretched to fit, unless the "
                    "key align maps it"
                )
        namings = {modality.naming for modality in self.pairs.modalities}
        by = "with the same name" if namings == {""} else "by the names that the recipe describes"
        self.conclusions.append(f"pairs: {self.pairs.count:,}, {by}")
        used = {file for modality in self.pairs.modalities for file in _all_files(modality)}
        if self.pairs.ignored:
            self.doubts.append(f"folders that are no modality: {', '.join(self.pairs.ignored)}")
        elif left := [f for f in self.found.images if f not in used and not any(map(is_label_word, f.split("/")[:-1]))]:
            self.doubts.append(f"{len(left):,} images lie elsewhere and are not used, like {left[0]}")
        labels = self.labels
        count = f"{len(labels.names)} class{'es' * (len(labels.names) > 1)}"
        if labels.template is None:
            self.conclusions.append(f"labels: the folder of each image, {count}")
        else:
            by = f"named in {labels.named_by}" if labels.named_by else "without names: add them to the recipe"
            self.conclusions.append(f"labels: {labels.kind} in {labels.template}, {count} {by}")
        for file, reason in list(labels.unused.items())[:SHOWN]:
            self.doubts.append(f"class names in {file} are not used: {reason}")
        if (more := len(labels.unused) - SHOWN) > 0:
            self.doubts.append(f"class names in {more:,} more files are not used either")
        if labels.files < self.pairs.count:
            self.doubts.append(f"{self.pairs.count - labels.files:,} of {self.pairs.count:,} pairs have no label file")
        for problem, example in labels.problems.items():
            self.doubts.append(f"some label files {problem}, like {example}")

    def _naming_lines(self) -> list[str]:
        suffixes = {m.name: m.naming for m in self.pairs.modalities if isinstance(m.naming, str) and m.naming}
        patterns = {m.name: m.naming.pattern for m in self.pairs.modalities if not isinstance(m.naming, str)}
        lines = [f"  suffix: {_flow(suffixes)}     # after the name that partners share"] if suffixes else []
        return lines + ([f"  match: {_flow(patterns)}     # brackets: what partners share"] if patterns else [])

    def _value_lines(self) -> list[str]:
        lines = []
        if bands := {name: list(seen.band) for name, seen in self.values.items() if seen.band is not None}:
            lines.append(
                f"  range: {_flow(bands)}     # become 0 and 255; files of {', '.join(bands)} have more than 8 bits"
            )
        if grey := {name: 1 for name, seen in self.values.items() if seen.format.endswith("1 channel")}:
            lines.append(
                f"  # channels: {_flow(grey)}     # would read grey as one channel instead of three equal ones"
            )
        return lines

    def _label_lines(self) -> list[str]:
        if self.labels.template is None:
            return []
        others = [f"{labels.template} ({labels.kind})" for labels in self.other_labels]
        return [f"  labels: {_flow(self.labels.template)}" + (f"     # or {', '.join(others)}" if others else "")]

    def _name_lines(self) -> list[str]:
        note = "" if self.labels.named_by or self.labels.template is None else "     # not found in a file: edit them"
        return [f"  names: {_flow(dict(enumerate(self.labels.names)))}{note}"]

    def _imgsz(self) -> int:
        longest = max(self.values[self.pairs.modalities[0].name].shape)
        return max(SMALLEST_IMGSZ, min(LARGEST_IMGSZ, -(-longest // 32) * 32))


def _split_named(word: str) -> str | None:
    """Return the split named by a word, or by a folder above a clip, if any."""
    named = split_of(word.split("/"))
    return None if named is None else SPLIT_WORDS[named.word.lower()]


def _one_or_all(words: Sequence[str]) -> str | list[str]:
    return words[0] if len(words) == 1 else list(words)


def _flow(value: Any) -> str:
    """Write a value as one line of YAML."""
    text = yaml.safe_dump([value], default_flow_style=True, allow_unicode=True, sort_keys=False, width=10**9)
    return text.strip()[1:-1]
