"""Run a conversion: check, write and count the pairs of a source."""

from __future__ import annotations

import filecmp
import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from ultralytics.data.utils import IMG_FORMATS

from mwam_det.data.conversion.doubts import PairEvidence, doubts_of, notes_of
from mwam_det.data.conversion.images import size_of, write_image
from mwam_det.data.conversion.labels import (
    SAME_SHAPE,
    box,
    fit_labels,
    judge_stated_size,
    outline,
    resize_labels,
    yolo_line,
)
from mwam_det.data.conversion.model import ConversionError, Crop, Format, Label, Report, SourcePair, printable
from mwam_det.data.conversion.record import RECORD, Claim, as_json, check_destination, write_text
from mwam_det.data.conversion.untrusted import inside
from mwam_det.data.section import SPLITS
from mwam_det.files.paths import expanded


def convert(
    format_: Format, source: str | Path, destination: str | Path, options: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Convert a dataset.

    Unchanged images are hard-linked, or copied where links are not possible: editing them in place in the result
    changes the source. The result has one folder per modality, "labels" (YOLO boxes) and optionally one for outlines,
    each with one folder per split. Calling it again with the same source and options resumes an interrupted
    conversion: images already written stay, and what is no longer in the source is removed.

    Args:
        format_: The format, see `mwam_det.data.formats.FORMATS`.
        source: Folder of the dataset as published.
        destination: Folder to write to: new, empty, or that of an interrupted conversion of the same source.
        options: Options of the format that differ from their defaults.

    Returns:
        The content of conversion.json: "format", "source", "options", "splits" (pairs and boxes per class), "left_out"
        (count and examples by reason), "notes", and "doubts": reasons to look at the result before training.

    Raises:
        ConversionError: If the source is not of this format, holds no usable pair, or the destination is not empty.
        FolderInUse: If another process writes to the destination.
    """
    from rich.progress import track

    source, destination = expanded(source).resolve(), expanded(destination).resolve()
    options = _checked_options(format_, options or {})
    if not source.is_dir():
        raise ConversionError(f"{source} is not a folder: give the folder of {format_.title}")
    if destination == source or source in destination.parents or destination in source.parents:
        raise ConversionError(f"{destination} and the source {source} must not lie in each other")
    request = {"format": format_.name, "source": str(source), "options": options}
    check_destination(destination, request)

    classes = list(format_.classes(source, options) if callable(format_.classes) else format_.classes)
    report = Report()
    samples = list(track(format_.read(source, options, report), "Reading labels"))
    _check_stems(samples)
    with Claim(destination, request) as claim:
        crop = format_.crop(options) if callable(format_.crop) else format_.crop
        counts, evidence = _write_all(
            samples, classes, report, lambda sample: _write(sample, format_, crop, destination), claim
        )
        if not any(split["pairs"] for split in counts.values()):
            reasons = "; ".join(
                f"{reason} ({entry['count']}), like {entry['examples'][0]}" for reason, entry in report.left_out.items()
            )
            raise ConversionError(f"no usable pair in {source}" + (f": {reasons}" if reasons else ""))
        _compare(format_, options, counts, report)
        for name, text in report.files.items():
            claim.write(inside(destination, name), text)
        if format_.recipe is None:
            claim.write(destination / "recipe.yaml", _recipe(format_, classes, counts, destination))
        claim.remove_others()
        first = next(iter(format_.modalities))
        notes = [printable(note) for note in (*report.notes, *notes_of(evidence, first))]
        doubts = [printable(doubt) for doubt in doubts_of(evidence, report.left_out, first)]
        record = {**request, "splits": counts, "left_out": report.left_out, "notes": notes, "doubts": doubts}
        write_text(destination / RECORD, as_json(record))
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


def _check_stems(samples: Sequence[SourcePair]) -> None:
    """Refuse samples that would be written to the same file, or outside of the destination."""
    seen: dict[tuple[str, str], SourcePair] = {}
    for sample in samples:
        inside(Path(sample.split), sample.stem)
        other = seen.setdefault((sample.split, sample.stem.casefold()), sample)
        if other is not sample:
            files = [str(next(iter(one.images.values()), one.stem)) for one in (other, sample)]
            raise ConversionError(
                f"{files[0]} and {files[1]} would both be written to {_place(sample)}: names must differ in more than "
                "case"
            )


class _LeftOut(Exception):
    """A whole sample is left out, for a reason and with an example for the report."""

    def __init__(self, reason: str, what: str) -> None:
        super().__init__(reason, what)
        self.reason, self.what = reason, what


@dataclass(frozen=True)
class _Written:
    """A converted sample.

    Attributes:
        labels: Labels kept.
        dropped: Reason for each label dropped.
        files: Files written.
        evidence: What it shows of the set as a whole.
    """

    labels: list[Label]
    dropped: list[str]
    files: list[Path]
    evidence: PairEvidence


def _write_all(
    samples: Sequence[SourcePair],
    classes: Sequence[str],
    report: Report,
    write: Callable[[SourcePair], _LeftOut | _Written],
    claim: Claim,
) -> tuple[dict[str, dict[str, Any]], list[PairEvidence]]:
    """Write all samples and return pairs and boxes per class by split, and the evidence of every pair."""
    splits = sorted({sample.split for sample in samples}, key=SPLITS.index)
    counts: dict[str, dict[str, Any]] = {split: {"pairs": 0, "boxes": dict.fromkeys(classes, 0)} for split in splits}
    evidence = []
    # closed at once by an interruption: nothing may be written once the caller has gone on
    with closing(_in_threads(write, samples)) as results:
        for sample, result in results:
            if isinstance(result, _LeftOut):
                report.leave_out(result.reason, result.what)
                continue
            claim.add(result.files)
            for reason in result.dropped:
                report.leave_out(reason, _place(sample))
            evidence.append(result.evidence)
            counts[sample.split]["pairs"] += 1
            for label in result.labels:
                counts[sample.split]["boxes"][classes[label.class_id]] += 1
    return counts, evidence


def _in_threads(
    work: Callable[[SourcePair], Any], samples: Sequence[SourcePair]
) -> Generator[tuple[SourcePair, Any], None, None]:
    """Yield every sample with its result, in order, working in threads and showing a progress bar."""
    from rich.progress import track

    workers = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        try:
            yield from zip(samples, track(pool.map(work, samples), "Converting", len(samples)), strict=True)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _write(sample: SourcePair, format_: Format, crop: Crop, destination: Path) -> _LeftOut | _Written:
    """Write one sample, if all its images can be read."""
    try:
        sizes, without_8_bits = _check_images(sample, format_, crop)
        labels, size, evidence = _labels_on_image(sample, sizes)
    except _LeftOut as left_out:
        return left_out
    offset = (0, 0)
    if crop is not None:
        size, offset = (crop[1] - crop[0], crop[3] - crop[2]), (crop[2], crop[0])
    kept, dropped = fit_labels(labels, size, offset)
    files = [
        *_write_images(sample, format_, crop, destination),
        *_write_labels(sample, kept, size, format_, destination),
    ]
    evidence = replace(
        evidence,
        split=sample.split,
        boxes=len(kept),
        had_objects=bool(sample.labels),
        identical=[name for name in format_.modalities if _same_file(sample, format_, name)],
        without_8_bits=without_8_bits,
    )
    return _Written(kept, dropped, files, evidence)


def _check_images(sample: SourcePair, format_: Format, crop: Crop) -> tuple[list[tuple[int, int]], list[str]]:
    """Return (height, width) of every modality's image, and the modalities that need the key "range".

    Raises:
        _LeftOut: If training cannot find or read an image.
    """
    place = _place(sample)
    if any(part.startswith(".") for part in PurePosixPath(sample.stem).parts):
        raise _LeftOut("pair: hidden by its name, training would not find it", place)
    sizes, without_8_bits = {}, []
    for name in (*format_.modalities, *sample.extras):
        file = sample.images.get(name) if name in format_.modalities else sample.extras[name]
        if file is None or not file.is_file():
            raise _LeftOut(f"pair: no {name} image", place)
        if file.suffix[1:].lower() not in IMG_FORMATS:
            raise _LeftOut(f"pair: {name} image of a type that training does not read", str(file))
        try:
            sizes[name], has_8_bits = size_of(file)
        except ValueError as error:
            raise _LeftOut(f"pair: {name} image unreadable", str(error)) from None
        if not has_8_bits and name in format_.modalities:
            without_8_bits.append(name)
        if crop is not None and (sizes[name][0] < crop[1] or sizes[name][1] < crop[3]):
            raise _LeftOut(f"pair: {name} image smaller than the part to keep", f"{file} ({_text_of(sizes[name])})")
    return [sizes[name] for name in format_.modalities], without_8_bits


def _labels_on_image(
    sample: SourcePair, sizes: Sequence[tuple[int, int]]
) -> tuple[Sequence[Label], tuple[int, int], PairEvidence]:
    """Return labels in pixels of an image, its (height, width), and the evidence; `sizes` are those of the images.

    If no image has the size stated by the annotation, labels are resized to the first image.

    Raises:
        _LeftOut: If the labels are for an image of another shape.
    """
    size = sample.size or sizes[0]
    if size in sizes:
        is_open = sample.size is None and len(set(sizes)) > 1 and bool(sample.labels)
        return sample.labels, size, PairEvidence(size_is_open=is_open)
    odd_size = f"{_place(sample)} ({_text_of(size)} instead of {_text_of(sizes[0])})"
    if size[::-1] in sizes:
        raise _LeftOut("pair: labelled before its image was rotated by 90°", odd_size)
    down, across = (now / then for now, then in zip(sizes[0], size, strict=True))
    if abs(down / across - 1) > SAME_SHAPE:
        raise _LeftOut("pair: labelled on an image of another shape", odd_size)
    confirmed, contradicted = judge_stated_size(sample.labels, size, sizes[0])
    evidence = PairEvidence(odd_size=odd_size, size_is_confirmed=confirmed, size_is_contradicted=contradicted)
    return resize_labels(sample.labels, down, across), sizes[0], evidence


def _write_images(sample: SourcePair, format_: Format, crop: Crop, destination: Path) -> Iterator[Path]:
    for name, folder in format_.modalities.items():
        yield write_image(sample.images[name], destination / folder / _place(sample), crop)
    for folder, file in sample.extras.items():
        yield write_image(file, destination / folder / _place(sample), None)


def _write_labels(
    sample: SourcePair, labels: Sequence[Label], size: tuple[int, int], format_: Format, destination: Path
) -> Iterator[Path]:
    shapes = {"labels": box, **({format_.outlines: outline} if format_.outlines else {})}
    for folder, shape in shapes.items():
        file = destination / folder / f"{_place(sample)}.txt"
        write_text(file, "".join(yolo_line(label.class_id, shape(label.points), size) for label in labels))
        yield file


def _place(sample: SourcePair) -> str:
    return f"{sample.split}/{sample.stem}"


def _same_file(sample: SourcePair, format_: Format, name: str) -> bool:
    """Return whether the file of a modality is that of the first one or has the same bytes."""
    first = next(iter(format_.modalities))
    file, other = sample.images[name], sample.images[first]
    return name != first and file.stat().st_size == other.stat().st_size and filecmp.cmp(file, other, shallow=False)


def _text_of(size: tuple[int, int]) -> str:
    return f"{size[1]}×{size[0]}"


def _compare(format_: Format, options: Mapping[str, Any], counts: Mapping[str, Any], report: Report) -> None:
    """Note splits whose number of pairs differs from the complete set."""
    expected = format_.expected(options) if callable(format_.expected) else format_.expected
    for split, number_expected in expected.items():
        pairs = counts.get(split, {"pairs": 0})["pairs"]
        if pairs != number_expected:
            report.notes.append(f"{split}: {pairs} pairs, the complete set has {number_expected}")


def _recipe(format_: Format, classes: Sequence[str], counts: Mapping[str, Any], destination: Path) -> str:
    """Return a recipe for a set whose classes are known only now."""
    data = {
        "path": str(destination),
        "modalities": dict(format_.modalities),
        "labels": "labels",
        **{split: split for split, count in counts.items() if count["pairs"]},
        "names": dict(enumerate(classes)),
    }
    train = {"optimizer": "SGD"}  # Ultralytics' choice for a small set would undo MWAM's scaling
    recipe = {"task": "detect", "model": "yolov8n.yaml", "data": data, "train": train}
    return yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True)
