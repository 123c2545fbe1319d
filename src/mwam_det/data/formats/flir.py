"""FLIR-aligned: driving by day and night, RGB warped onto thermal, both 640×512, three classes.

Source: Zhang et al., "Multispectral Fusion for Object Detection with Cyclic Fuse-and-Refine Blocks", ICIP 2020, and the
authors' archive, a selection from version 1 of Teledyne FLIR's thermal set for driver assistance:
`align/JPEGImages/FLIR_NNNNN_RGB.jpg` and `FLIR_NNNNN_PreviewData.jpeg` (thermal),
`align/Annotations/FLIR_NNNNN_PreviewData.xml` (VOC, drawn on the thermal image) and two lists,
`align/align_train.txt` and `align/align_validation.txt`, one `FLIR_NNNNN_PreviewData` per line: 4,129 and 1,013 pairs.
Copies differ: in some, the lists lie in `ImageSets/Main` or hold plain stems. `AnnotatedImages`, with boxes painted
into the images, is not read.

Classes are person, car and bicycle; the few dogs are left out, as in all published figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ultralytics.data.utils import IMG_FORMATS

from mwam_det.data.conversion.model import ConversionError, Format, Report, SourcePair
from mwam_det.data.conversion.offers import OFFERS
from mwam_det.data.conversion.untrusted import files_by_stem, read_lines, require_folders
from mwam_det.data.formats.voc import annotated_pair

LISTS = {"align_train.txt": "train", "align_validation.txt": "val"}
CLASSES = ("person", "car", "bicycle")
ENDINGS = {"rgb": "_RGB", "ir": "_PreviewData"}


def read(source: Path, options: Mapping[str, Any], report: Report) -> Iterator[SourcePair]:
    """List the pairs, see `mwam_det.data.conversion.model.Format.read`."""
    prefix = "align/" if (source / "align").is_dir() or not (source / "JPEGImages").is_dir() else ""
    require_folders(source, "FLIR-aligned as published", [f"{prefix}JPEGImages", f"{prefix}Annotations"])
    folder = source / prefix
    lists = {split: _find_list(folder, name) for name, split in LISTS.items()}
    files = files_by_stem(folder / "JPEGImages", IMG_FORMATS, "image", report)
    images = {
        name: {stem.removesuffix(ending): file for stem, file in files.items() if stem.endswith(ending)}
        for name, ending in ENDINGS.items()
    }
    annotations = files_by_stem(folder / "Annotations", {"xml"}, "annotation", report)
    seen: dict[str, str] = {}
    for split, file in lists.items():
        for stem in _stems(file):
            if stem in seen:
                report.leave_out("pair: listed before", f"{file}: {stem}, already in {seen[stem]}")
                continue
            seen[stem] = split
            annotation = annotations.get(f"{stem}{ENDINGS['ir']}")
            yield from annotated_pair(split, stem, images, annotation, CLASSES, report)
    for name, annotation in annotations.items():
        if _stem(name) not in seen:
            report.leave_out("annotation: in neither list", annotation)


def _find_list(folder: Path, name: str) -> Path:
    for file in (folder / name, folder / "ImageSets" / "Main" / name):
        if file.is_file():
            return file
    raise ConversionError(f"{folder} is not FLIR-aligned as published: there is no list {name} in it")


def _stems(file: Path) -> Iterator[str]:
    """Yield the names in a list, without folders and the endings of the files.

    Raises:
        ConversionError: If it cannot be read.
    """
    try:
        lines = read_lines(file)
    except ValueError as error:
        raise ConversionError(str(error)) from None
    for line in filter(None, map(str.strip, lines)):
        yield _stem(PurePosixPath(line.replace("\\", "/")).name)


def _stem(name: str) -> str:
    """Reduce FLIR_1, FLIR_1_RGB, FLIR_1_PreviewData.jpeg and the like to FLIR_1."""
    path = PurePosixPath(name)
    stem = path.stem if path.suffix[1:].lower() in {*IMG_FORMATS, "xml"} else path.name
    for ending in ENDINGS.values():
        stem = stem.removesuffix(ending)
    return stem


FLIR = Format(
    name="flir",
    **vars(OFFERS["flir"]),
    modalities={"rgb": "visible", "ir": "infrared"},
    read=read,
    classes=CLASSES,
    expected={"train": 4_129, "val": 1_013},
    recipe="detect/flir.yaml",
)
