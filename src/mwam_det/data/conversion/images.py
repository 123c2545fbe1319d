"""Check the images of a source, and link, copy or crop them into the converted set."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import cv2

from mwam_det.data.conversion.model import ConversionError, Crop
from mwam_det.data.levels import AS_STORED
from mwam_det.data.modality import Modality
from mwam_det.data.pairing import image_size
from mwam_det.data.reading import decode
from mwam_det.files.writing import written_whole

JPEG_QUALITY = 95
"""For cropped images; lower settings quantise away the high frequencies that distinguish modalities."""


def size_of(file: Path) -> tuple[tuple[int, int], bool]:
    """Return (height, width) of an image, and whether it can be read as 8 bit without the key "range".

    Raises:
        ValueError: If training cannot read it with any range.
    """
    try:
        return image_size(file), True
    except ValueError as error:
        try:
            return image_size(file, Modality("image", value_range="minmax")), False
        except ValueError:
            raise error from None


def write_image(file: Path, target: Path, crop: Crop) -> Path:
    """Link an image to `target` plus its suffix, or write its crop, unless it exists already.

    Anything but a link gets the modification time of its source, so that a replaced source is noticed, even an older
    one.
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
    """Write a part of an image, keeping bit depth and channels, except for transparency."""
    top, bottom, left, right = crop
    pixels = decode(file, AS_STORED)
    if pixels is None:
        raise ConversionError(f"{file} can no longer be read")
    suffix = file.suffix.lower()
    try:
        done, encoded = cv2.imencode(suffix, pixels[top:bottom, left:right], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    except cv2.error:
        done = False
    if not done:
        raise ConversionError(f"a part of {file} cannot be written as {suffix}: OpenCV has no encoder for it")
    target.write_bytes(encoded.tobytes())


def _link(file: Path, target: Path) -> None:
    """Hard-link a file, or copy it where links are not possible."""
    try:
        os.link(file.resolve(), target)
    except OSError:
        shutil.copyfile(file, target)
