"""What a conversion is: a format, the samples that it reads, and what it leaves out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mwam_det.data.conversion.offers import Option
from mwam_det.data.errors import DatasetError

EXAMPLES = 5
"""So many examples are given for each reason to leave something out."""

LONGEST_TEXT = 300
"""Longer reasons and examples, in characters, are cut: they hold names that strangers chose."""

Crop = tuple[int, int, int, int] | None
"""The part of every image that is kept, (top, bottom, left, right) in pixels; None for all of it."""


class ConversionError(DatasetError):
    """A source cannot be converted, or not to this place; the message says what to do."""


@dataclass(frozen=True)
class Label:
    """One object.

    Attributes:
        class_id: Its class, from 0.
        points: Corners of its outline (four for an oriented box) or two opposite corners of a horizontal box, shape
            (N, 2) as nested tuples, (x, y) in pixels of the image in the source.
    """

    class_id: int
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class SourcePair:
    """One image in all modalities, as the source holds it.

    Attributes:
        split: "train", "val" or "test".
        stem: Name in the converted set, without suffix, unique in its split; may contain "/".
        images: Its file in the source by modality, the first modality first.
        labels: Its objects.
        extras: Images that are taken over as they are, by the folder that they go to, like {"masks": Path(…)}.
        size: (height, width) of the image that the labels are for, in pixels, if the annotation states it. Where the
            images differ in size, it tells which of them is meant; without it, the first modality is.
    """

    split: str
    stem: str
    images: Mapping[str, Path]
    labels: Sequence[Label] = ()
    extras: Mapping[str, Path] = field(default_factory=dict)
    size: tuple[int, int] | None = None


class Report:
    """Counts what was left out and why, with a few examples, and what to tell the user besides.

    Attributes:
        notes: Sentences for the user.
        files: Text files to write beside conversion.json, content by name, like a split that was drawn.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.files: dict[str, str] = {}
        self._counts: Counter[str] = Counter()
        self._examples: defaultdict[str, list[str]] = defaultdict(list)

    def leave_out(self, reason: str, what: object, count: int = 1) -> None:
        """Count something that is left out, like ("box: class '*'", file)."""
        reason, example = printable(reason), printable(str(what))
        self._counts[reason] += count
        if len(self._examples[reason]) < EXAMPLES and example not in self._examples[reason]:
            self._examples[reason].append(example)

    @property
    def left_out(self) -> dict[str, dict[str, Any]]:
        """Number and examples by reason, the most frequent reason first."""
        return {
            reason: {"count": count, "examples": self._examples[reason]} for reason, count in self._counts.most_common()
        }


@dataclass(frozen=True)
class Format:
    """How one dataset is published.

    Attributes:
        name: What the user calls it.
        title: Full name and source, one line.
        modalities: Folder in the converted set by modality, the first modality first.
        read: Lists the samples of a source: read(source, options, report). `options` has a value for every option.
            Raises `ConversionError` if the source is not of this format, naming what was looked for.
        classes: Class names, or a function of source and options that lists them.
        outlines: Where outlines go besides the horizontal boxes in "labels": a folder such as "labels_obb", or None.
        options: Options by name.
        expected: Pairs that the complete set has by split, or a function of the options that tells them.
        crop: Part of every image that is kept, or a function of the options. Labels are shifted with it.
        recipe: Recipe in cfg/ that belongs to it, or None: then one is written to the converted set.
        data: More keys of the data section that is written then.
    """

    name: str
    title: str
    modalities: Mapping[str, str]
    read: Callable[[Path, Mapping[str, Any], Report], Iterable[SourcePair]]
    classes: Sequence[str] | Callable[[Path, Mapping[str, Any]], Sequence[str]]
    outlines: str | None = None
    options: Mapping[str, Option] = field(default_factory=dict)
    expected: Mapping[str, int] | Callable[[Mapping[str, Any]], Mapping[str, int]] = field(default_factory=dict)
    crop: Crop | Callable[[Mapping[str, Any]], Crop] = None
    recipe: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


def printable(text: str) -> str:
    """Make a stranger's text safe to print and to encode: no control characters, no endless names."""
    text = "".join(character if character.isprintable() else "�" for character in text)
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}…"
