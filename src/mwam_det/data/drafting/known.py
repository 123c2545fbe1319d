"""Recognise published sets and exports of labelling tools, which must be converted first."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from mwam_det.data.affixes import HASH
from mwam_det.data.drafting.pairs import WHOLE, FoundModality, Pairs
from mwam_det.data.drafting.survey import Survey
from mwam_det.data.naming import SPLIT_WORDS, Naming
from mwam_det.data.section import SPLITS
from mwam_det.data.splits import SPLIT

PUBLISHED: dict[str, tuple[str, Callable[[set[str]], bool]]] = {
    "dronevehicle": (
        "DroneVehicle",
        lambda folders: any({f"{at}/{at}img", f"{at}/{at}imgr"} <= folders for at in SPLITS),
    ),
    "llvip": ("LLVIP", lambda folders: {"visible/train", "infrared/train", "Annotations"} <= folders),
    "flir": (
        "FLIR-aligned",
        lambda folders: any({f"{at}JPEGImages", f"{at}Annotations"} <= folders for at in ("", "align/")),
    ),
    "kaist": ("KAIST", lambda folders: _any(folders, r"(images/)?set\d\d/V\d\d\d/visible")),
    "m3fd": ("M3FD", lambda folders: {"Vis", "Ir", "Annotation"} <= folders),
    "vedai": ("VEDAI", lambda folders: _any(folders, r"Vehicules(512|1024)")),
}
"""Published sets: title, and a test of their folders."""

FLIR_LIST = "align_train.txt"
COCO_NAME = re.compile(r"[^/]*(coco|instances|annotations?|train|val|valid|test|labels)[^/]*\.json", re.IGNORECASE)
DEEPEST = 6
"""Depth of folders searched."""

HEAD = 4096
"""Bytes read to recognise a JSON."""


@dataclass(frozen=True)
class Known:
    """A recognised set for which no recipe can be written yet.

    Attributes:
        title: What it is.
        advice: What to do.
        command: The command that does it, or "" if there is none.
    """

    title: str
    advice: str
    command: str = ""


def recognise(found: Survey, pairs: Pairs | None) -> Known | None:
    """Recognise a set that `convert` reads, or labels of an unsupported kind; None for others.

    Args:
        found: Files of the folder.
        pairs: Its pairs, if any were found.
    """
    files = (*found.images, *found.others)
    folders = {"/".join(file.split("/")[:depth]) for file in files for depth in range(1, DEEPEST)}
    for at in ("", *sorted(folders, key=lambda folder: (folder.count("/"), folder))):  # archives add a folder
        below = {folder.removeprefix(f"{at}/") for folder in folders if folder.startswith(f"{at}/")} if at else folders
        for name, (title, fits) in PUBLISHED.items():
            has_lists = name != "flir" or any(file.endswith(FLIR_LIST) for file in found.others)
            if fits(below) and has_lists:
                return Known(f"{title} as published", "Convert it:", _convert(name, found, at=at))
    names = {_stem(image) for image in found.images}
    if pairs is not None:
        names |= {key.rpartition("/")[2] for keys in pairs.keys.values() for key in keys}
    if any(_last(file) == "annotations.xml" for file in found.others):
        return Known(
            "annotations of CVAT for images", "Export the task from CVAT again, as COCO 1.0 or as Ultralytics YOLO."
        )
    json_files = found.with_suffix(".json")
    coco = [file for file in json_files if COCO_NAME.fullmatch(_last(file)) and _stem(file) not in names]
    if coco := coco or [file for file in json_files if _stem(file) not in names and _is_coco(found.root / file)]:
        tool = "Roboflow" if any("_annotations.coco" in file for file in coco) else "CVAT and other tools"
        advice = "Convert it:" if pairs is not None else "Name the folders of RGB and infrared images, and convert it:"
        return Known(f"annotations in COCO's JSON, as exported by {tool}", advice, _convert_coco(coco, found, pairs))
    for suffix, title in ((".json", "annotations of labelme"), (".xml", "annotations in PASCAL VOC's XML")):
        if any(_stem(file) in names for file in found.with_suffix(suffix)):
            return Known(
                title, "Write them as YOLO's text files, or as COCO's JSON, which `mwam-det convert coco` reads."
            )
    return None


def _any(folders: set[str], pattern: str) -> bool:
    return any(re.fullmatch(pattern, folder) for folder in folders)


def _last(file: str) -> str:
    return file.rpartition("/")[2]


def _stem(file: str) -> str:
    return _last(file).rpartition(".")[0]


def _is_coco(file: Path) -> bool:
    """Return whether a JSON begins like COCO's, whose keys may come in any order."""
    try:
        with open(file, "rb") as stream:
            head = stream.read(HEAD)
    except OSError:
        return False
    return bool(re.match(rb'\s*(\xef\xbb\xbf)?{\s*"(images|annotations|categories|info|licenses)"\s*:', head))


def _convert(name: str, found: Survey, *options: str, at: str = "") -> str:
    folder = re.sub(r"[^\w.-]+", "-", found.root.name) or name
    target = Path("datasets", folder)
    if found.root in target.resolve().parents:  # conversion into the source is refused
        target = found.root.with_name(f"{folder}-converted")
    return shlex.join(["mwam-det", "convert", name, str(found.root / at), str(target), *options])


def _convert_coco(files: list[str], found: Survey, pairs: Pairs | None) -> str:
    """Return the command that converts COCO's JSON."""
    if pairs is None:
        return _convert("coco", found, "--json", _json_template(files), "--rgb", "FOLDER", "--ir", "FOLDER")
    first, second = pairs.modalities[:2]
    beside_first = [file for file in files if file.startswith(f"{first.template.split('/')[0]}/")]
    options = ["--json", _json_template(beside_first or files), "--rgb", _folder(first), "--ir", _folder(second)]
    expression = _expression((first, second))
    return _convert("coco", found, *options, *(["--match", expression] if expression else []))


def _json_template(files: Iterable[str]) -> str:
    """Return the name of the JSON with "{split}" for the split, or that of the only one."""
    files = list(files)
    words = "|".join(sorted(SPLIT_WORDS, key=len, reverse=True))
    templates = [
        re.sub(rf"(?<![A-Za-z])({words})(?![A-Za-z])", SPLIT, file, count=1, flags=re.IGNORECASE) for file in files
    ]
    best = max(templates, key=lambda template: templates.count(template) * (SPLIT in template))
    return best if SPLIT in best and len(files) > 1 else files[0]


def _folder(modality: FoundModality) -> str:
    """Return the folder of a modality for the option, to which nothing is appended."""
    has_splits = WHOLE not in modality.files and SPLIT not in modality.template
    return f"{modality.template}/{SPLIT}".removeprefix("./") if has_splits else modality.template


def _expression(modalities: Iterable[FoundModality]) -> str:
    """Return one regular expression for the names of all modalities, or "" if partners have the same name."""
    namings = [modality.naming for modality in modalities]
    if HASH in namings:
        return HASH.pattern
    before, after = (list(dict.fromkeys(side)) for side in zip(*map(_around, namings), strict=True))
    if not any((*before, *after)):
        return ""
    return f"{_one_of(before)}(.+?){_one_of(after)}"


def _around(naming: Naming) -> tuple[str, str]:
    """Return the expressions before and after the part that partners share."""
    before, _, after = ("", "", re.escape(naming)) if isinstance(naming, str) else naming.pattern.partition("(.+)")
    return before, after


def _one_of(expressions: list[str]) -> str:
    return f"(?:{'|'.join(sorted(expressions, key=len, reverse=True))})" if any(expressions) else ""
