"""What the command line offers of each format: its title and options, here because a format takes seconds to import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Option:
    """An option of a format, which the command line offers as --name.

    Attributes:
        default: Its default; its type is the option's type. A bool is a switch that is off by default.
        help: One line for the user.
        choices: The values that it may have, or () for any.
    """

    default: Any
    help: str
    choices: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Offer:
    """What the user is told of a format.

    Attributes:
        title: Full name and source, one line.
        options: Options by name.
    """

    title: str
    options: Mapping[str, Option] = field(default_factory=dict)


OFFERS = {
    "dronevehicle": Offer(
        "DroneVehicle (train/trainimg, trainimgr, trainlabel, trainlabelr; val and test alike)",
        {
            "labels": Option(
                "ir", "which label set: infrared (the authors' ground truth), RGB or both", ("ir", "rgb", "union")
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
                "folder of the annotations in SRC, or several with commas: the first that has a frame counts",
            ),
            "labels": Option(
                "visible", "whose labels, where each image has a set of its own (KAIST-Paired)", ("visible", "lwir")
            ),
            "ignore": Option(
                "drop",
                "people, cyclist, person? and boxes marked as ignore: drop leaves out the boxes, image leaves out "
                "images with such a box, keep counts them as person, classes makes each label a class (marked boxes "
                "dropped)",
                ("drop", "image", "keep", "classes"),
            ),
            "train_step": Option(2, "take every n-th frame of sets 00 to 05 (2 as the benchmark, 1 for all)"),
            "val_step": Option(20, "take every n-th frame of sets 06 to 11 (20 as the benchmark, 1 for all)"),
        },
    ),
    "m3fd": Offer(
        "M3FD's part for detection (Vis/, Ir/, Annotation/)",
        {
            "seed": Option(0, "number from which the split is drawn"),
            "val_share": Option(0.2, "share of the pairs to validate with"),
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
                "where boxes come from: the folders boxes, or labels_40 by connected regions; auto: boxes if both "
                "parts have them",
                ("auto", "files", "labels_40"),
            ),
            "depth": Option("depth", "which depth: filled in, or as the sensor saw it", ("depth", "depth_raw")),
        },
    ),
    "coco": Offer(
        "pairs with COCO annotations (a JSON a split, a folder a modality)",
        {
            "json": Option("annotations/{split}.json", "JSON in SRC; {split} stands for train, val and test"),
            "rgb": Option("rgb", "folder of the RGB images in SRC; may hold {split}"),
            "ir": Option("ir", "folder of the infrared images in SRC; may hold {split}"),
            "match": Option("", "regular expression for names without suffix, whose one group is what partners share"),
            "val_share": Option(0.2, "share of the images to validate with, if json holds no {split}"),
        },
    ),
}
"""All formats by name; `mwam_det.data.formats` has a module for each."""
