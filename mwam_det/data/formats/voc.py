"""Annotations in PASCAL VOC's XML, which several sets use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import parse

from mwam_det.data.conversion import number


def read_xml(file: Path) -> Element:
    """Parse an XML file of a stranger.

    Raises:
        ValueError: If it is damaged, or holds a document type or entities, which can blow up or reach other files.
    """
    try:
        return parse(file, forbid_dtd=True).getroot()
    except DefusedXmlException as error:
        raise ValueError(f"{file} is refused: {type(error).__name__}, an annotation needs no document type") from None
    except (ParseError, UnicodeDecodeError, OSError, ValueError) as error:
        raise ValueError(f"{file} cannot be read ({error})") from None


def objects(root: Element) -> Iterator[tuple[str, Element]]:
    """Yield name (stripped, "" if missing) and element of every object."""
    for element in root.iter("object"):
        yield (element.findtext("name") or "").strip(), element


def bndbox(element: Element) -> tuple[tuple[float, float], tuple[float, float]]:
    """Read the box of an object: two opposite corners, (x, y) in pixels.

    Raises:
        ValueError: If there is none, or a coordinate is no number.
    """
    box = element.find("bndbox")
    if box is None:
        raise ValueError("an object has no bndbox")
    x1, y1, x2, y2 = (number(box.findtext(key), key) for key in ("xmin", "ymin", "xmax", "ymax"))
    return (x1, y1), (x2, y2)
