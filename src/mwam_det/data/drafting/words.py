"""Common words for modalities, labels and splits in names of folders and files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from mwam_det.data.names import check_modality_names
from mwam_det.data.naming import SPLIT_WORDS
from mwam_det.data.splits import SPLIT

MODALITY_WORDS = {
    **dict.fromkeys(("rgb", "visible", "vis", "vi", "color", "colour", "visual", "optical", "eo"), "rgb"),
    **dict.fromkeys(("ir", "infrared", "thermal", "therm", "tir", "lwir", "mwir", "swir", "nir", "fir", "imgr"), "ir"),
    **dict.fromkeys(("depth", "disparity"), "depth"),
    **{word: word for word in ("hha", "event", "events", "sar", "lidar", "radar", "uv", "flow")},
}
"""Name of the modality by words in names of folders."""

AFFIX_WORDS = {
    **MODALITY_WORDS,
    **dict.fromkeys(("co", "c", "w", "v", "zoom", "wide"), "rgb"),
    **dict.fromkeys(("t", "i", "previewdata", "r"), "ir"),
    "d": "depth",
}
"""The same for prefixes and suffixes of files, which may be single letters."""

LABEL_WORDS = (
    *("label", "labels", "annotation", "annotations", "annotated", "mask", "masks", "gt", "groundtruth", "seg"),
    *("segmentation", "semantic", "box", "boxes", "bbox", "bboxes", "obb", "txt", "xml", "anno", "annos"),
)

WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_a-zA-Z]+|\d+")
SEPARATORS = " _.-"

_SPLIT_WORDS = "|".join(sorted(SPLIT_WORDS, key=len, reverse=True))
_SPLIT_IN = re.compile(
    rf"(?<![A-Za-z])((?i:{_SPLIT_WORDS}))(?![a-z])"
    r"|^(train|val|test)(?=(?:img|label)r?$)"  # DroneVehicle's
)


def words_of(name: str) -> list[str]:
    """Split a name into its words, in lower case: "RGB_images" and "rgbImages" into "rgb" and "images"."""
    return [word.lower() for word in WORD.findall(name)]


def modality_of(name: str) -> str | None:
    """Return the modality named by a folder; None if there is none, or several."""
    found = {MODALITY_WORDS[word] for word in words_of(name) if word in MODALITY_WORDS}
    return found.pop() if len(found) == 1 else None


def modality_of_affix(affix: str) -> str | None:
    """Return the modality named by a prefix or suffix of files, if any."""
    return AFFIX_WORDS.get("".join(words_of(affix))) or modality_of(affix)


def is_label_word(name: str) -> bool:
    """Return whether a folder is named like one of labels."""
    return any(word in LABEL_WORDS for word in words_of(name))


class NamedSplit(NamedTuple):
    """The split named by a folder above a file.

    Attributes:
        position: Index of the folder, from 0.
        word: Its word for the split, like "train".
        template: The folder's name with "{split}" in place of the word, like "{split}2017".
    """

    position: int
    word: str
    template: str


def split_of(folders: Sequence[str]) -> NamedSplit | None:
    """Return the split of a file, by the first folder above it that is, or else contains, a word for a split."""
    for position, folder in enumerate(folders):
        if folder.lower() in SPLIT_WORDS:
            return NamedSplit(position, folder, SPLIT)
    for position, folder in enumerate(folders):
        found = list(_SPLIT_IN.finditer(folder))
        if len(found) == 1:
            start, end = found[0].span()
            return NamedSplit(position, found[0][0], f"{folder[:start]}{SPLIT}{folder[end:]}")
    return None


def word_at_end(name: str) -> str:
    """Return the end of a name from its last word for a modality, with the separators before it; "" if it has none."""
    found = [match for match in WORD.finditer(name) if match[0].lower() in MODALITY_WORDS]
    return name[len(name[: found[-1].start()].rstrip(SEPARATORS)) :] if found else ""


def word_at_beginning(name: str) -> str:
    """Return a name up to its first word for a modality, with the separators after it; "" if it has none."""
    found = next((match for match in WORD.finditer(name) if match[0].lower() in MODALITY_WORDS), None)
    return "" if found is None else name[: len(name) - len(name[found.end() :].lstrip(SEPARATORS))]


def modality_name(text: str, taken: set[str]) -> str:
    """Return an unused, valid name for a modality from any text."""
    name = re.sub(r"\W+", "_", text).strip("_")[:40]
    name = name if re.match(r"[^\W\d_]", name) else f"m_{name}"
    for candidate in (name, f"{name}_images", *(f"modality{number}" for number in range(1, 100))):
        try:
            check_modality_names([*taken, candidate])
        except ValueError:
            continue
        if candidate not in taken:
            return candidate
    raise ValueError(f"no name for the modality of {text!r}")
