"""From a dataset as it was published to the folders that training reads; what all formats share.

A format (one module of `mwam_det.data.formats` each) tells which samples a source holds. Here they are checked, written
and counted. The source is never changed.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np

from mwam_det.data.layout import DatasetError
from mwam_det.data.pairing import image_size

RECORD = "conversion.json"
"""Stands in a finished folder: what was converted and what was left out."""

UNFINISHED = "conversion.unfinished.json"
"""Stands in a folder whose conversion was interrupted: what was being converted."""

LARGEST_COORDINATE = 1e6
"""Labels with larger numbers, in pixels, are refused: no image is so large."""

EXAMPLES = 5
"""So many examples are given for each reason to leave something out."""

JPEG_QUALITY = 95
"""Of images that had to be changed; lower settings quantise away the high frequencies that tell modalities apart."""


class ConversionError(DatasetError):
    """A source cannot be converted, or not to this place; the message says what to do."""


@dataclass(frozen=True)
class Label:
    """One object.

    Attributes:
        class_id: Its class, from 0.
        points: Corners of its outline (four for an oriented box) or two opposite corners of a horizontal box, shape
            (N, 2) as nested tuples, (x, y) in pixels of the image in the source.
    """

    class_id: int
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Sample:
    """One image in all modalities, as the source holds it.

    Attributes:
        split: "train", "val" or "test".
        stem: Name in the converted set, without suffix, unique in its split; may contain "/".
        images: Its file in the source by modality, the first modality first.
        labels: Its objects.
        extras: Files that are taken over as they are, by the folder that they go to, like {"masks": Path(…)}.
    """

    split: str
    stem: str
    images: Mapping[str, Path]
    labels: Sequence[Label] = ()
    extras: Mapping[str, Path] = field(default_factory=dict)


class Report:
    """Counts what was left out and why, with a few examples, and what to tell the user besides.

    Attributes:
        notes: Sentences for the user.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []
        self._counts: Counter[str] = Counter()
        self._examples: defaultdict[str, list[str]] = defaultdict(list)

    def leave_out(self, reason: str, what: object, count: int = 1) -> None:
        """Count something that is left out, like ("box: class '*'", file)."""
        self._counts[reason] += count
        if len(self._examples[reason]) < EXAMPLES and str(what) not in self._examples[reason]:
            self._examples[reason].append(str(what))

    @property
    def left_out(self) -> dict[str, dict[str, Any]]:
        """Number and examples by reason, the most frequent reason first."""
        return {
            reason: {"count": count, "examples": self._examples[reason]} for reason, count in self._counts.most_common()
        }


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
class Format:
    """How one dataset is published.

    Attributes:
        name: What the user calls it.
        title: Full name and source, one line.
        modalities: Folder in the converted set by modality, the first modality first.
        read: Lists the samples of a source: read(source, options, report). `options` has a value for every option.
            Raises `ConversionError` if the source is not of this format, naming what was looked for.
        classes: Class names, or a function of source and options that lists them.
        outlines: Where outlines go besides the horizontal boxes in "labels": a folder such as "labels_obb", or None.
        options: Options by name.
        expected: Pairs that the complete set has by split, or a function of the options that tells them.
        crop: Part of every image that is kept, (top, bottom, left, right) in pixels, None for all of it, or a function
            of the options. Labels are shifted with it.
        recipe: Recipe in cfg/ that belongs to it, or None: then one is written to the converted set.
        data: More keys of the data section that is written then.
    """

    name: str
    title: str
    modalities: Mapping[str, str]
    read: Callable[[Path, Mapping[str, Any], Report], Iterable[Sample]]
    classes: Sequence[str] | Callable[[Path, Mapping[str, Any]], Sequence[str]]
    outlines: str | None = None
    options: Mapping[str, Option] = field(default_factory=dict)
    expected: Mapping[str, int] | Callable[[Mapping[str, Any]], Mapping[str, int]] = field(default_factory=dict)
    crop: tuple[int, int, int, int] | None | Callable[[Mapping[str, Any]], tuple[int, int, int, int] | None] = None
    recipe: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


def inside(folder: Path, name: str) -> Path:
    """Return the path of a file that an annotation names, which must lie in `folder`.

    Raises:
        ConversionError: If the name is absolute or leads out of the folder.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if not name or path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        raise ConversionError(f"an annotation in {folder} names the file {name!r}, which lies outside of it")
    return folder / path


def number(text: Any, what: str) -> float:
    """Read a coordinate.

    Raises:
        ValueError: If it is no finite number, or larger than any image.
    """
    try:
        value = float(text)
    except (TypeError, ValueError):
        raise ValueError(f"{what} is {text!r}, not a number") from None
    if not math.isfinite(value) or abs(value) > LARGEST_COORDINATE:
        raise ValueError(f"{what} is {text!r}, which is no place in an image")
    return value


def convert(
    format_: Format, source: str | Path, destination: str | Path, options: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Convert a dataset.

    Images are hard-linked where they need no change, or copied where links are not possible. The result has a folder a
    modality, "labels" (YOLO boxes) and perhaps one for outlines, each with a folder a split. A conversion that was
    interrupted goes on when it is called again with the same source and options: images that were written stay.

    Args:
        format_: The format, see `mwam_det.data.formats.FORMATS`.
        source: Folder of the dataset as published.
        destination: Folder to write to: new, empty, or that of an interrupted conversion of the same source.
        options: Options of the format that are not to have their default.

    Returns:
        What conversion.json holds: "format", "source", "options", "splits" (pairs and boxes a class), "left_out"
        (count and examples by reason), "notes".

    Raises:
        ConversionError: If the source is not of this format, holds no usable pair, or the destination is in use.
    """
    source, destination = Path(source).expanduser().resolve(), Path(destination).expanduser().resolve()
    options = _checked_options(format_, options or {})
    if not source.is_dir():
        raise ConversionError(f"{source} is not a folder: give the folder of {format_.title}")
    if destination == source or source in destination.parents or destination in source.parents:
        raise ConversionError(f"{destination} and the source {source} must not lie in each other")
    request = {"format": format_.name, "source": str(source), "options": options}
    _claim(destination, request)

    classes = list(format_.classes(source, options) if callable(format_.classes) else format_.classes)
    report = Report()
    samples = list(format_.read(source, options, report))
    _check_stems(samples)
    counts = {sample.split: {"pairs": 0, "boxes": dict.fromkeys(classes, 0)} for sample in samples}
    crop = format_.crop(options) if callable(format_.crop) else format_.crop
    for sample, kept in _in_threads(lambda sample: _write(sample, format_, crop, destination), samples):
        if isinstance(kept, _LeftOut):
            report.leave_out(kept.reason, kept.what)
            continue
        labels, dropped = kept
        for reason in dropped:
            report.leave_out(reason, f"{sample.split}/{sample.stem}")
        counts[sample.split]["pairs"] += 1
        for label in labels:
            counts[sample.split]["boxes"][classes[label.class_id]] += 1
    if not any(split["pairs"] for split in counts.values()):
        reasons = "; ".join(f"{reason} ({entry['count']})" for reason, entry in report.left_out.items())
        raise ConversionError(f"no usable pair in {source}" + (f": {reasons}" if reasons else ""))
    _compare(format_, options, counts, report)
    if format_.recipe is None:
        _write_recipe(format_, classes, counts, destination)
    record = {**request, "splits": counts, "left_out": report.left_out, "notes": report.notes}
    _write_json(destination / RECORD, record)
    (destination / UNFINISHED).unlink()
    return record


def _checked_options(format_: Format, options: Mapping[str, Any]) -> dict[str, Any]:
    if unknown := options.keys() - format_.options.keys():
        known = ", ".join(format_.options) or "none"
        raise ConversionError(f"{format_.name} has no option {', '.join(sorted(unknown))}: it has {known}")
    checked = {name: options.get(name, option.default) for name, option in format_.options.items()}
    for name, value in checked.items():
        if (choices := format_.options[name].choices) and value not in choices:
            raise ConversionError(f"{name}={value!r} is unknown: choose from {', '.join(map(str, choices))}")
    return checked


def _claim(destination: Path, request: Mapping[str, Any]) -> None:
    """Make the destination ours, if it is new, empty or was left by the same conversion."""
    if destination.is_file():
        raise ConversionError(f"{destination} is a file: name a new folder")
    marker = destination / UNFINISHED
    if marker.is_file():
        begun = json.loads(marker.read_text(encoding="utf-8"))
        if begun != dict(request):
            raise ConversionError(
                f"{destination} holds an unfinished conversion of {begun.get('source')} with {begun.get('options')}: "
                "finish that one, or name a new folder"
            )
        return
    if destination.is_dir() and any(destination.iterdir()):
        done = " (a finished conversion)" if (destination / RECORD).is_file() else ""
        raise ConversionError(f"{destination} is not empty{done}: name a new folder, nothing is overwritten")
    destination.mkdir(parents=True, exist_ok=True)
    _write_json(marker, dict(request))


def _check_stems(samples: Sequence[Sample]) -> None:
    for name, count in Counter((sample.split, sample.stem.casefold()) for sample in samples).items():
        if count > 1:
            raise ConversionError(f"{count} samples would be written to {'/'.join(name)}")
    for sample in samples:
        inside(Path(sample.split), sample.stem)


@dataclass(frozen=True)
class _LeftOut:
    """Why a whole sample is left out, and which."""

    reason: str
    what: str


def _in_threads(work: Callable[[Sample], Any], samples: Sequence[Sample]) -> Iterator[tuple[Sample, Any]]:
    """Do the work for every sample, several at once, under a progress bar; results come in order."""
    from rich.progress import track

    workers = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        try:
            yield from zip(samples, track(pool.map(work, samples), "Converting", len(samples)), strict=True)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _write(
    sample: Sample, format_: Format, crop: tuple[int, int, int, int] | None, destination: Path
) -> _LeftOut | tuple[list[Label], list[str]]:
    """Write one sample. Returns the labels that were kept and the reasons why others were not."""
    sizes = {}
    for name in format_.modalities:
        file = sample.images.get(name)
        if file is None or not file.is_file():
            return _LeftOut(f"pair: no {name} image", f"{sample.split}/{sample.stem}")
        try:
            sizes[name] = image_size(file)
        except ValueError as error:
            return _LeftOut(f"pair: {name} image unreadable", str(error))
        if crop is not None and (sizes[name][0] < crop[1] or sizes[name][1] < crop[3]):
            return _LeftOut(f"pair: {name} image smaller than the part to keep", f"{file} {sizes[name]}")
    size, offset = sizes[next(iter(format_.modalities))], (0, 0)
    if crop is not None:
        size, offset = (crop[1] - crop[0], crop[3] - crop[2]), (crop[2], crop[0])
    labels, dropped = fit_labels(sample.labels, size, offset)
    for name, folder in format_.modalities.items():
        _write_image(sample.images[name], destination / folder / sample.split / sample.stem, crop)
    for folder, file in sample.extras.items():
        _link(file, destination / folder / sample.split / f"{sample.stem}{file.suffix}")
    boxes = [_yolo_line(label.class_id, _box(label.points), size) for label in labels]
    _write_text(destination / "labels" / sample.split / f"{sample.stem}.txt", boxes)
    if format_.outlines:
        outlines = [_yolo_line(label.class_id, _outline(label.points), size) for label in labels]
        _write_text(destination / format_.outlines / sample.split / f"{sample.stem}.txt", outlines)
    return labels, dropped


def fit_labels(
    labels: Iterable[Label], size: tuple[int, int], offset: tuple[int, int] = (0, 0)
) -> tuple[list[Label], list[str]]:
    """Bring labels to an image: shift them, leave out those with their centre outside, clip the others to its border.

    Args:
        labels: Labels in pixels of the source.
        size: (height, width) of the image, in pixels.
        offset: (x, y) of its top left corner in the source.

    Returns:
        Labels in pixels of the image, and a reason for each that is left out.
    """
    kept, dropped = [], []
    limits = np.array([size[1], size[0]], float)
    for label in labels:
        points = np.array(label.points, float) - offset
        low, high = points.min(0), points.max(0)
        centre = (low + high) / 2
        if (centre < 0).any() or (centre >= limits).any():
            dropped.append("box: centre outside of the image")
            continue
        points = np.clip(points, 0, limits)
        if (points.max(0) - points.min(0) < 1).any():
            dropped.append("box: less than a pixel wide or high")
            continue
        kept.append(Label(label.class_id, tuple(map(tuple, points.tolist()))))
    return kept, dropped


def _box(points: Sequence[tuple[float, float]]) -> np.ndarray:
    """Return centre and sides, shape (2, 2), of the horizontal box around points."""
    low, high = np.min(points, 0), np.max(points, 0)
    return np.stack([(low + high) / 2, high - low])


def _outline(points: Sequence[tuple[float, float]]) -> np.ndarray:
    """Return the points, or the four corners if two stand for a horizontal box."""
    if len(points) > 2:
        return np.array(points)
    (x1, y1), (x2, y2) = points
    return np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)])


def _yolo_line(class_id: int, pairs: np.ndarray, size: tuple[int, int]) -> str:
    normalised = (pairs / (size[1], size[0])).ravel()
    return " ".join([str(class_id), *(f"{value:.7f}" for value in normalised)])


def _write_image(file: Path, target: Path, crop: tuple[int, int, int, int] | None) -> None:
    """Write an image to `target` plus its suffix: a link, or the part that is kept."""
    target = target.with_name(target.name + file.suffix.lower())
    if crop is None:
        _link(file, target)
        return
    if target.exists():
        return
    top, bottom, left, right = crop
    pixels = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    done, encoded = cv2.imencode(
        target.suffix, pixels[top:bottom, left:right], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    )
    if not done:
        raise ConversionError(f"{file} cannot be written as {target.suffix}")
    _replace(target, lambda unfinished: unfinished.write_bytes(encoded.tobytes()))


def _link(file: Path, target: Path) -> None:
    """Hard-link a file, or copy it where that is not possible (another disk, or a file system without links)."""

    def link(unfinished: Path) -> None:
        try:
            os.link(file.resolve(), unfinished)
        except OSError:
            shutil.copyfile(file, unfinished)

    if not target.exists():
        _replace(target, link)


def _write_text(target: Path, lines: Sequence[str]) -> None:
    _replace(target, lambda unfinished: unfinished.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8"))


def _write_json(target: Path, content: Any) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False)
    _replace(target, lambda unfinished: unfinished.write_text(f"{text}\n", encoding="utf-8"))


def _replace(target: Path, write: Callable[[Path], object]) -> None:
    """Write a file under another name first, so that an interruption leaves none that looks finished."""
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    write(unfinished)
    os.replace(unfinished, target)


def _compare(format_: Format, options: Mapping[str, Any], counts: Mapping[str, Any], report: Report) -> None:
    """Note where the complete set has another number of pairs."""
    expected = format_.expected(options) if callable(format_.expected) else format_.expected
    for split, number_expected in expected.items():
        pairs = counts.get(split, {"pairs": 0})["pairs"]
        if pairs != number_expected:
            report.notes.append(f"{split}: {pairs} pairs, the complete set has {number_expected}")


def _write_recipe(format_: Format, classes: Sequence[str], counts: Mapping[str, Any], destination: Path) -> None:
    """Write a recipe for a set whose classes are known only now."""
    import yaml

    data = {
        "path": str(destination),
        "modalities": dict(format_.modalities),
        "labels": "labels",
        **{split: split for split in ("train", "val", "test") if split in counts},
        "names": dict(enumerate(classes)),
        **format_.data,
    }
    text = yaml.safe_dump(
        {"task": "detect", "model": "yolov8n.yaml", "data": data}, sort_keys=False, allow_unicode=True
    )
    _replace(destination / "recipe.yaml", lambda unfinished: unfinished.write_text(text, encoding="utf-8"))
