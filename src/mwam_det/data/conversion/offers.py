"""Titles and options of all formats for the command line; kept apart because importing a format takes seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Option:
    """An option of a format, --name on the command line.

    Attributes:
        default: Default value, whose type is the option's. A bool is a switch that is off by default.
        help: One line for the user.
        choices: Accepted values, or () for any.
    """

    default: Any
    help: str
    choices: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Offer:
    """Title and options of a format.

    Attributes:
        title: Full name and layout, one line.
        options: Options by name.
    """

    title: str
    options: Mapping[str, Option] = field(default_factory=dict)


OFFERS = {
    "dronevehicle": Offer(
        "DroneVehicle (train/trainimg, trainimgr, trainlabel, trainlabelr; val and test alike)",
        {
            "labels": Option(
                "ir", "label set: infrared (the authors' ground truth), RGB or both", ("ir", "rgb", "union")
            ),
            "keep_frame": Option(False, "keep the white frame of 100 px around the images"),
        },
    ),
    "llvip": Offer("LLVIP (visible/, infrared/, Annotations/)"),
    "flir": Offer(
        "FLIR-aligned (align/JPEGImages, align/Annotations, align/align_train.txt, align/align_validation.txt)"
    ),
    "kaist": Offer(
        "KAIST multispectral pedestrians (set00/V000/{visible,lwir}/, annotations/)",
        {
            "annotations": Option(
                "annotations",
                "annotation folder in SRC, or several separated by commas; the first that has a frame counts",
            ),
            "labels": Option(
                "visible", "modality whose labels are used if each has a label set (KAIST-Paired)", ("visible", "lwir")
            ),
            "ignore": Option(
                "drop",
                "people, cyclist, person? and boxes marked as ignore: drop removes the boxes, image removes images "
                "with such a box, keep counts them as person, classes keeps each label as a class (marked boxes are "
                "dropped)",
                ("drop", "image", "keep", "classes"),
            ),
            "train_step": Option(2, "take every n-th frame of sets 00 to 05 (2 as in the benchmark, 1 for all)"),
            "val_step": Option(20, "take every n-th frame of sets 06 to 11 (20 as in the benchmark, 1 for all)"),
        },
    ),
    "m3fd": Offer(
        "M3FD, the detection part (Vis/, Ir/, Annotation/)",
        {
            "seed": Option(0, "seed of the split"),
            "val_share": Option(0.2, "share of the pairs used for validation"),
        },
    ),
    "vedai": Offer(
        "VEDAI (Vehicules1024/, Annotations1024/, or both with 512)",
        {
            "fold": Option(1, "which of the authors' ten folds", tuple(range(1, 11))),
            "size": Option(1024, "side of the images, in pixels", (512, 1024)),
        },
    ),
    "nyuv2": Offer(
        "NYU-Depth V2 in ESANet's layout ({train,test}/{rgb,depth,labels_40}/)",
        {
            "boxes": Option(
                "auto",
                "where boxes come from: files in the folders boxes, or connected regions of labels_40; auto: files if "
                "both parts have them",
                ("auto", "files", "labels_40"),
            ),
            "depth": Option("depth", "depth filled in, or as measured by the sensor", ("depth", "depth_raw")),
        },
    ),
    "coco": Offer(
        "pairs with COCO annotations (one JSON per split, one folder per modality)",
        {
            "json": Option("annotations/{split}.json", "JSON in SRC; {split} stands for train, val and test"),
            "rgb": Option("rgb", "folder of the RGB images in SRC; may contain {split}"),
            "ir": Option("ir", "folder of the infrared images in SRC; may contain {split}"),
            "match": Option("", "regular expression for stems, with one group: the part that partners share"),
            "val_share": Option(0.2, "share of the images used for validation, if json has no {split}"),
        },
    ),
}
"""All formats by name, in the order of `mwam_det.data.formats.FORMATS`."""
