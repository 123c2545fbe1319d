"""The terms of a conversion: a format, the pairs it reads, and what it leaves out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mwam_det.data.conversion.offers import Option
from mwam_det.data.errors import DatasetError

EXAMPLES = 5
"""Number of examples given for each reason to leave something out."""

LONGEST_TEXT = 300
"""Longer reasons and examples, in characters, are cut: they hold names chosen by strangers."""

Crop = tuple[int, int, int, int] | None
"""The part of every image to keep, (top, bottom, left, right) in pixels; None for all of it."""

Points = tuple[tuple[float, float], ...]
"""Points (x, y) in pixels."""

Box = tuple[tuple[float, float], tuple[float, float]]
"""Two opposite corners (x, y) of a horizontal box, in pixels."""


class ConversionError(DatasetError):
    """A source cannot be converted, or not to this destination; the message says what to do."""


@dataclass(frozen=True)
class Label:
    """One object.

    Attributes:
        class_id: Its class, from 0.
        points: Corners of its outline (four for an oriented box) or two opposite corners of a horizontal box, in pixels
            of the image in the source.
    """

    class_id: int
    points: Points


@dataclass(frozen=True)
class SourcePair:
    """One image in all modalities, as found in the source.

    Attributes:
        split: "train", "val" or "test".
        stem: Name in the converted set, without suffix, unique in its split; may contain "/".
        images: Source file by modality, the first modality first.
        labels: Its objects.
        extras: Images to take over unchanged, by target folder, like {"masks": Path(…)}.
        size: (height, width) in pixels that the annotation states for its image, if any. Where the images differ in
            size, it tells which one is meant; without it, the first modality is.
    """

    split: str
    stem: str
    images: Mapping[str, Path]
    labels: Sequence[Label] = ()
    extras: Mapping[str, Path] = field(default_factory=dict)
    size: tuple[int, int] | None = None


class Report:
    """Counts what was left out and why, with examples, and collects notes.

    Attributes:
        notes: Sentences for the user.
        files: Text files to write beside conversion.json, content by name, like a drawn split.
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
        """Count and examples by reason, the most frequent reason first."""
        return {
            reason: {"count": count, "examples": self._examples[reason]} for reason, count in self._counts.most_common()
        }


@dataclass(frozen=True)
class Format:
    """How one dataset is published.

    Attributes:
        name: Name on the command line.
        title: Full name and layout, one line.
        modalities: Folder in the converted set by modality, the first modality first.
        read: Lists the pairs of a source: read(source, options, report). `options` has a value for every option.
            Raises `ConversionError` if the source is not of this format, naming what is missing.
        classes: Class names, or a function of source and options that returns them.
        outlines: Folder for outlines, such as "labels_obb", besides the horizontal boxes in "labels"; None for none.
        options: Options by name.
        expected: Number of pairs in the complete set by split, or a function of the options that returns it.
        crop: Part of every image to keep, or a function of the options. Labels are shifted with it.
        recipe: Its recipe in cfg/; None writes one to the converted set.
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


def printable(text: str) -> str:
    """Make a stranger's text safe to print and to encode: no control characters, limited length."""
    text = "".join(character if character.isprintable() else "�" for character in text)
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}…"
