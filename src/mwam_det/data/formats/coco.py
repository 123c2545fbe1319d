"""Pairs with annotations in COCO's JSON: one file per split, one image folder per modality.

Source: the section "Data format" of cocodataset.org. These keys are read: `images` (id, file_name, width, height),
`annotations` (image_id, category_id, bbox, segmentation, iscrowd) and `categories` (id, name).

    `file_name` is relative to the folder of a modality. If that file does not exist, one of the same stem with another
        suffix is taken, so that RGB may be JPEG and infrared PNG. Any other name, such as a path on the annotator's
        disk, a URL, or one with missing folders, is looked up by its end: the longest that a file below the folder
        shares, down to the name alone if it is unique and lies in no folder, splits aside, that `file_name` lacks while
        it has others: the labels of night/1.jpg do not go to day/1.jpg. Surrounding spaces and Unicode normalisation do
        not matter. An image with an ambiguous name is left out.
    `id`, `image_id` and `category_id` are integers, also as text ("7") or float (7.0). Image ids may be other texts.
        A repeated entry counts once; different images with the same id are left out.
    `categories` are numbered from 0 by ascending id, over all splits; those of the same name are one class.
    `bbox` is [x, y, width, height] in pixels of the image whose width and height the JSON states, or of the RGB image
        if it states none or an impossible one, like 0×0 or NaN. It is the label, unless there are polygons: then the
        box around them is.
    `segmentation` as polygons becomes the outline, in "labels_seg": lists of x1, y1, x2, y2, …, or of points [x, y].
        Several polygons of an object are joined by thin lines, as in Ultralytics' converter. Run lengths (RLE) are
        replaced by the box, or else by the box around the mask, which must have the shape of the image. Lists may be
        given as text, as in tables ("[10, 20, 30, 40]").
    `iscrowd` objects, each a group, are left out, as in Ultralytics' converter.

Roboflow and others call the validation split "valid" or "validation": where nothing is called "val", {split} stands for
these. They also add a hash to each name, different for each modality: the option match extracts what partners share.

What makes a whole file useless (no JSON, no list of images, invalid categories) ends the conversion; a fault of one
image or annotation leaves that one out. Both name the file and the key.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
from pycocotools import mask as run_lengths
from ultralytics.data.converter import merge_multi_segment

from mwam_det.data.conversion.labels import SAME_SHAPE
from mwam_det.data.conversion.model import Box, ConversionError, Format, Label, Points, Report, SourcePair
from mwam_det.data.conversion.offers import OFFERS
from mwam_det.data.conversion.untrusted import LARGEST_COORDINATE, box_of, folders_in, inside, number
from mwam_det.data.naming import NamesByEnd, has_naming, match_pattern, shared_part
from mwam_det.data.pairing import list_images, stem_of
from mwam_det.data.section import SPLITS
from mwam_det.data.splits import validation_part

MODALITIES = {"rgb": "visible", "ir": "infrared"}
WORDS = {"val": ("val", "valid", "validation")}
"""Alternative names of a split."""

SEVERAL = "image: several entries name it"
"""Reason for leaving out an image."""

DRAWN = "val.txt"
"""Lists the stems drawn for val if one JSON holds all images."""

DISAGREEMENT = 2.0
"""Boxes that differ more than this from their polygons, in pixels at any side, are reported."""

LONGEST_NAME, LONGEST_PATH = 200, 1000
"""Limits for one part of a file name and for the whole, in bytes; file systems accept 255 and 4096."""

MOST_DISTANCES = 4_000_000
"""Limit of the distances between the points of two polygons, all of which are computed to join them."""


def read(source: Path, options: Mapping[str, Any], report: Report) -> Iterator[SourcePair]:
    """List the pairs, see `mwam_det.data.conversion.model.Format.read`."""
    files = _json_files(source, options)
    contents = {split: _load(file, report) for split, file in files.items()}
    numbers, _ = _classes(files, contents)
    if "{split}" in options["json"]:
        for split, file in files.items():
            yield from _read_split(source, split, file, contents[split], numbers, options, report)
        return
    share = options["val_share"]
    if not 0 < share < 1:
        raise ConversionError(f"val_share={share} must lie between 0 and 1, like 0.2")
    samples = list(_read_split(source, "train", files["train"], contents["train"], numbers, options, report))
    drawn = validation_part([sample.stem for sample in samples], seed=0, share=share)
    report.notes.append(f"one JSON for all: {len(drawn)} images were drawn at random for val, see {DRAWN}")
    report.files[DRAWN] = "".join(f"{stem}\n" for stem in sorted(drawn))
    for sample in samples:
        yield replace(sample, split="val" if sample.stem in drawn else "train")


def _json_files(source: Path, options: Mapping[str, Any]) -> dict[str, Path]:
    """Return the JSON file of every split found; a single file for all is that of "train"."""
    splits = SPLITS if "{split}" in options["json"] else ("train",)
    files = {split: _in_source(source, options, "json", split) for split in splits}
    if existing := {split: file for split, file in files.items() if file.is_file()}:
        return existing
    found = [path for pattern in ("*.json", "*/*.json") for path in sorted(source.glob(pattern))]
    listed = ", ".join(str(path.relative_to(source)) for path in found[:8])
    raise ConversionError(
        f"there is no {files['train']}: name the JSON with the option json, in which {{split}} stands for "
        f"{', '.join(SPLITS)} (in {source} there " + (f"are: {listed})" if listed else "is no JSON)")
    )


def _in_source(source: Path, options: Mapping[str, Any], option: str, split: str) -> Path:
    """Return the path given by an option, trying all names of the split."""
    try:
        paths = [inside(source, options[option].replace("{split}", word)) for word in WORDS.get(split, (split,))]
    except ConversionError:
        raise ConversionError(f"{option}={options[option]!r} must be a path below {source}") from None
    return next((path for path in paths if path.exists()), paths[0])


def _load(file: Path, report: Report) -> dict[str, list[dict[str, Any]]]:
    """Read a JSON file and check its entries; unusable images are left out.

    Returns:
        Its "images", "annotations" and "categories"; ids of images and categories as `_identity` returns them.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConversionError(f"{file} cannot be read as JSON ({type(error).__name__}: {error})") from None
    if not isinstance(content, dict):
        raise ConversionError(f"{file} must hold an object with images, annotations and categories")
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            raise ConversionError(f"{file}: {key} is missing or not a list, as COCO's format requires")
    images, categories = [], []
    for i, entry in enumerate(content["images"]):
        try:
            images.append(_named(entry, "file_name"))
        except ValueError as error:
            report.leave_out("image: no usable entry", f"{file}: images[{i}]{error}")
    for i, entry in enumerate(content["categories"]):
        try:
            categories.append(_named(entry, "name"))
            if not isinstance(categories[-1]["id"], int):
                raise ValueError(f".id is {_short(entry['id'])}, not an integer")
        except ValueError as error:
            raise ConversionError(f"{file}: categories[{i}]{error}") from None
    images, categories = _without_repeats(images, "file_name"), _without_repeats(categories, "name")
    if repeated := _repeated_ids(categories):
        raise ConversionError(f"{file}: several categories have the id {min(repeated)}")
    repeated = _repeated_ids(images)
    for entry in images:
        if entry["id"] in repeated:
            report.leave_out("image: several have its id", f"{file}: {entry['file_name']!r} with the id {entry['id']}")
    images = [entry for entry in images if entry["id"] not in repeated]
    return {"images": images, "annotations": content["annotations"], "categories": categories}


def _without_repeats(entries: Sequence[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """Drop entries with the id and name of an earlier one."""
    return list({(entry["id"], entry[name].strip()): entry for entry in reversed(entries)}.values())[::-1]


def _repeated_ids(entries: Sequence[Mapping[str, Any]]) -> set[Any]:
    return {identity for identity, count in Counter(entry["id"] for entry in entries).items() if count > 1}


def _named(entry: Any, name: str) -> dict[str, Any]:
    """Check that an entry has an id and a name, and normalise its id.

    Raises:
        ValueError: If not; the message begins with "." and the key.
    """
    if not isinstance(entry, dict):
        raise ValueError(f" is {_short(entry)}, not an object")
    for key in ("id", name):
        if key not in entry:
            raise ValueError(f".{key} is missing")
    if (identity := _identity(entry["id"])) is None:
        raise ValueError(f".id is {_short(entry['id'])}, not an integer")
    if not isinstance(entry[name], str):
        raise ValueError(f".{name} is {_short(entry[name])}, not a text")
    if not _is_writable(entry[name]):
        raise ValueError(f".{name} is {_short(entry[name])}, not a valid name")
    return {**entry, "id": identity}


def _identity(value: Any) -> int | str | None:
    """Return an id as an integer ("7" and 7.0, too) or else as text; None if it is neither."""
    if isinstance(value, str):
        text = value.strip()
        integer = re.fullmatch(r"([+-]?[0-9]{1,18})(\.0*)?", text)
        value = int(integer[1]) if integer else text
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int | str) and not isinstance(value, bool) and value != "" else None


def _is_writable(name: str) -> bool:
    """Return whether a name can be encoded and used for a file."""
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        return False
    longest = max(map(len, encoded.split(b"/")))
    return 0 < len(encoded) <= LONGEST_PATH and longest <= LONGEST_NAME and b"\0" not in encoded


def _classes(files: Mapping[str, Path], contents: Mapping[str, Any]) -> tuple[dict[int, int], tuple[str, ...]]:
    """Return the class number of each category id, and the class names."""
    names: dict[int, str] = {}
    for split, content in contents.items():
        for category in content["categories"]:
            name = category["name"].strip()
            if names.setdefault(category["id"], name) != name:
                raise ConversionError(
                    f"{files[split]}: category {category['id']} is {name!r}, in another split {names[category['id']]!r}"
                )
    if not names:
        raise ConversionError(f"{next(iter(files.values()))}: categories is empty")
    classes = list(dict.fromkeys(names[category] for category in sorted(names)))
    return {category: classes.index(name) for category, name in names.items()}, tuple(classes)


def _class_names(source: Path, options: Mapping[str, Any]) -> tuple[str, ...]:
    files = _json_files(source, options)
    return _classes(files, {split: _load(file, Report()) for split, file in files.items()})[1]


def _read_split(
    source: Path,
    split: str,
    file: Path,
    content: Mapping[str, Sequence[Mapping[str, Any]]],
    numbers: Mapping[int, int],
    options: Mapping[str, Any],
    report: Report,
) -> Iterator[SourcePair]:
    folders = {name: _in_source(source, options, name, split) for name in MODALITIES}
    for name, folder in folders.items():
        if not folder.is_dir():
            raise ConversionError(
                f"{folder} is not a folder: name that of {name} with the option {name} (in {source} there are: "
                f"{folders_in(source)})"
            )
    shared = _pattern(options["match"])
    files = {name: _by_stem(folder) for name, folder in folders.items()}
    partners = {name: _shared(found, shared) for name, found in files.items()}
    by_image = _labels(file, content, numbers, report)
    _note_sizes(file, content["images"], report)
    places, names = {}, NamesByEnd(files["rgb"])
    for entry in content["images"]:
        try:
            place = _locate(entry["file_name"], folders["rgb"], files["rgb"], names)
            places[entry["id"]] = place, _shared_stem(place, folders["rgb"], shared)
        except ValueError as error:
            report.leave_out(f"image: {error}", f"{file}: {entry['file_name']!r}")
    entries: defaultdict[str, list[Any]] = defaultdict(list)
    for entry in content["images"]:
        if entry["id"] in places:
            entries[places[entry["id"]][1]].append(entry)
    found_any = False
    for entry in content["images"]:
        if entry["id"] not in places:
            continue
        place, stem = places[entry["id"]]
        same = entries[stem]
        of_rgb = [other for other in same if not _lies_in(other["file_name"], folders["ir"], folders["rgb"])]
        if len(same) > 1 and [entry] != of_rgb:
            what = "image: an entry of ir, of a pair that has one of rgb" if len(of_rgb) == 1 else SEVERAL
            report.leave_out(what, f"{file}: {entry['file_name']!r}")
            continue
        images = {}
        for modality, folder in folders.items():
            exact, candidates = folder / place.relative_to(folders["rgb"]), partners[modality][stem]
            if exact in candidates or not candidates:
                images[modality] = exact
            elif len(candidates) == 1:
                images[modality] = candidates[0]
            else:
                report.leave_out(f"pair: several {modality} images of a name", f"{split}/{stem}")
                break
        if len(images) == len(folders):
            found_any = found_any or images["rgb"].is_file()
            yield SourcePair(split, stem, images, by_image.get(entry["id"], []), size=_size(entry))
    if content["images"] and not found_any:
        if SEVERAL in report.left_out:
            raise ConversionError(f"{file}: several entries name each image in {folders['rgb']}: keep one of each")
        raise ConversionError(
            f"none of the images that {file} names is in {folders['rgb']}, the first is "
            f"{content['images'][0]['file_name']!r}: name the folder that file_name is relative to with the option rgb"
        )


def _lies_in(name: str, folder: Path, rather_than: Path) -> bool:
    """Return whether the folders in a file name are those of one folder more than those of another."""
    parts = PurePosixPath(name.replace("\\", "/")).parts[:-1]

    def agreement(path: Path) -> int:
        pairs = zip(reversed(parts), reversed(path.parts), strict=False)
        return next((i for i, (one, other) in enumerate(pairs) if one != other), min(len(parts), len(path.parts)))

    return agreement(folder) > agreement(rather_than)


def _pattern(text: str) -> re.Pattern[str] | None:
    """Return the regular expression of the option match, if any."""
    try:
        return match_pattern(text) if text else None
    except ValueError as error:
        raise ConversionError(f"match={text!r} {error}") from None


def _by_stem(folder: Path) -> dict[str, list[Path]]:
    index = defaultdict(list)
    for file in list_images(folder):
        index[stem_of(file, folder)].append(Path(file))
    return dict(index)


def _shared(files: Mapping[str, list[Path]], shared: re.Pattern[str] | None) -> defaultdict[str, list[Path]]:
    """Index files by the part of their stem that partners share; others are dropped."""
    index: defaultdict[str, list[Path]] = defaultdict(list)
    for stem, same in files.items():
        if shared is None or has_naming(stem, shared):
            index[shared_part(stem, shared or "")] += same
    return index


def _locate(name: str, folder: Path, files: Mapping[str, list[Path]], names: NamesByEnd) -> Path:
    """Return the path below a folder for the file name of an annotation, which may be a path on another disk.

    Raises:
        ValueError: If the name leads out of the folder and matches no file in it, or several.
    """
    if is_address := "://" in name:
        name = unquote(urlsplit(name).path)
    try:
        place = None if is_address else inside(folder, name)
    except ConversionError:
        place = None
    if place is not None and (place.exists() or stem_of(place, folder) in files):
        return place
    spellings = dict.fromkeys(
        unicodedata.normalize(form, text.strip()) for text in (name, unquote(name)) for form in ("NFC", "NFD")
    )
    stem = next(filter(None, map(names.find, spellings)), None)
    if stem is None:
        if place is not None:
            return place  # reported as missing later
        raise ValueError("its name leads out of the folder, and not to one file in it")
    suffix = PurePosixPath(name.strip()).suffix
    same = [file for file in files[stem] if file.suffix == suffix] or files[stem]
    if len(same) > 1:
        raise ValueError("its name leads out of the folder, and several files in it have that name")
    return same[0]


def _shared_stem(file: Path, folder: Path, shared: re.Pattern[str] | None) -> str:
    stem = stem_of(file, folder)
    if shared is not None and not has_naming(stem, shared):
        raise ValueError("its name does not match the option match")
    return shared_part(stem, shared or "")


def _size(entry: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the (height, width) in pixels that the JSON states for an image; None if it is missing or impossible."""
    try:
        height, width = (_number(entry.get(key), key) for key in ("height", "width"))
    except ValueError:
        return None
    possible = height.is_integer() and width.is_integer() and height > 0 and width > 0
    return (int(height), int(width)) if possible else None


def _note_sizes(file: Path, images: Sequence[Mapping[str, Any]], report: Report) -> None:
    """Note images whose stated size is impossible."""
    stated = [entry for entry in images if entry.get("height") is not None or entry.get("width") is not None]
    if wrong := [entry for entry in stated if _size(entry) is None]:
        width, height = (_short(wrong[0].get(key)) for key in ("width", "height"))
        report.notes.append(
            f"{file}: {len(wrong)} images state a size that none can have, for example {width}×{height} of "
            f"{wrong[0]['file_name']!r}: their labels are taken for the RGB image"
        )


def _labels(
    file: Path, content: Mapping[str, Sequence[Mapping[str, Any]]], numbers: Mapping[int, int], report: Report
) -> dict[int | str, list[Label]]:
    """Return the labels by image id."""
    sizes = {entry["id"]: _size(entry) for entry in content["images"]}
    labels: defaultdict[int | str, list[Label]] = defaultdict(list)
    boxes_only = total = 0
    for i, entry in enumerate(content["annotations"]):
        where = f"{file}: annotations[{i}]"
        if not isinstance(entry, dict):
            report.leave_out("box: not a JSON object", f"{where} is {_short(entry)}")
            continue
        image, category = _identity(entry.get("image_id")), _identity(entry.get("category_id"))
        if image is None or image not in sizes:
            report.leave_out("box: unknown image_id", f"{where}.image_id is {_short(entry.get('image_id'))}")
        elif not isinstance(category, int) or category not in numbers:
            report.leave_out("box: unknown category_id", f"{where}.category_id is {_short(entry.get('category_id'))}")
        elif (crowd := _flag(entry.get("iscrowd"))) is None:
            report.leave_out("box: iscrowd is neither 0 nor 1", f"{where}.iscrowd is {_short(entry['iscrowd'])}")
        elif crowd:
            report.leave_out("box: a crowd, not an object", where)
        else:
            try:
                points = _points(entry, sizes[image], where, report)
            except ValueError as error:
                report.leave_out("box: no usable coordinates", f"{where}.{error}")
                continue
            labels[image].append(Label(numbers[category], points))
            total += 1
            boxes_only += len(points) == 2
    if boxes_only:
        report.notes.append(f"{file}: {boxes_only} of {total} objects have no polygons, labels_seg has their boxes")
    return labels


def _flag(value: Any) -> bool | None:
    """Return a flag, False if missing, or None if it is not one."""
    identity = 0 if value in (None, "") else int(value) if isinstance(value, bool) else _identity(value)
    return bool(identity) if identity in (0, 1) else None


def _points(entry: Mapping[str, Any], size: tuple[int, int] | None, where: str, report: Report) -> Points:
    """Read the outline of an object, or else its box.

    Args:
        entry: Its annotation.
        size: (height, width) that the JSON states for its image, if any.
        where: Place of the annotation, for the report.
        report: Counts what cannot be read.

    Raises:
        ValueError: If neither can be read; the message begins with the key.
    """
    box: Box | None = None
    fault = ValueError()
    try:
        box = _box(_parsed(entry.get("bbox")))
    except ValueError as error:
        fault = error
    segmentation = _parsed(entry.get("segmentation")) or None
    if isinstance(segmentation, list) and len(segmentation) == 1 and isinstance(segmentation[0], dict):
        segmentation = segmentation[0]
    if isinstance(segmentation, dict):
        box = box or _box_of_mask(segmentation, size)
        report.leave_out("outline: run lengths (RLE), replaced by the box", where)
    elif segmentation is not None:
        try:
            return _outline(_polygons(segmentation), box, where, report)
        except ValueError as error:
            if box is not None:
                report.leave_out("outline: no usable polygons, replaced by the box", f"{where}.{error}")
    if box is None:
        raise fault
    return box


def _parsed(value: Any) -> Any:
    """Parse a text that holds a JSON list or object; return any other value unchanged."""
    if not isinstance(value, str) or value.strip()[:1] not in ("[", "{"):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _outline(polygons: Sequence[np.ndarray], box: Box | None, where: str, report: Report) -> Points:
    """Join polygons to one outline, and report a box that does not enclose it."""
    outline = (
        polygons[0]
        if len(polygons) == 1
        else np.concatenate(merge_multi_segment([polygon.tolist() for polygon in polygons]))
    )
    if box is not None and np.abs(np.array([outline.min(0), outline.max(0)]) - box).max() > DISAGREEMENT:
        report.leave_out("bbox: differs from its polygons, which are used", where)
    return tuple(map(tuple, outline.tolist()))


def _box(value: Any) -> Box:
    if not isinstance(value, list) or len(value) != 4:
        raise ValueError(f"bbox is {_short(value)}, not [x, y, width, height]")
    x, y, width, height = (_number(element, f"bbox[{i}]") for i, element in enumerate(value))
    return box_of(x, y, width, height, "bbox")


def _box_of_mask(value: Mapping[str, Any], stated: tuple[int, int] | None) -> Box:
    """Return the box around a mask of run lengths, plain or compressed to text by COCO's tools.

    Args:
        value: The mask, with "size" and "counts".
        stated: (height, width) of its image, to which the box is scaled if the mask has another size.

    Raises:
        ValueError: If it cannot be read, is empty, or differs in shape from the image.
    """
    size, counts = value.get("size"), value.get("counts")
    sides = [side for side in map(_identity, size) if isinstance(side, int)] if isinstance(size, list) else []
    if len(sides) != 2 or not all(0 < side <= LARGEST_COORDINATE for side in sides):
        raise ValueError(f"segmentation.size is {_short(size)}, not [height, width]")
    height, width = sides
    image_height, image_width = stated or (height, width)
    down, across = image_height / height, image_width / width
    if abs(down / across - 1) > SAME_SHAPE:
        raise ValueError(
            f"segmentation.size is {_short(size)}, but the image is {image_height}×{image_width} (height×width)"
        )
    runs = _runs(counts)
    if not runs or min(runs) < 0 or sum(runs) > height * width:
        raise ValueError(f"segmentation.counts is {_short(counts)}, not the run lengths of {width}×{height} pixels")
    encoded = run_lengths.frPyObjects({"size": sides, "counts": runs}, height, width)
    x, y, box_width, box_height = run_lengths.toBbox(encoded).tolist()
    if box_width <= 0 or box_height <= 0 or x + box_width > width or y + box_height > height:
        raise ValueError(f"segmentation has no pixel in {width}×{height}")
    return (x * across, y * down), ((x + box_width) * across, (y + box_height) * down)


def _runs(counts: Any) -> list[int]:
    """Return run lengths, or [] if they cannot be read.

    Compressed to text, each character from "0" on holds five bits, and runs from the third on are differences.
    pycocotools decodes such text without checking it.
    """
    if isinstance(counts, list):
        runs = [run for run in map(_identity, counts) if isinstance(run, int)]
        return runs if len(runs) == len(counts) else []
    runs, value, shift = [], 0, 0
    for character in counts if isinstance(counts, str) else "":
        bits = ord(character) - ord("0")
        if not 0 <= bits < 64 or shift > 60:
            return []
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:  # this number continues
            continue
        if bits & 0x10:  # negative
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value, shift = 0, 0
    return [] if shift else runs


def _polygons(value: Any) -> list[np.ndarray]:
    """Read polygons as arrays of shape (N, 2)."""
    polygons = []
    nested = isinstance(value, list) and isinstance(value[0], list) and not _are_points(value)
    for i, flat in enumerate(value if nested else [value]):
        if _are_points(flat):
            flat = [number for point in flat for number in point]
        if not isinstance(flat, list) or len(flat) < 6 or len(flat) % 2:
            raise ValueError(f"segmentation[{i}] is {_short(flat)}, not [x1, y1, x2, y2, x3, y3, …]")
        numbers = [_number(element, f"segmentation[{i}][{j}]") for j, element in enumerate(flat)]
        polygons.append(np.array(numbers).reshape(-1, 2))
    if any(len(one) * len(next_one) > MOST_DISTANCES for one, next_one in pairwise(polygons)):
        raise ValueError(f"segmentation has {sum(map(len, polygons))} points, too many to join its polygons")
    return polygons


def _are_points(value: Any) -> bool:
    """Return whether a value is a list of points [x, y]."""
    return isinstance(value, list) and all(isinstance(point, list) and len(point) == 2 for point in value)


def _number(value: Any, what: str) -> float:
    """Read a coordinate as `number` does, but reject JSON's true and false."""
    if isinstance(value, bool):
        raise ValueError(f"{what} is {_short(value)}, not a number")
    return number(value, what)


def _short(value: Any) -> str:
    text = json.dumps(value)  # in ASCII, since untrusted text may not be encodable
    return text if len(text) <= 60 else f"{text[:60]}…"


COCO = Format(
    name="coco",
    **vars(OFFERS["coco"]),
    modalities=MODALITIES,
    read=read,
    classes=_class_names,
    outlines="labels_seg",
)
