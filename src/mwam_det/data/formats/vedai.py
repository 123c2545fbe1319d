"""VEDAI: vehicles from above, colour and near infrared, aligned, 512×512 or 1024×1024, oriented boxes.

Source: Razakarivony and Jurie, "Vehicle detection in aerial imagery: A small target detection benchmark", Journal of
Visual Communication and Image Representation 2016, and the authors' archives, unpacked side by side:
`Vehicules1024/NNNNNNNN_co.png` (colour) and `_ir.png` (near infrared), `Annotations1024/NNNNNNNN.txt` and the lists
`Annotations1024/fold01.txt` … `fold10.txt` and `fold01test.txt` … `fold10test.txt`. The archives with 512 hold the same
scenes at half the resolution.

An annotation has one line per object with 14 columns: x and y of the centre, orientation, class number, whether the
object is entirely in the image, whether it is occluded, x of the four corners, y of the four corners. An empty file is
an image without a vehicle. (annotation1024.txt in the same folder, all objects in other columns, is not read.) All
objects whose centre is in the image are kept, whatever their flags. Corners are clipped to the image, see
`mwam_det.data.formats.dronevehicle`.

A fold has 1,089 images for training and 121 for testing, here "train" and "val". Images in neither list of the fold are
left out. The paper reports the mean over the ten folds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mwam_det.data.conversion.model import ConversionError, Format, Label, Report, SourcePair
from mwam_det.data.conversion.offers import OFFERS
from mwam_det.data.conversion.untrusted import files_by_stem, number, read_lines

CLASS_NAMES = {
    1: "car",
    2: "truck",
    4: "tractor",
    5: "camping car",
    7: "motorcycle",
    8: "bus",
    9: "van",
    10: "other",
    11: "pickup",
    23: "boat",
    31: "plane",
}
"""Class names by number in the annotations; the converted set numbers them from 0 in this order."""

CLASS_NUMBERS = tuple(CLASS_NAMES)
COLUMNS = 14
SIZES = OFFERS["vedai"].options["size"].choices


def read(source: Path, options: Mapping[str, Any], report: Report) -> Iterator[SourcePair]:
    """List the pairs, see `mwam_det.data.conversion.model.Format.read`."""
    images, annotations = _folders(source, options["size"])
    lists = {"train": f"fold{options['fold']:02}.txt", "val": f"fold{options['fold']:02}test.txt"}
    stems = {split: _stems(annotations / name, report) for split, name in lists.items()}
    if both := stems["train"] & stems["val"]:
        raise ConversionError(
            f"{' and '.join(lists.values())} in {annotations} share {len(both)} images: {min(both)}, …"
        )
    listed = stems["train"] | stems["val"]
    for stem, image in files_by_stem(images, {"png"}, "image", report).items():
        if stem.endswith("_co") and stem.removesuffix("_co") not in listed:
            report.leave_out("pair: in no list of the fold", image)
    for split, names in stems.items():
        for stem in sorted(names):
            annotation = annotations / f"{stem}.txt"
            if not annotation.is_file():
                report.leave_out("pair: no annotation", annotation)
                continue
            try:
                labels = list(_labels(annotation, report))
            except ValueError as error:
                report.leave_out("pair: annotation unreadable", error)
                continue
            yield SourcePair(split, stem, {"rgb": images / f"{stem}_co.png", "ir": images / f"{stem}_ir.png"}, labels)


def _folders(source: Path, size: int) -> tuple[Path, Path]:
    """Return the folders of images and annotations."""
    folders = source / f"Vehicules{size}", source / f"Annotations{size}"
    for folder in folders:
        if not folder.is_dir():
            others = [other for other in SIZES if (source / f"Vehicules{other}").is_dir() and other != size]
            hint = f"; for Vehicules{others[0]} set size={others[0]}" if others else ""
            raise ConversionError(f"{source} is not VEDAI as published: there is no folder {folder.name} in it{hint}")
    return folders


def _stems(file: Path, report: Report) -> set[str]:
    """Read the image numbers in a list, padded to eight digits as in the names of the images."""
    if not file.is_file():
        raise ConversionError(f"{file.parent} is not VEDAI as published: there is no file {file.name} in it")
    stems = set()
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        if not (text := line.strip()):
            continue
        if text.isascii() and text.isdigit():
            stems.add(text.zfill(8))
        else:
            report.leave_out("pair: no image number in the list", f"{file}: {text[:40]!r}")
    return stems


def _labels(annotation: Path, report: Report) -> Iterator[Label]:
    for i, line in enumerate(read_lines(annotation), 1):
        columns = line.split()
        if not columns:
            continue
        if len(columns) != COLUMNS:
            report.leave_out(f"box: line without {COLUMNS} columns", f"{annotation}, line {i}: {len(columns)}")
            continue
        try:
            class_number = number(columns[3], "the class")
            corners = [number(text, "a corner") for text in columns[6:]]
        except ValueError as error:
            report.leave_out("box: no usable numbers", f"{annotation}, line {i}: {error}")
            continue
        if class_number not in CLASS_NUMBERS:
            report.leave_out(f"box: class {class_number:g}", annotation)
            continue
        yield Label(CLASS_NUMBERS.index(class_number), tuple(zip(corners[:4], corners[4:], strict=True)))


VEDAI = Format(
    name="vedai",
    **vars(OFFERS["vedai"]),
    modalities={"rgb": "visible", "ir": "infrared"},
    read=read,
    classes=tuple(CLASS_NAMES.values()),
    outlines="labels_obb",
    expected={"train": 1_089, "val": 121},
    recipe="detect/vedai.yaml",
)
