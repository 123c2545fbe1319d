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

from ultralytics.data.utils import IMG_FORMATS

from mwam_det.data.conversion.model import ConversionError, Format, Report, SourcePair
from mwam_det.data.conversion.offers import OFFERS
from mwam_det.data.conversion.untrusted import files_by_stem
from mwam_det.data.formats.voc import boxes, read_xml, size

SPLITS = {"train": "train", "test": "val"}
CLASSES = ("person",)
FOLDERS = {"rgb": "visible", "ir": "infrared"}


def read(source: Path, options: Mapping[str, Any], report: Report) -> Iterator[SourcePair]:
    """List the pairs, see `mwam_det.data.conversion.model.Format.read`."""
    for folder in (*(f"{folder}/{part}" for folder in FOLDERS.values() for part in SPLITS), "Annotations"):
        if not (source / folder).is_dir():
            raise ConversionError(f"{source} is not LLVIP as published: there is no folder {folder} in it")
    annotations = files_by_stem(source / "Annotations", {"xml"}, "annotation", report)
    unused = dict(annotations)
    for part, split in SPLITS.items():
        images = {
            name: files_by_stem(source / folder / part, IMG_FORMATS, f"{name} image", report)
            for name, folder in FOLDERS.items()
        }
        for stem in sorted(set().union(*images.values())):
            unused.pop(stem, None)
            if stem not in annotations:
                report.leave_out("pair: no annotation", f"{split}/{stem}")
                continue
            try:
                root = read_xml(annotations[stem])
            except ValueError as error:
                report.leave_out("pair: annotation unreadable", error)
                continue
            files = {name: found[stem] for name, found in images.items() if stem in found}
            yield SourcePair(split, stem, files, boxes(root, CLASSES, annotations[stem], report), size=size(root))
    for annotation in unused.values():
        report.leave_out("annotation: no image", annotation)


LLVIP = Format(
    name="llvip",
    title=OFFERS["llvip"].title,
    modalities=FOLDERS,
    read=read,
    classes=CLASSES,
    expected={"train": 12_025, "val": 3_463},
    recipe="detect/llvip.yaml",
)
