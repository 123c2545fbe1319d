"""LLVIP: streets at night, RGB and infrared, aligned, 1280×1024, one class.

Source: Jia et al., "LLVIP: A Visible-infrared Paired Dataset for Low-light Vision", ICCV Workshops 2021, and the
authors' archive: `{visible,infrared}/{train,test}/NNNNNN.jpg` and `Annotations/NNNNNN.xml` (VOC), one annotation for
both images. 12,025 pairs for training and 3,463 for testing, here "train" and "val": there is no third part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ultralytics.data.utils import IMG_FORMATS

from mwam_det.data.conversion.model import Format, Report, SourcePair
from mwam_det.data.conversion.offers import OFFERS
from mwam_det.data.conversion.untrusted import files_by_stem, require_folders
from mwam_det.data.formats.voc import annotated_pair

SPLITS = {"train": "train", "test": "val"}
CLASSES = ("person",)
FOLDERS = {"rgb": "visible", "ir": "infrared"}


def read(source: Path, options: Mapping[str, Any], report: Report) -> Iterator[SourcePair]:
    """List the pairs, see `mwam_det.data.conversion.model.Format.read`."""
    image_folders = [f"{folder}/{part}" for folder in FOLDERS.values() for part in SPLITS]
    require_folders(source, "LLVIP as published", [*image_folders, "Annotations"])
    annotations = files_by_stem(source / "Annotations", {"xml"}, "annotation", report)
    unused = dict(annotations)
    for part, split in SPLITS.items():
        images = {
            name: files_by_stem(source / folder / part, IMG_FORMATS, f"{name} image", report)
            for name, folder in FOLDERS.items()
        }
        for stem in sorted(set().union(*images.values())):
            unused.pop(stem, None)
            yield from annotated_pair(split, stem, images, annotations.get(stem), CLASSES, report)
    for annotation in unused.values():
        report.leave_out("annotation: no image", annotation)


LLVIP = Format(
    name="llvip",
    **vars(OFFERS["llvip"]),
    modalities=FOLDERS,
    read=read,
    classes=CLASSES,
    expected={"train": 12_025, "val": 3_463},
    recipe="detect/llvip.yaml",
)
