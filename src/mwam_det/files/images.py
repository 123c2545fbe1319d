"""The size of an image by its header: decoding even a small file can take minutes and all memory."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import IMAGELENGTH, IMAGEWIDTH, SAMPLESPERPIXEL, ImageFileDirectory_v2

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""Signatures of TIFF and BigTIFF, of which Ultralytics decodes every page."""

ORIENTATION = 274
"""The EXIF tag for the orientation of an image."""

DAMAGED = (OSError, SyntaxError, ValueError, TypeError, IndexError, KeyError, OverflowError, struct.error)
"""What Pillow's plugins raise on a damaged header."""


def most_pixels() -> int | None:
    """Return the most pixels that Pillow allows per image: twice `PIL.Image.MAX_IMAGE_PIXELS`, or None for no limit."""
    return None if Image.MAX_IMAGE_PIXELS is None else 2 * Image.MAX_IMAGE_PIXELS


def check_pixels(file: str | Path) -> bool:
    """Check that an image, with all pages of a TIFF together, has no more pixels than `most_pixels`.

    Returns:
        Whether Pillow recognises the format by the content. Other files have no known size and should not be decoded.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it has more; the message names the file.
    """
    limit, pixels = most_pixels(), 0
    try:
        for page, (height, width) in enumerate(stated_sizes(file), 1):
            pixels += height * width
            if limit is not None and pixels > limit:
                what = f"{width}×{height} pixels" if page == 1 else f"{pixels} pixels in {page} pages or more"
                raise ValueError(f"{file}: {what} are more than the {limit} that PIL.Image.MAX_IMAGE_PIXELS allows")
    except Image.DecompressionBombError as error:  # some of Pillow's plugins check the size themselves
        raise ValueError(f"{file}: {error}") from None
    return pixels > 0


def stated_sizes(file: str | Path) -> Iterator[tuple[int, int]]:
    """Yield the (height, width) in the header of an image, in pixels; for a TIFF, those of each page.

    Stops if the header is damaged, or Pillow does not know the format.

    Raises:
        OSError: If the file cannot be read.
    """
    with open(file, "rb") as stream:
        head = stream.read(16)
        if head[:4] in TIFF:
            with suppress(*DAMAGED):
                for page in _pages(stream, head):
                    yield page[IMAGELENGTH], page[IMAGEWIDTH]
            return
    image = _open(file, head)
    if image is not None:
        with image:
            yield image.height, image.width


@dataclass(frozen=True)
class Header:
    """The header of an image.

    Attributes:
        mode: Pillow's pixel format, like "RGB", "RGBA" or "I;16"; None if unknown.
        transparent: Whether it has an alpha channel or a transparent colour.
        orientation: EXIF orientation, 1 to 8; 1 for upright.
        pages: Number of pages of the size of the first one; more than 1 only in a TIFF.
        bands: Number of channels that a TIFF states, which may be more than are read; 0 for other formats.
    """

    mode: str | None = None
    transparent: bool = False
    orientation: int = 1
    pages: int = 1
    bands: int = 0


def read_header(file: str | Path) -> Header:
    """Read the header of an image; a default one if it is damaged or Pillow does not know the format.

    Raises:
        OSError: If the file cannot be read.
    """
    sizes = list(stated_sizes(file))
    pages = max(sizes.count(sizes[0]), 1) if sizes else 1
    bands = 0
    with open(file, "rb") as stream:
        if (head := stream.read(16))[:4] in TIFF:
            with suppress(*DAMAGED, StopIteration):
                bands = int(next(_pages(stream, head)).get(SAMPLESPERPIXEL, 1))
    image = _open(file, head)
    if image is None:
        return Header(pages=pages, bands=bands)
    with image:
        orientation = 1
        with suppress(*DAMAGED):
            orientation = image.getexif().get(ORIENTATION, 1)
        transparent = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
        known = orientation if orientation in range(1, 9) else 1
        return Header(image.mode, transparent, known, pages, bands)


def _pages(stream: BinaryIO, head: bytes) -> Iterator[ImageFileDirectory_v2]:
    """Yield the tags of each page of a TIFF, including pixel formats that Pillow cannot decode.

    The next page is read into the same object.
    """
    page = ImageFileDirectory_v2(head if head[2] == 43 or head[3] == 43 else head[:8])
    seen = set()
    while page.next and page.next not in seen:
        seen.add(page.next)
        stream.seek(page.next)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about truncated tags
            page.load(stream)
        yield page


@cache
def _register_plugins() -> None:
    """Register all formats that the installed Pillow can read."""
    Image.init()
    if find_spec("pi_heif"):
        from pi_heif import register_heif_opener

        register_heif_opener()


def _open(file: str | Path, head: bytes) -> ImageFile | None:
    """Open an image with the plugin of Pillow that accepts it, without decoding it.

    `Image.open` is not used: Ultralytics replaces it by one that installs a codec for unknown bytes, and it warns of
    sizes, which are checked here.
    """
    _register_plugins()
    for kind in Image.ID:
        opener, accepts = Image.OPEN[kind]
        with suppress(*DAMAGED):
            if accepts is not None and accepts(head) is True:
                return opener(str(file), "")  # type: ignore[arg-type]  # takes a path too, which Pillow's type leaves out
    return None
