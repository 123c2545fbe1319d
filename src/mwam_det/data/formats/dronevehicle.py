"""DroneVehicle: vehicles from a drone, RGB and infrared, day and night, five classes, oriented boxes.

Source: Sun et al., "Drone-based RGB-Infrared Cross-Modality Vehicle Detection via Uncertainty-Aware Learning", IEEE
TCSVT 2022, and the authors' archives, unpacked side by side: `{split}/{split}img/NNNNN.jpg` (RGB), `{split}imgr`
(infrared), `{split}label/NNNNN.xml` (objects seen in RGB) and `{split}labelr` (objects seen in infrared), with train,
val and test for `split`. 17,990, 1,469 and 8,980 pairs.

Peculiarities of these files:

- Images are 840×712 with a white frame of 100 px, and annotations count from the corner of the frame. The frame is
  cropped, to 640×512, unless the option keep_frame is set.
- There are two label sets. The infrared one is the ground truth of the authors' evaluation, since RGB shows little at
  night. The option labels selects the RGB set instead, or the union of both. A pair is left out if a required
  annotation is missing or damaged.
- An object is a `<polygon>` with the corners x1, y1 … x4, y4, occasionally a `<bndbox>`, and sometimes only a `<point>`
  or nothing; the latter are left out.
- Class names have typos (`TYPOS`). Objects with meaningless names ("*", empty) are left out.
- File names inside the annotations are those of the annotators' disks; the stem of the XML file counts.
- Some annotations have no image, and two images of the training set are truncated.

At the border, an object is kept if its centre is in the image, and its corners are clipped to the image, since
Ultralytics reads four corners and rejects labels outside. The horizontal box is thus that of the object cut at the
border. An outline cut obliquely is no longer a rectangle: the smallest rectangle around it, used by training, deviates
a few degrees from the direction of the object. With keep_frame, the border is that of the frame, which hardly any
object reaches.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import cv2
import numpy as np
from ultralytics.data.utils import IMG_FORMATS

from mwam_det.data.conversion.labels import outline
from mwam_det.data.conversion.model import ConversionError, Format, Label, Points, Report, SourcePair
from mwam_det.data.conversion.offers import OFFERS
from mwam_det.data.conversion.untrusted import files_by_stem, number, require_folders
from mwam_det.data.formats.voc import bndbox, objects, read_xml
from mwam_det.data.pairing import image_size
from mwam_det.data.section import SPLITS

CLASSES = ("car", "truck", "bus", "van", "freight car")
TYPOS = {
    "feright car": "freight car",
    "feright_car": "freight car",
    "feright": "freight car",
    "freight_car": "freight car",
    "truvk": "truck",
}
"""Misspelt class names in the annotations."""

SIZE = (712, 840)
"""(height, width) of the published images, in pixels."""

CROP = (100, 612, 100, 740)
"""The image inside its white frame: (top, bottom, left, right) in pixels."""

IMAGE_FOLDERS = {"rgb": "img", "ir": "imgr"}
LABEL_FOLDERS = {"ir": ("labelr",), "rgb": ("label",), "union": ("labelr", "label")}
"""Label folders of a split, by the option labels; the first takes precedence where both show an object."""

SAME_OBJECT_IOU = 0.3
"""From this rotated IoU on, boxes of both label sets are the same vehicle.

Seen from above, vehicles hardly overlap. Boxes of one vehicle differ by the time and place at which the two images were
taken: a shift sideways by half its width still leaves 1/3.
"""


def read(source: Path, options: Mapping[str, Any], report: Report) -> Iterator[SourcePair]:
    """List the pairs, see `mwam_det.data.conversion.model.Format.read`."""
    splits = [split for split in SPLITS if (source / split).is_dir()]
    if not splits:
        raise ConversionError(
            f"{source} is not DroneVehicle as published: there is no folder train, val or test in it "
            "(looked for train/trainimg, train/trainimgr, …)"
        )
    label_folders = LABEL_FOLDERS[options["labels"]]
    for split in splits:
        names = [f"{split}/{split}{part}" for part in (*IMAGE_FOLDERS.values(), *label_folders)]
        require_folders(source, "DroneVehicle as published", names)
    for split in SPLITS:
        if split not in splits:
            report.notes.append(f"{split}: there is no folder {split} in the source, this split is not converted")
    merged = added = 0
    for split in splits:
        images = {
            name: files_by_stem(source / split / f"{split}{part}", IMG_FORMATS, f"{name} image", report)
            for name, part in IMAGE_FOLDERS.items()
        }
        _check_size(images["rgb"].values())
        annotations = [
            files_by_stem(source / split / f"{split}{part}", {"xml"}, "annotation", report) for part in label_folders
        ]
        stems = sorted(set().union(*images.values()))
        for files in annotations:
            for stem in sorted(files.keys() - set(stems)):
                report.leave_out("annotation: no image", files[stem])
        for stem in stems:
            if any(stem not in files for files in annotations):
                report.leave_out("pair: no annotation", f"{split}/{stem}")
                continue
            try:
                label_sets = [list(_labels(files[stem], report)) for files in annotations]
            except ValueError as error:
                report.leave_out("pair: annotation unreadable", error)
                continue
            labels = label_sets[0] if len(label_sets) == 1 else union(*label_sets)
            merged += sum(map(len, label_sets)) - len(labels)
            added += len(labels) - len(label_sets[0])
            yield SourcePair(
                split, stem, {name: files[stem] for name, files in images.items() if stem in files}, labels
            )
    if options["labels"] == "union":
        report.notes.append(f"union: {merged} boxes are in both label sets, {added} only in the RGB one")


def union(first: Sequence[Label], second: Sequence[Label]) -> list[Label]:
    """Return all labels of the first set, and those of the second that have no partner in the first.

    Boxes of both sets are paired one to one, the best overlap first, whatever their classes.
    """
    taken_first: set[int] = set()
    taken_second: set[int] = set()
    for _, i, j in sorted(_overlaps(first, second), reverse=True):
        if i not in taken_first and j not in taken_second:
            taken_first.add(i)
            taken_second.add(j)
    return [*first, *(label for j, label in enumerate(second) if j not in taken_second)]


def rotated_iou(a: Sequence[Sequence[float]], b: Sequence[Sequence[float]]) -> float:
    """Return the intersection over union of the smallest rectangles around two outlines, each (N, 2) in pixels.

    OpenCV's `rotatedRectangleIntersection` and `intersectConvexConvex` are wrong by up to the whole area where sides
    are collinear, as after an annotator copied and shifted a box. Clipping in the frame of one of the rectangles is
    exact to float32.
    """
    from matplotlib.path import Path as Outline
    from matplotlib.transforms import Bbox

    rectangle_a, rectangle_b = (cv2.minAreaRect(np.array(points, np.float32)) for points in (a, b))
    area_a, area_b = (width * height for _, (width, height), _ in (rectangle_a, rectangle_b))
    if not area_a or not area_b:
        return 0.0
    centre, (width, height), degrees = rectangle_b
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    corners = (cv2.boxPoints(rectangle_a).astype(float) - centre) @ [[cos, -sin], [sin, cos]]
    frame = Bbox([[-width / 2, -height / 2], [width / 2, height / 2]])
    x, y = np.asarray(Outline(corners[[0, 1, 2, 3, 0]], closed=True).clip_to_bbox(frame).vertices).T
    intersection = abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
    return float(intersection / (area_a + area_b - intersection))


def _overlaps(first: Sequence[Label], second: Sequence[Label]) -> Iterator[tuple[float, int, int]]:
    """Yield (IoU, index, index) of the boxes that are the same object."""
    if not first or not second:
        return
    a, b = (np.array([outline(label.points) for label in labels]) for labels in (first, second))
    # most boxes of an image lie far apart, which their horizontal boxes show quickly
    near = (a.min(1)[:, None] < b.max(1)).all(-1) & (b.min(1) < a.max(1)[:, None]).all(-1)
    for i, j in np.argwhere(near).tolist():
        if (iou := rotated_iou(a[i], b[j])) >= SAME_OBJECT_IOU:
            yield iou, i, j


def _check_size(images: Iterable[Path]) -> None:
    """Refuse images whose frame has already been cropped: labels would be off by 100 px."""
    for file in images:
        try:
            size = image_size(file)
        except ValueError:
            continue  # damaged, reported for its pair
        if size != SIZE:
            raise ConversionError(
                f"{file} is {size[1]}×{size[0]}, but the published images are {SIZE[1]}×{SIZE[0]} with a white frame "
                f"of {CROP[0]} px, from whose corner annotations count"
            )
        return


def _labels(annotation: Path, report: Report) -> Iterator[Label]:
    for spelling, element in objects(read_xml(annotation)):
        name = TYPOS.get(spelling.casefold(), spelling.casefold())
        if name not in CLASSES:
            report.leave_out(f"box: class {spelling!r}", annotation)
            continue
        try:
            points = _points(element)
        except ValueError as error:
            report.leave_out("box: no usable coordinates", f"{annotation}: {error}")
            continue
        if points is None:
            kind = "only a point" if element.find("point") is not None else "no outline"
            report.leave_out(f"box: {kind}", annotation)
            continue
        yield Label(CLASSES.index(name), points)


def _points(element: Element) -> Points | None:
    """Return the corners of an object, or None if it has none."""
    polygon = element.find("polygon")
    if polygon is not None:
        corners = [[number(polygon.findtext(f"{axis}{i}"), f"{axis}{i}") for axis in "xy"] for i in range(1, 5)]
        return tuple((x, y) for x, y in corners)
    return None if element.find("bndbox") is None else bndbox(element)


DRONEVEHICLE = Format(
    name="dronevehicle",
    **vars(OFFERS["dronevehicle"]),
    modalities={"rgb": "visible", "ir": "infrared"},
    read=read,
    classes=CLASSES,
    outlines="labels_obb",
    expected={"train": 17_990, "val": 1_469, "test": 8_980},
    crop=lambda options: None if options["keep_frame"] else CROP,
    recipe="dronevehicle.yaml",
)
