"""KAIST multispectral pedestrians: video from a car by day and night, RGB and thermal, aligned, 640×512.

Source: Hwang et al., "Multispectral Pedestrian Detection: Benchmark Dataset and Baseline", CVPR 2015, with the lists
`imageSets/*.txt` of the authors' repository SoonminHwang/rgbt-ped-detection; for text annotations, `bbGt` of Piotr's
toolbox. Images are `setXX/VYYY/{visible,lwir}/IZZZZZ.jpg`, in the source or its folder `images`. Sets 00 to 05 are for
training, 06 to 11 for testing, here "val": there is no third part.

Annotations, one file per frame for both images:
    `annotations/setXX/VYYY/IZZZZZ.txt`, the original ones. A line that begins with % is the header
        ("% bbGt version=3"), the others hold label, x, y, w, h (of the box, from its top left corner), occlusion
        (0 none, 1 partial, 2 heavy), x, y, w, h of the visible part, 1 for boxes marked as ignore, and an angle. A file
        with only the header is a frame without people.
    `setXX_VYYY_IZZZZZ.txt` in one folder, the sanitised ones for training (Li et al., BMVC 2018, 7,601 frames) and the
        improved ones for testing (Liu et al., BMVC 2016).
    `annotations-xml-new-sanitized/setXX/VYYY/IZZZZZ.xml`, both in one, found in other archives, with x, y, w and h in
        the bndbox.
KAIST-Paired (Zhang et al., ICCV 2019) has one label set per image, because the two are slightly misaligned:
    `setXX/VYYY/{visible,lwir}/IZZZZZ.txt`, or `setXX_VYYY_{visible,lwir}_IZZZZZ.txt`. The option `labels` selects one,
        by default that of the visible image, onto which the other is mapped.
The option `annotations` names the folder, or several. Coordinates are used unchanged.

Labels are person, people (a group that cannot be separated), cyclist and person? (uncertain). The benchmark counts
persons; the others are ignore regions, where a detection is neither right nor wrong. Ultralytics has none: the option
`ignore` decides what becomes of them. No choice gives the benchmark's miss rate, which also excludes small and occluded
persons.

Frames of a video are nearly alike. The benchmark trains with every 2nd (`train-all-02`: 25,086 frames) and tests with
every 20th (`test-all-20`: 2,252, the first is I00019), as do the defaults of the options `train_step` and `val_step`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mwam_det.data.conversion.model import ConversionError, Format, Label, Report, SourcePair
from mwam_det.data.conversion.offers import OFFERS
from mwam_det.data.conversion.untrusted import box_of, folders_in, number, read_lines
from mwam_det.data.formats.voc import objects, read_xml
from mwam_det.files.folders import list_files

CLASSES = ("person", "people", "cyclist", "person?")
ALIASES = {"person?a": "person?"}
"""Other spellings in the files."""

IMAGES = OFFERS["kaist"].options["labels"].choices
FIRST_TEST_SET = 6
MARKED = 10
"""Column of a text annotation that is 1 for a box to ignore."""


def read(source: Path, options: Mapping[str, Any], report: Report) -> Iterator[SourcePair]:
    """List the frames, see `mwam_det.data.conversion.model.Format.read`."""
    root = source / "images" if (source / "images").is_dir() else source
    videos = sorted(folder for folder in root.glob("set[01][0-9]/V[0-9][0-9][0-9]") if (folder / "visible").is_dir())
    if not videos:
        raise ConversionError(
            f"{source} is not KAIST as published: there is no folder like set00/V000/visible in it or its folder images"
        )
    annotations = _annotation_folders(source, options["annotations"])
    found: Counter[bool | None] = Counter()
    steps = {"train": options["train_step"], "val": options["val_step"]}
    for split, step in steps.items():
        if step < 1:
            raise ConversionError(f"{split}_step={step} must be at least 1: 1 for every frame, 2 for every second, …")
    if options["ignore"] == "classes":
        report.notes.append(f"the recipe has one class, these labels have four: set data.names={list(CLASSES)}")
    for video in videos:
        split = "train" if int(video.parent.name[3:]) < FIRST_TEST_SET else "val"
        stem = f"{video.parent.name}/{video.name}"
        for image in sorted(file for file in (video / "visible").iterdir() if file.suffix.lower() in (".jpg", ".png")):
            if not re.fullmatch(r"I\d{5}", image.stem):
                report.leave_out("pair: name is not I and five digits", image)
            elif (int(image.stem[1:]) + 1) % steps[split] == 0:
                frame = f"{stem}/{image.stem}"
                names = _annotation_names(frame, options["labels"])
                file = next((place for f in annotations for name in names if (place := f / name).is_file()), None)
                found[None if file is None else _is_of_one_image(file)] += 1
                if file is None:
                    report.leave_out("pair: no annotation", frame)
                elif (labels := _read_annotation(file, options["ignore"], report)) is not None:
                    yield SourcePair(split, frame, {"rgb": image, "ir": video / "lwir" / image.name}, labels)
    if found and not found.total() - found[None]:
        raise ConversionError(_nothing_found(annotations, frame, names))
    if found[True]:
        report.notes.append(
            f"each modality has a label set: those of {options['labels']} were taken, see the option labels"
        )


def _annotation_names(frame: str, image: str) -> list[str]:
    """List the possible names of the annotation of a frame like set00/V000/I00001."""
    video, _, name = frame.rpartition("/")
    of_one_image = f"{video}/{image}/{name}"
    return [
        named
        for place in (frame, of_one_image)
        for named in (f"{place}.txt", f"{place}.xml", f"{place.replace('/', '_')}.txt")
    ]


def _is_of_one_image(file: Path) -> bool:
    return any(image in (file.parent.name, *file.stem.split("_")) for image in IMAGES)


def _nothing_found(folders: Sequence[Path], frame: str, names: Sequence[str]) -> str:
    """Return the error message for a source where no frame has an annotation."""
    first = next((file for folder in folders for file in list_files(folder)), None)
    return (
        f"no frame has an annotation in {', '.join(map(str, folders))}, where "
        f"{'there is no file' if first is None else f'the first file is {first}'}: names tried for {frame}: "
        f"{', '.join(names)}"
    )


def _annotation_folders(source: Path, names: str) -> list[Path]:
    folders = [source / name.strip() for name in names.split(",")]
    for folder in folders:
        if not folder.is_dir():
            raise ConversionError(
                f"{folder} is not a folder ({source} has {folders_in(source)}): name the folder of the annotations "
                "with the option annotations"
            )
    return folders


def _read_annotation(file: Path, policy: str, report: Report) -> list[Label] | None:
    """Return the labels of a frame, or None if it is left out."""
    try:
        found = list(_xml_objects(file) if file.suffix == ".xml" else _text_objects(file))
    except ValueError as error:
        report.leave_out("pair: annotation unreadable", error)
        return None
    labels = []
    for name, place, marked in found:
        if name not in CLASSES:
            report.leave_out(f"box: class {name!r}", file)
            continue
        if marked or (name != "person" and policy != "classes"):
            if policy == "image":
                report.leave_out("pair: with a box to ignore", f"{file}: {name}")
                return None
            if policy != "keep":
                report.leave_out(f"box: to ignore, {name}", file)
                continue
        try:
            x, y, width, height = (number(text, key) for text, key in zip(place, "xywh", strict=True))
            corners = box_of(x, y, width, height, "the box")
            labels.append(Label(CLASSES.index(name) if policy == "classes" else 0, corners))
        except ValueError as error:
            report.leave_out("box: no usable coordinates", f"{file}: {error}")
    return labels


def _text_objects(file: Path) -> Iterator[tuple[str, Sequence[str | None], bool]]:
    """Yield label, the texts of x, y, w and h, and whether the box is marked as ignore, from a text annotation."""
    for columns in map(str.split, read_lines(file)):
        if columns and not columns[0].startswith("%"):
            name, place = columns[0], [*columns[1:5], *[None] * 4][:4]
            yield ALIASES.get(name, name), place, len(columns) > MARKED and columns[MARKED] == "1"


def _xml_objects(file: Path) -> Iterator[tuple[str, Sequence[str | None], bool]]:
    """Yield the same from an XML annotation, which marks nothing as ignore."""
    for name, element in objects(read_xml(file)):
        yield ALIASES.get(name, name), [element.findtext(f"bndbox/{key}") for key in "xywh"], False


def _class_names(source: Path, options: Mapping[str, Any]) -> tuple[str, ...]:
    return CLASSES if options["ignore"] == "classes" else CLASSES[:1]


def _expected(options: Mapping[str, Any]) -> dict[str, int]:
    """Return the number of pairs in the benchmark's lists, for splits taken with its step."""
    if options["ignore"] == "image":
        return {}
    complete = {"train": (2, 25_086), "val": (20, 2_252)}
    return {split: pairs for split, (step, pairs) in complete.items() if options[f"{split}_step"] == step}


KAIST = Format(
    name="kaist",
    **vars(OFFERS["kaist"]),
    modalities={"rgb": "visible", "ir": "infrared"},
    read=read,
    classes=_class_names,
    expected=_expected,
    recipe="detect/kaist.yaml",
)
