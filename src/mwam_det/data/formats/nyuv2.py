"""NYU-Depth V2: indoor scenes, RGB and depth of a Kinect, aligned, 640×480, every pixel labelled.

Source: Silberman et al., "Indoor Segmentation and Support Inference from RGBD Images", ECCV 2012, in the layout
written by TUI-NICR/ESANet's `prepare_dataset.py`: `{train,test}/{rgb,depth,labels_40}/NNNN.png`. `depth` is 16 bit in
mm, filled in where nothing was measured; `depth_raw` is 0 there. `labels_40` holds one class per pixel: 0 void, 1 to 40
the classes of Gupta et al. (CVPR 2013), in the order of `NYU40`. 795 images for training and 654 for testing. Smaller
copies of this layout have JPEG images, 8-bit depth and a folder `boxes` with YOLO labels (class, centre, width and
height, normalised), whose classes are listed in `box_classes.txt`.

"test" becomes "val": there is no third part, and published figures are for the 654.

The set has no boxes. Those of `boxes` are taken if both parts have that folder. Otherwise they are made from
`labels_40`, which does not separate objects of a class: each connected region (corners connect) of a class in `CLASSES`
is an object, after closing gaps of about 1 % of the image's width, if it then has at least 0.2 % of the image's pixels.
Overlapping chairs become one, a table behind a chair becomes two. `CLASSES` are furniture and separate objects; not
surfaces (wall, floor, ceiling, counter, blinds, shelves, curtain, mirror, floor mat, whiteboard, shower curtain), piles
(clothes, books, paper, towel), the leftover classes, or person and bag.

`labels_40` is taken over unchanged as the folder "masks".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from ultralytics.data.utils import IMG_FORMATS

from mwam_det.data.conversion.model import ConversionError, Format, Label, Report, SourcePair
from mwam_det.data.conversion.offers import OFFERS
from mwam_det.data.conversion.untrusted import files_by_stem, number, read_lines, require_folders
from mwam_det.data.levels import AS_STORED
from mwam_det.data.pairing import image_size, list_images
from mwam_det.data.reading import decode
from mwam_det.files.images import check_pixels

SPLITS = {"train": "train", "test": "val"}
NYU40 = (
    *("void", "wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf", "picture"),
    *("counter", "blinds", "desk", "shelves", "curtain", "dresser", "pillow", "mirror", "floor mat", "clothes"),
    *("ceiling", "books", "refridgerator", "television", "paper", "towel", "shower curtain", "box", "whiteboard"),
    *("person", "night stand", "toilet", "sink", "lamp", "bathtub", "bag", "otherstructure", "otherfurniture"),
    "otherprop",
)
"""Names of the values in `labels_40`, in the authors' spelling."""

CLASSES = (
    *("cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf", "picture", "desk", "pillow"),
    *("dresser", "television", "lamp", "toilet", "sink", "night stand", "bathtub", "refridgerator", "box"),
)
SMALLEST_SHARE = 0.002
"""Regions with a smaller share of the image's pixels are not objects, mostly splinters behind others."""

GAP_SHARE = 0.005
"""Half the width of closed gaps, as a share of the image's width."""


def read(source: Path, options: Mapping[str, Any], report: Report) -> Iterator[SourcePair]:
    """List the pairs, see `mwam_det.data.conversion.model.Format.read`."""
    depth = options["depth"]
    needed = [f"{part}/{folder}" for part in SPLITS for folder in ("rgb", depth)]
    require_folders(source, "NYUv2 in ESANet's layout", needed)
    from_files, names = _takes_box_files(source, options), _class_names(source, options)
    boxes_from = "boxes" if from_files else "labels_40"
    if missing := [part for part in SPLITS if not (source / part / boxes_from).is_dir()]:
        raise ConversionError(f"{source} has no folder {missing[0]}/{boxes_from} to take boxes from")
    if names != CLASSES:
        report.notes.append(f"the recipe's classes differ from {source / 'box_classes.txt'}: set data.names to those")
    _note_depth(source / "train" / depth, report)
    for part, split in SPLITS.items():
        folder = source / part
        depths = files_by_stem(folder / depth, IMG_FORMATS, "depth image", report)
        for stem, image in files_by_stem(folder / "rgb", IMG_FORMATS, "rgb image", report).items():
            mask = folder / "labels_40" / f"{stem}.png"
            annotation = folder / "boxes" / f"{stem}.txt" if from_files else mask
            if not annotation.is_file():
                report.leave_out("pair: no annotation", annotation)
                continue
            try:
                size = image_size(image)
            except ValueError as error:
                report.leave_out("pair: rgb image unreadable", error)
                continue
            try:
                labels = list(_read_boxes(annotation, size, len(names), report)) if from_files else _regions(mask, size)
            except ValueError as error:
                report.leave_out("pair: annotation unreadable", error)
                continue
            images = {"rgb": image, **({"depth": depths[stem]} if stem in depths else {})}
            yield SourcePair(split, stem, images, labels, {"masks": mask} if mask.is_file() else {}, size)


def regions(class_map: np.ndarray) -> list[Label]:
    """Return boxes, with classes of `CLASSES`, of the objects in a class map (H, W) of `NYU40`; see the module."""
    radius = int(GAP_SHARE * class_map.shape[1])
    kernel = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    labels = []
    for class_id, name in enumerate(CLASSES):
        member = (class_map == NYU40.index(name)).astype(np.uint8)
        if np.count_nonzero(member) == 0:
            continue
        closed = cv2.morphologyEx(member, cv2.MORPH_CLOSE, kernel)
        for left, top, width, height, area in cv2.connectedComponentsWithStats(closed, connectivity=8)[2][1:].tolist():
            if area >= SMALLEST_SHARE * class_map.size:
                labels.append(Label(class_id, ((left, top), (left + width, top + height))))
    return labels


def _regions(file: Path, size: tuple[int, int]) -> list[Label]:
    mask_size = image_size(file)
    if mask_size != size:
        raise ValueError(f"{file} has {mask_size[1]}×{mask_size[0]} pixels, its image {size[1]}×{size[0]}")
    class_map = decode(file, AS_STORED)
    if class_map is None or class_map.shape[2] != 1:
        raise ValueError(f"{file} is not an image of one channel with a class per pixel")
    return regions(class_map[..., 0])


def _read_boxes(file: Path, size: tuple[int, int], classes: int, report: Report) -> Iterator[Label]:
    """Read YOLO boxes of an image of `size` (height, width) in pixels."""
    for columns in filter(None, map(str.split, read_lines(file))):
        try:
            if len(columns) != 5:
                raise ValueError(f"{len(columns)} columns, expected class, x, y, width and height")
            class_id, *place = (number(text, key) for text, key in zip(columns, ("class", *"xywh"), strict=True))
            if class_id not in range(classes):
                raise ValueError(f"class is {columns[0]!r}, expected 0 to {classes - 1}")
            if max(map(abs, place)) > 2:
                raise ValueError(f"{' '.join(columns[1:])} are not fractions of the image")
        except ValueError as error:
            report.leave_out("box: not readable", f"{file}: {error}")
            continue
        x, y, width, height = np.array(place) * (size[1], size[0], size[1], size[0])
        low, high = (float(x - width / 2), float(y - height / 2)), (float(x + width / 2), float(y + height / 2))
        yield Label(int(class_id), (low, high))


def _takes_box_files(source: Path, options: Mapping[str, Any]) -> bool:
    if options["boxes"] == "auto":
        return all((source / part / "boxes").is_dir() for part in SPLITS)
    return options["boxes"] == "files"


def _class_names(source: Path, options: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the class names: those of box_classes.txt if boxes are read from files."""
    file = source / "box_classes.txt"
    if not (_takes_box_files(source, options) and file.is_file()):
        return CLASSES
    try:
        names = tuple(filter(None, map(str.strip, read_lines(file))))
    except ValueError as error:
        raise ConversionError(str(error)) from None
    if not names or len(set(names)) < len(names):
        raise ConversionError(f"{file} must list one class per line, each once: {', '.join(names) or 'it is empty'}")
    return names


def _note_depth(folder: Path, report: Report) -> None:
    """Note if depth is not in mm as in the recipe's range: images would be black."""
    files = list_images(folder)
    try:
        pixels = decode(files[0], cv2.IMREAD_ANYDEPTH) if files and check_pixels(files[0]) else None
    except (OSError, ValueError):
        return  # reported for its pair
    if pixels is not None and pixels.dtype == np.uint8:
        report.notes.append("depth is 8 bit here, not in mm as the recipe expects: set data.range.depth=[0,255]")


NYUV2 = Format(
    name="nyuv2",
    **vars(OFFERS["nyuv2"]),
    modalities={"rgb": "visible", "depth": "depth"},
    read=read,
    classes=_class_names,
    expected={"train": 795, "val": 654},
    recipe="detect/nyuv2.yaml",
)
