"""Annotations in PASCAL VOC's XML, shared by several formats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import parse

from mwam_det.data.conversion.model import Box, Label, Report, SourcePair
from mwam_det.data.conversion.untrusted import number

LARGEST_XML = 16 * 1024**2
"""Larger files, in bytes, are rejected: a thousand objects take half a megabyte."""


def read_xml(file: Path) -> Element:
    """Parse an untrusted XML file.

    Raises:
        ValueError: If it is damaged, too large, or has a document type or entities, which can expand without bound or
            read other files.
    """
    try:
        if (size := file.stat().st_size) > LARGEST_XML:
            raise ValueError(f"{size:,} bytes, an annotation has at most {LARGEST_XML:,}")
        return parse(file, forbid_dtd=True).getroot()
    except DefusedXmlException as error:
        raise ValueError(f"{file} is refused: {type(error).__name__}, an annotation needs no document type") from None
    except (ParseError, LookupError, OSError, ValueError) as error:
        raise ValueError(f"{file} cannot be read ({error})") from None


def objects(root: Element) -> Iterator[tuple[str, Element]]:
    """Yield name (stripped, "" if missing) and element of every object."""
    for element in root.iter("object"):
        yield (element.findtext("name") or "").strip(), element


def bndbox(element: Element) -> Box:
    """Read the box of an object.

    Raises:
        ValueError: If there is none, or a coordinate is not a number.
    """
    box = element.find("bndbox")
    if box is None:
        raise ValueError("an object has no bndbox")
    x1, y1, x2, y2 = (number(box.findtext(key), key) for key in ("xmin", "ymin", "xmax", "ymax"))
    return (x1, y1), (x2, y2)


def size(root: Element) -> tuple[int, int] | None:
    """Return the (height, width) in pixels that an annotation states for its image, if any."""
    try:
        height, width = (int(number(root.findtext(f"size/{key}"), key)) for key in ("height", "width"))
    except ValueError:
        return None
    return (height, width) if height > 0 and width > 0 else None  # some programs write zeros


def boxes(root: Element, classes: Sequence[str], file: Path, report: Report) -> list[Label]:
    """List the boxes of an annotation; objects of other classes or without a box are left out.

    Args:
        root: Its root.
        classes: Class names, compared without case.
        file: Its file, for the report.
        report: Counts what is left out.
    """
    class_ids = {name.casefold(): class_id for class_id, name in enumerate(classes)}
    labels = []
    for name, element in objects(root):
        class_id = class_ids.get(name.casefold())
        if class_id is None:
            report.leave_out(f"box: class {name!r}", file)
            continue
        try:
            labels.append(Label(class_id, bndbox(element)))
        except ValueError as error:
            report.leave_out("box: no usable coordinates", f"{file}: {error}")
    return labels


def annotated_pair(
    split: str,
    stem: str,
    images: Mapping[str, Mapping[str, Path]],
    annotation: Path | None,
    classes: Sequence[str],
    report: Report,
) -> Iterator[SourcePair]:
    """Yield a pair with its boxes, or nothing if its annotation is missing or unreadable.

    Args:
        split: Its split.
        stem: Its stem.
        images: Image files by modality and stem.
        annotation: Its annotation, if there is one.
        classes: Class names, see `boxes`.
        report: Counts what is left out.
    """
    if annotation is None:
        report.leave_out("pair: no annotation", f"{split}/{stem}")
        return
    try:
        root = read_xml(annotation)
    except ValueError as error:
        report.leave_out("pair: annotation unreadable", error)
        return
    files = {name: of_modality[stem] for name, of_modality in images.items() if stem in of_modality}
    yield SourcePair(split, stem, files, boxes(root, classes, annotation, report), size=size(root))
