"""M3FD: streets and campus by day, overcast and at night, RGB and infrared, aligned, mostly 1024×768, six classes.

Source: Liu et al., "Target-aware Dual Adversarial Learning and a Multi-scenario Multi-Modality Benchmark to Fuse
Infrared and Visible for Object Detection", CVPR 2022, and the detection part of the authors' archive:
`Vis/NNNNN.png`, `Ir/NNNNN.png` and `Annotation/NNNNN.xml` (VOC), one annotation for both images. 4,200 pairs; the 300
of the fusion part have no boxes.

There is no official split, and papers draw their own. Ours is drawn from a seed and written to split.json with the
names of all pairs, including those left out later. Names are ordered by a hash of seed and name, so each pair missing
from a copy moves at most one other pair to the other part. Pairs of one scene can fall into both parts, so figures on
such a split describe scenes like these rather than new ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ultralytics.data.utils import IMG_FORMATS

from mwam_det.data.conversion.model import ConversionError, Format, Report, SourcePair
from mwam_det.data.conversion.offers import OFFERS
from mwam_det.data.conversion.untrusted import files_by_stem, require_folders
from mwam_det.data.formats.voc import annotated_pair
from mwam_det.data.splits import validation_part

PAIRS = 4_200
CLASSES = ("People", "Car", "Bus", "Motorcycle", "Lamp", "Truck")
FOLDERS = {"rgb": "Vis", "ir": "Ir"}
SPLIT_FILE = "split.json"


def read(source: Path, options: Mapping[str, Any], report: Report) -> Iterator[SourcePair]:
    """List the pairs, see `mwam_det.data.conversion.model.Format.read`."""
    val_share = options["val_share"]
    if not 0 < val_share < 1:
        raise ConversionError(f"val_share={val_share} must lie between 0 and 1, like 0.2")
    require_folders(source, "M3FD as published", [*FOLDERS.values(), "Annotation"])
    annotations = files_by_stem(source / "Annotation", {"xml"}, "annotation", report)
    images = {
        name: files_by_stem(source / folder, IMG_FORMATS, f"{name} image", report) for name, folder in FOLDERS.items()
    }
    stems = sorted(set().union(*images.values()))
    for stem in annotations.keys() - set(stems):
        report.leave_out("annotation: no image", annotations[stem])
    validation = validation_part(stems, options["seed"], val_share)
    split_of = {stem: "val" if stem in validation else "train" for stem in stems}
    parts = {split: [stem for stem in stems if split_of[stem] == split] for split in ("train", "val")}
    report.files[SPLIT_FILE] = json.dumps({**options, **parts}, indent=1, ensure_ascii=False) + "\n"
    report.notes.append(f"M3FD has no official split: {SPLIT_FILE} holds the one drawn here (seed {options['seed']})")
    for stem in stems:
        yield from annotated_pair(split_of[stem], stem, images, annotations.get(stem), CLASSES, report)


def expected(options: Mapping[str, Any]) -> dict[str, int]:
    """Return the number of pairs in each part of the complete set."""
    val = round(options["val_share"] * PAIRS)
    return {"train": PAIRS - val, "val": val}


M3FD = Format(
    name="m3fd",
    **vars(OFFERS["m3fd"]),
    modalities={"rgb": "visible", "ir": "infrared"},
    read=read,
    classes=CLASSES,
    expected=expected,
    recipe="detect/m3fd.yaml",
)
