"""LLVIP: street at night, RGB and infrared, aligned, 1280×1024, one class.

Source of truth: Jia et al., "LLVIP: A Visible-infrared Paired Dataset for Low-light Vision", ICCV Workshops 2021, and
the archive of the authors: `{visible,infrared}/{train,test}/NNNNNN.jpg` and `Annotations/NNNNNN.xml` (VOC), one
annotation for both images, since they are aligned. 12,025 pairs to train with and 3,463 to test with, which here are
called "train" and "val": the authors keep back no third part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mwam_det.data.conversion import ConversionError, Format, Label, Report, Sample
from mwam_det.data.formats.voc import bndbox, objects, read_xml

SPLITS = {"train": "train", "test": "val"}
CLASSES = ("person",)


def read(source: Path, options: Mapping[str, Any], report: Report) -> Iterator[Sample]:
    """List the pairs, see `mwam_det.data.conversion.Format.read`."""
    for folder in ("visible/train", "visible/test", "infrared/train", "infrared/test", "Annotations"):
        if not (source / folder).is_dir():
            raise ConversionError(f"{source} is not LLVIP as published: there is no folder {folder} in it")
    for part, split in SPLITS.items():
        for image in sorted((source / "visible" / part).glob("*.jpg")):
            annotation = source / "Annotations" / f"{image.stem}.xml"
            if not annotation.is_file():
                report.leave_out("pair: no annotation", annotation)
                continue
            try:
                labels = list(_labels(annotation, report))
            except ValueError as error:
                report.leave_out("pair: annotation unreadable", error)
                continue
            images = {"rgb": image, "ir": source / "infrared" / part / image.name}
            yield Sample(split, image.stem, images, labels)


def _labels(annotation: Path, report: Report) -> Iterator[Label]:
    for name, element in objects(read_xml(annotation)):
        if name not in CLASSES:
            report.leave_out(f"box: class {name!r}", annotation)
            continue
        try:
            yield Label(CLASSES.index(name), bndbox(element))
        except ValueError as error:
            report.leave_out("box: no usable coordinates", f"{annotation}: {error}")


LLVIP = Format(
    name="llvip",
    title="LLVIP (visible/, infrared/, Annotations/)",
    modalities={"rgb": "visible", "ir": "infrared"},
    read=read,
    classes=CLASSES,
    expected={"train": 12_025, "val": 3_463},
    recipe="llvip.yaml",
)
