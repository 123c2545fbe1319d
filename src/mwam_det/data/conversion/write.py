"""From a dataset as it was published to the folders that training reads; what all formats share.

A format (one module of `mwam_det.data.formats` each) tells which samples a source holds. Here they are checked, written
and counted. The source is never changed.

Sources come from strangers. Names that an annotation gives may not leave the source (`inside`), numbers must be places
in an image (`number`), and only files that decode as images are taken over. Links in the source are followed wherever
they lead, because people put large sets together from links to several disks.

Images are taken as training reads them, that is turned as their EXIF tag says, and labels are for these pixels.
"""

from __future__ import annotations

import filecmp
import json
import math
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from ultralytics.data.utils import IMG_FORMATS

from mwam_det.data.conversion.doubts import Evidence, Tally, doubts_of, notes_of
from mwam_det.data.pairing import image_size
from mwam_det.data.reading import AS_STORED, decode
from mwam_det.data.section import SPLITS, DatasetError, Modality
from mwam_det.files.locks import LOCK, Hold
from mwam_det.files.writing import written_whole

if TYPE_CHECKING:
    from rich.console import RenderableType

RECORD = "conversion.json"
"""Stands in a finished folder: what was converted and what was left out."""

UNFINISHED = "conversion.unfinished.json"
BEGINNING = {UNFINISHED, f".{UNFINISHED}.unfinished", LOCK}
"""What a conversion leaves in its destination before it has written anything."""
"""Stands in a folder whose conversion was interrupted: what was being converted."""

LARGEST_COORDINATE = 1e6
"""Labels with larger numbers, in pixels, are refused: no image is so large."""

EXAMPLES = 5
"""So many examples are given for each reason to leave something out."""

LONGEST_TEXT = 300
"""Longer reasons and examples, in characters, are cut: they hold names that strangers chose."""

SAME_SHAPE = 0.02
"""Largest difference of two aspect ratios by which an image is still the other one resized."""

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
        extras: Images that are taken over as they are, by the folder that they go to, like {"masks": Path(…)}.
        size: (height, width) of the image that the labels are for, in pixels, if the annotation states it. Where the
            images differ in size, it tells which of them is meant; without it, the first modality is.
    """

    split: str
    stem: str
    images: Mapping[str, Path]
    labels: Sequence[Label] = ()
    extras: Mapping[str, Path] = field(default_factory=dict)
    size: tuple[int, int] | None = None


class Report:
    """Counts what was left out and why, with a few examples, and what to tell the user besides.

    Attributes:
        notes: Sentences for the user.
        files: Text files to write beside conversion.json, content by name, like a split that was drawn.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.files: dict[str, str] = {}
        self._counts: Counter[str] = Counter()
        self._examples: defaultdict[str, list[str]] = defaultdict(list)

    def leave_out(self, reason: str, what: object, count: int = 1) -> None:
        """Count something that is left out, like ("box: class '*'", file)."""
        reason, example = _printable(reason), _printable(str(what))
        self._counts[reason] += count
        if len(self._examples[reason]) < EXAMPLES and example not in self._examples[reason]:
            self._examples[reason].append(example)

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
        ConversionError: If the name is empty, absolute (on Linux or Windows), leads out of the folder or holds a zero
            byte.
    """
    path, drive = PurePosixPath(name.replace("\\", "/")), PureWindowsPath(name).drive
    if not path.parts or path.is_absolute() or drive or ".." in path.parts or "\0" in name:
        raise ConversionError(f"an annotation in {folder} names the file {name!r}, which lies outside of it")
    return folder / path


def files_by_stem(folder: Path, suffixes: Collection[str], what: str, report: Report) -> dict[str, Path]:
    """List the files that lie in a folder by name without suffix, in order; hidden ones are passed over.

    Where several share a name, nobody can tell which is meant: all are left out and reported.

    Args:
        folder: The folder; folders in it are not looked into.
        suffixes: Suffixes that count, without dot, in lower case.
        what: What the files are, for the report, like "rgb image".
        report: Takes what was left out.
    """
    found = defaultdict(list)
    for file in sorted(folder.iterdir()):
        if file.suffix[1:].lower() in suffixes and not file.name.startswith(".") and file.is_file():
            found[file.stem].append(file)
    for files in found.values():
        if len(files) > 1:
            report.leave_out(f"{what}: several of one name", ", ".join(map(str, files)), len(files))
    return {stem: files[0] for stem, files in found.items() if len(files) == 1}


def number(text: Any, what: str) -> float:
    """Read a coordinate: a number, or its text as tools write it, with or without a decimal point.

    Raises:
        ValueError: If it is no finite number, or larger than any image.
    """
    try:
        value = float(text)
        if isinstance(text, str) and ("_" in text or not text.isascii()):  # Python also reads "1_0" and "٣"
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{what} is {text!r}, not a number") from None
    if not math.isfinite(value) or abs(value) > LARGEST_COORDINATE:
        raise ValueError(f"{what} is {text!r}, which is no place in an image")
    return value


def convert(
    format_: Format, source: str | Path, destination: str | Path, options: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Convert a dataset.

    Images are hard-linked where they need no change, or copied where links are not possible: to edit images in the
    result in place would change the source. The result has a folder a modality, "labels" (YOLO boxes) and perhaps one
    for outlines, each with a folder a split. A conversion that was interrupted goes on when it is called again with the
    same source and options: images that were written stay, and what is no longer in the source is removed.

    Args:
        format_: The format, see `mwam_det.data.formats.FORMATS`.
        source: Folder of the dataset as published.
        destination: Folder to write to: new, empty, or that of an interrupted conversion of the same source.
        options: Options of the format that are not to have their default.

    Returns:
        What conversion.json holds: "format", "source", "options", "splits" (pairs and boxes a class), "left_out"
        (count and examples by reason), "notes", and "doubts": sentences why nobody should train on it without a look.

    Raises:
        ConversionError: If the source is not of this format, holds no usable pair, or the destination holds something.
        FolderInUse: If another process writes to the destination.
    """
    from rich.progress import track

    source, destination = Path(source).expanduser().resolve(), Path(destination).expanduser().resolve()
    options = _checked_options(format_, options or {})
    if not source.is_dir():
        raise ConversionError(f"{source} is not a folder: give the folder of {format_.title}")
    if destination == source or source in destination.parents or destination in source.parents:
        raise ConversionError(f"{destination} and the source {source} must not lie in each other")
    request = {"format": format_.name, "source": str(source), "options": options}
    _check_destination(destination, request)

    classes = list(format_.classes(source, options) if callable(format_.classes) else format_.classes)
    report = Report()
    samples = list(track(format_.read(source, options, report), "Reading labels"))
    _check_stems(samples)
    with _Claim(destination, request) as claim:
        crop = format_.crop(options) if callable(format_.crop) else format_.crop
        counts, tally = _write_all(
            samples, classes, report, lambda sample: _write(sample, format_, crop, destination), claim
        )
        if not any(split["pairs"] for split in counts.values()):
            reasons = "; ".join(f"{reason} ({entry['count']})" for reason, entry in report.left_out.items())
            raise ConversionError(f"no usable pair in {source}" + (f": {reasons}" if reasons else ""))
        _compare(format_, options, counts, report)
        for name, text in report.files.items():
            claim.write(inside(destination, name), text)
        if format_.recipe is None:
            claim.write(destination / "recipe.yaml", _recipe(format_, classes, counts, destination))
        claim.remove_others()
        first = next(iter(format_.modalities))
        notes = [_printable(note) for note in (*report.notes, *notes_of(tally, first))]
        doubts = [_printable(doubt) for doubt in doubts_of(tally, report.left_out, first)]
        record = {**request, "splits": counts, "left_out": report.left_out, "notes": notes, "doubts": doubts}
        _write_text(destination / RECORD, _json(record))
    return record


def summary(record: Mapping[str, Any]) -> RenderableType:
    """Lay out what a conversion did, for the terminal.

    Args:
        record: What `convert` returned, or the content of a conversion.json.

    Returns:
        Pairs and boxes a class by split, what was left out and why with one example each, the notes and the doubts.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    splits = record["splits"]
    kept = Table("", title=f"Converted from {record['format']}")
    for split in splits:
        kept.add_column(split, justify="right")
    kept.add_row("pairs", *(f"{split['pairs']:,}" for split in splits.values()), end_section=True)
    for name in dict.fromkeys(name for split in splits.values() for name in split["boxes"]):
        kept.add_row(Text(name), *(f"{split['boxes'].get(name, 0):,}" for split in splits.values()))
    parts: list[RenderableType] = [kept]
    if record["left_out"]:
        left_out = Table("left out", "number", "for example", title="Not taken over")
        left_out.columns[1].justify = "right"
        for reason, entry in record["left_out"].items():
            # names of files and classes are a stranger's, and would be read as rich's markup
            left_out.add_row(Text(reason), f"{entry['count']:,}", Text(next(iter(entry["examples"]), "")))
        parts.append(left_out)
    parts += [Text(f"Note: {note}") for note in record["notes"]]
    parts += [Text(f"Doubt: {doubt}", style="bold") for doubt in record.get("doubts", ())]
    return Group(*parts)


def _checked_options(format_: Format, options: Mapping[str, Any]) -> dict[str, Any]:
    if unknown := options.keys() - format_.options.keys():
        known = ", ".join(format_.options) or "none"
        raise ConversionError(f"{format_.name} has no option {', '.join(sorted(unknown))}: it has {known}")
    checked = {name: options.get(name, option.default) for name, option in format_.options.items()}
    for name, value in checked.items():
        if (choices := format_.options[name].choices) and value not in choices:
            raise ConversionError(f"{name}={value!r} is unknown: choose from {', '.join(map(str, choices))}")
    return checked


def _check_destination(destination: Path, request: Mapping[str, Any]) -> None:
    """Refuse a destination that is neither new nor empty nor left by the same conversion."""
    if destination.exists() and not destination.is_dir():
        raise ConversionError(f"{destination} is a file: name a new folder")
    there = {path.name for path in destination.iterdir()} if destination.is_dir() else set()
    if not there - BEGINNING:
        return
    if RECORD in there and UNFINISHED not in there:
        raise ConversionError(f"{destination} holds a finished conversion: name a new folder, nothing is overwritten")
    if UNFINISHED not in there:
        raise ConversionError(f"{destination} is not empty: name a new folder, nothing is overwritten")
    try:
        begun = json.loads((destination / UNFINISHED).read_text(encoding="utf-8"))
    except ValueError:
        begun = None
    if not any(set(names) - BEGINNING for _, _, names in os.walk(destination)):
        return  # nothing was written, so nobody loses anything by another request
    if not isinstance(begun, Mapping):
        raise ConversionError(f"{destination / UNFINISHED} is damaged: remove the folder, or name a new one")
    if begun != json.loads(_json(request)):
        given = " ".join(f"{name}={value}" for name, value in dict(begun.get("options") or {}).items())
        raise ConversionError(
            f"{destination} holds an unfinished conversion of {begun.get('source')} as {begun.get('format')}"
            + (f" with {given}" if given else "")
            + ": finish that one, remove the folder, or name a new one"
        )


class _Claim:
    """A destination while it is written to; a context that marks it as unfinished until it ends without an error.

    A conversion that fails before it has written anything leaves the place as it was, free for another try. Meanwhile
    no other process has it.
    """

    def __init__(self, destination: Path, request: Mapping[str, Any]) -> None:
        self._destination, self._request = destination, request
        self._marker = destination / UNFINISHED
        self._written: set[Path] = set()

    def __enter__(self) -> _Claim:
        self._is_new = not self._destination.is_dir()
        self._hold = Hold(self._destination)
        try:
            _check_destination(self._destination, self._request)  # another process may just have finished here
            _write_text(self._marker, _json(self._request))
        except BaseException:
            self._hold.release()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or not {path.name for path in self._destination.iterdir()} - BEGINNING:
            self._marker.unlink()
        self._hold.release()
        if kind is not None and self._is_new and not any(self._destination.iterdir()):
            self._destination.rmdir()

    def add(self, files: Iterable[Path]) -> None:
        """Tell which files belong to the result."""
        self._written.update(files)

    def write(self, file: Path, text: str) -> None:
        """Write a text file that belongs to the result."""
        _write_text(file, text)
        self.add([file])

    def remove_others(self) -> None:
        """Remove what an earlier try left here and this one did not write: training would read it."""
        # without case, lest a file system that ignores it holds one of ours under another spelling
        ours = {str(file).casefold() for file in (*self._written, self._marker)}
        folders = {file.relative_to(self._destination).parts[0] for file in self._written}
        for file in (file for name in folders for file in (self._destination / name).rglob("*")):
            read = file.suffix[1:].lower() in (*IMG_FORMATS, "txt") or file.name.endswith(".unfinished")
            if read and file.is_file() and str(file).casefold() not in ours:
                file.unlink()


def _check_stems(samples: Sequence[Sample]) -> None:
    """Refuse samples that would be written to the same place, or to one outside of the destination."""
    seen: dict[tuple[str, str], Sample] = {}
    for sample in samples:
        inside(Path(sample.split), sample.stem)
        other = seen.setdefault((sample.split, sample.stem.casefold()), sample)
        if other is not sample:
            files = [str(next(iter(one.images.values()), one.stem)) for one in (other, sample)]
            raise ConversionError(
                f"{files[0]} and {files[1]} would both be written to {sample.split}/{sample.stem}: names must differ, "
                "and not in case alone"
            )


@dataclass(frozen=True)
class _LeftOut:
    """Why a whole sample is left out, and which."""

    reason: str
    what: str


@dataclass(frozen=True)
class _Written:
    """What became of a sample.

    Attributes:
        labels: Those that were kept.
        dropped: Why others were not.
        files: What was written.
        evidence: What it shows of the set as a whole.
    """

    labels: list[Label]
    dropped: list[str]
    files: list[Path]
    evidence: Evidence


def _write_all(
    samples: Sequence[Sample],
    classes: Sequence[str],
    report: Report,
    write: Callable[[Sample], _LeftOut | _Written],
    claim: _Claim,
) -> tuple[dict[str, dict[str, Any]], Tally]:
    """Write all samples and return pairs and boxes a class by split, and what they show of the set."""
    splits = sorted({sample.split for sample in samples}, key=SPLITS.index)
    counts = {split: {"pairs": 0, "boxes": dict.fromkeys(classes, 0)} for split in splits}
    tally = Tally()
    # closed at once by an interruption: nothing may be written while the caller believes that all has stopped
    with closing(_in_threads(write, samples)) as results:
        for sample, result in results:
            if isinstance(result, _LeftOut):
                report.leave_out(result.reason, result.what)
                continue
            claim.add(result.files)
            for reason in result.dropped:
                report.leave_out(reason, f"{sample.split}/{sample.stem}")
            tally.add(sample.split, len(result.labels), result.evidence)
            counts[sample.split]["pairs"] += 1
            for label in result.labels:
                counts[sample.split]["boxes"][classes[label.class_id]] += 1
    return counts, tally


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
) -> _LeftOut | _Written:
    """Write one sample, if all its images are good."""
    place = f"{sample.split}/{sample.stem}"
    if any(part.startswith(".") for part in PurePosixPath(sample.stem).parts):
        return _LeftOut("pair: hidden by its name, training would not find it", place)
    sizes, without_8_bits = {}, []
    for name in (*format_.modalities, *sample.extras):
        file = sample.images.get(name) if name in format_.modalities else sample.extras[name]
        if file is None or not file.is_file():
            return _LeftOut(f"pair: no {name} image", place)
        if file.suffix[1:].lower() not in IMG_FORMATS:
            return _LeftOut(f"pair: {name} image of a kind that training does not read", str(file))
        try:
            sizes[name], has_8_bits = _size(file)
        except ValueError as error:
            return _LeftOut(f"pair: {name} image unreadable", str(error))
        if not has_8_bits and name in format_.modalities:
            without_8_bits.append(name)
        if crop is not None and (sizes[name][0] < crop[1] or sizes[name][1] < crop[3]):
            return _LeftOut(f"pair: {name} image smaller than the part to keep", f"{file} ({_text_of(sizes[name])})")
    image_sizes = [sizes[name] for name in format_.modalities]
    evidence = Evidence(
        identical=[name for name in format_.modalities if _same_file(sample, format_, name)],
        without_8_bits=without_8_bits,
        had_objects=bool(sample.labels),
        size_is_open=sample.size is None and len(set(image_sizes)) > 1 and bool(sample.labels),
    )
    size = sample.size or image_sizes[0]
    if size not in image_sizes:
        odd_size = f"{place} ({_text_of(size)} instead of {_text_of(image_sizes[0])})"
        if size[::-1] in image_sizes:
            return _LeftOut("pair: labelled before its image was turned by 90°", odd_size)
        down, across = (now / then for now, then in zip(image_sizes[0], size, strict=True))
        if abs(down / across - 1) > SAME_SHAPE:
            return _LeftOut("pair: labelled on an image of another shape", odd_size)
        confirmed, contradicted = _reach(sample.labels, size, image_sizes[0])
        evidence = replace(evidence, odd_size=odd_size, size_is_confirmed=confirmed, size_is_contradicted=contradicted)
        points = [tuple((x * across, y * down) for x, y in label.points) for label in sample.labels]
        sample = replace(
            sample, labels=[Label(of.class_id, own) for of, own in zip(sample.labels, points, strict=True)]
        )
        size = image_sizes[0]
    offset = (0, 0)
    if crop is not None:
        size, offset = (crop[1] - crop[0], crop[3] - crop[2]), (crop[2], crop[0])
    labels, dropped = fit_labels(sample.labels, size, offset)
    files = [
        _write_image(sample.images[name], destination / folder / place, crop)
        for name, folder in format_.modalities.items()
    ]
    files += [_write_image(file, destination / folder / place, None) for folder, file in sample.extras.items()]
    outlines = {"labels": _box, **({format_.outlines: _outline} if format_.outlines else {})}
    for folder, shape in outlines.items():
        files.append(destination / folder / f"{place}.txt")
        _write_text(files[-1], "".join(_yolo_line(label.class_id, shape(label.points), size) for label in labels))
    return _Written(labels, dropped, files, evidence)


def _same_file(sample: Sample, format_: Format, name: str) -> bool:
    """Return whether the file of a modality is that of the first one, or holds the same bytes."""
    first = next(iter(format_.modalities))
    file, other = sample.images[name], sample.images[first]
    return name != first and file.stat().st_size == other.stat().st_size and filecmp.cmp(file, other, shallow=False)


def _reach(labels: Sequence[Label], stated: tuple[int, int], actual: tuple[int, int]) -> tuple[bool, bool]:
    """Return whether labels confirm by how far they reach that an image has a stated (height, width), or contradict."""
    corners = [point for label in labels for point in label.points]
    if not corners:
        return False, False
    x, y = np.max(corners, 0)
    height, width = np.array(stated) * (1 + SAME_SHAPE)
    beyond = bool(x > width or y > height)
    needs_room = bool(x > actual[1] or y > actual[0])
    return not beyond and (stated < actual or needs_room), beyond


def _size(file: Path) -> tuple[tuple[int, int], bool]:
    """Return (height, width) of an image, and whether it can be read as 8 bit without a range of its values.

    Raises:
        ValueError: If training could not read it, whatever the range.
    """
    try:
        return image_size(file), True
    except ValueError as error:
        try:
            return image_size(file, Modality("image", value_range="minmax")), False
        except ValueError:
            raise error from None


def fit_labels(
    labels: Iterable[Label], size: tuple[int, int], offset: tuple[int, int] = (0, 0)
) -> tuple[list[Label], list[str]]:
    """Bring labels to an image: shift them, leave out those with their centre outside, clip the others to its border.

    Args:
        labels: Labels in pixels of the source; corners may come in any order.
        size: (height, width) of the image, in pixels.
        offset: (x, y) of its top left corner in the source.

    Returns:
        Labels in pixels of the image, and a reason for each that is left out.
    """
    kept, dropped = [], []
    limits = np.array([size[1], size[0]], float)
    for label in labels:
        points = np.array(label.points, float).reshape(-1, 2) - offset
        if len(points) < 2 or not (np.abs(points) <= LARGEST_COORDINATE).all():  # nor is NaN
            dropped.append("box: no usable coordinates")
            continue
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
    return " ".join([str(class_id), *(f"{value:.7f}" for value in normalised)]) + "\n"


def _text_of(size: tuple[int, int]) -> str:
    return f"{size[1]}×{size[0]}"


def _printable(text: str) -> str:
    """Make a stranger's text safe to print and to encode: no control characters, no endless names."""
    text = "".join(character if character.isprintable() else "�" for character in text)
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}…"


def _write_image(file: Path, target: Path, crop: tuple[int, int, int, int] | None) -> Path:
    """Write an image to `target` plus its suffix, a link or the part that is kept, unless it is there already.

    What is no link has the time of its file, so that one that was replaced meanwhile is noticed, even by an older one.
    """
    target = target.with_name(target.name + file.suffix.lower())
    state = file.stat()
    if not target.is_file() or not (target.samefile(file) or target.stat().st_mtime_ns == state.st_mtime_ns):
        target.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(target) as unfinished:
            if crop is None:
                _link(file, unfinished)
            else:
                _cut(file, unfinished, crop)
        if not target.samefile(file):
            os.utime(target, ns=(state.st_atime_ns, state.st_mtime_ns))
    return target


def _cut(file: Path, target: Path, crop: tuple[int, int, int, int]) -> None:
    """Write a part of an image; depth and channels stay, but for transparency."""
    top, bottom, left, right = crop
    pixels = decode(file, AS_STORED)
    suffix = file.suffix.lower()
    try:
        done, encoded = cv2.imencode(suffix, pixels[top:bottom, left:right], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    except cv2.error:
        done = False
    if not done:
        raise ConversionError(f"a part of {file} cannot be written as {suffix}: OpenCV has no encoder for it")
    target.write_bytes(encoded.tobytes())


def _link(file: Path, target: Path) -> None:
    """Hard-link a file, or copy it where that is not possible (another disk, or a file system without links)."""
    try:
        os.link(file.resolve(), target)
    except OSError:
        shutil.copyfile(file, target)


def _write_text(target: Path, text: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(target) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def _json(content: Any) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _compare(format_: Format, options: Mapping[str, Any], counts: Mapping[str, Any], report: Report) -> None:
    """Note where the complete set has another number of pairs."""
    expected = format_.expected(options) if callable(format_.expected) else format_.expected
    for split, number_expected in expected.items():
        pairs = counts.get(split, {"pairs": 0})["pairs"]
        if pairs != number_expected:
            report.notes.append(f"{split}: {pairs} pairs, the complete set has {number_expected}")


def _recipe(format_: Format, classes: Sequence[str], counts: Mapping[str, Any], destination: Path) -> str:
    """Write down a recipe for a set whose classes are known only now."""
    import yaml

    data = {
        "path": str(destination),
        "modalities": dict(format_.modalities),
        "labels": "labels",
        **{split: split for split, count in counts.items() if count["pairs"]},
        "names": dict(enumerate(classes)),
        **format_.data,
    }
    train = {"optimizer": "SGD"}  # the one that Ultralytics chooses for a small set undoes MWAM's scaling
    recipe = {"task": "detect", "model": "yolov8n.yaml", "data": data, "train": train}
    return yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True)
