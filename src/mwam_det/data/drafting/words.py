"""What people call modalities, labels and splits in names of folders and files."""

from __future__ import annotations

import re

from mwam_det.data.names import check_modality_names
from mwam_det.data.naming import SPLIT_WORDS

MODALITY_WORDS = {
    **dict.fromkeys(("rgb", "visible", "vis", "vi", "color", "colour", "visual", "optical", "eo"), "rgb"),
    **dict.fromkeys(("ir", "infrared", "thermal", "therm", "tir", "lwir", "mwir", "swir", "nir", "fir"), "ir"),
    **dict.fromkeys(("depth", "disparity"), "depth"),
    **{word: word for word in ("hha", "event", "events", "sar", "lidar", "radar", "uv", "flow")},
}
"""Words in names of folders, and the name of the modality that each stands for."""

AFFIX_WORDS = {
    **MODALITY_WORDS,
    **dict.fromkeys(("co", "c", "w", "v", "zoom", "wide"), "rgb"),
    **dict.fromkeys(("t", "i", "previewdata", "r"), "ir"),
    "d": "depth",
}
"""The same at the beginning or end of names of files, where single letters are meant so, too."""

LABEL_WORDS = (
    *("label", "labels", "annotation", "annotations", "mask", "masks", "gt", "groundtruth", "seg", "segmentation"),
    *("semantic", "box", "boxes", "bbox", "bboxes", "obb", "txt", "xml", "anno", "annos"),
)


def words_of(name: str) -> list[str]:
    """Split a name into its words, in lower case: "RGB_images" and "rgbImages" into "rgb" and "images"."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_a-zA-Z]+|\d+", name)]


def modality_of(name: str) -> str | None:
    """Return the modality that a name of a folder stands for; None if it names none, or several."""
    found = {MODALITY_WORDS[word] for word in words_of(name) if word in MODALITY_WORDS}
    return found.pop() if len(found) == 1 else None


def modality_of_affix(affix: str) -> str | None:
    """Return the modality that the beginning or end of names of files stands for."""
    words = words_of(affix)
    return AFFIX_WORDS.get("".join(words)) or AFFIX_WORDS.get(words[0] if len(words) == 1 else "")


def is_label_word(name: str) -> bool:
    """Return whether a folder is called like one of labels."""
    return any(word in LABEL_WORDS for word in words_of(name))


def split_place(folders: list[str]) -> int | None:
    """Return which of the folders above a file is called like a split, the first one; None if none is."""
    return next((place for place, folder in enumerate(folders) if folder.lower() in SPLIT_WORDS), None)


def modality_name(text: str, taken: set[str]) -> str:
    """Make a name for a modality out of a text that may hold anything."""
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
