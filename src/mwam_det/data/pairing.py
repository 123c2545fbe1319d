"""Find the partners of an image and check, before training, that every pair can be read."""

from __future__ import annotations

import io
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from ultralytics.data.utils import IMG_FORMATS, verify_image_label
from ultralytics.utils import LOGGER
from ultralytics.utils.patches import PIL_FALLBACK_SUFFIXES

from mwam_det.data.affixes import find_namings
from mwam_det.data.errors import DatasetError
from mwam_det.data.modality import Modality
from mwam_det.data.naming import Naming, has_naming, shared_part
from mwam_det.data.reading import TIFF_SUFFIXES, check_stored, has_codec, read_image
from mwam_det.files.folders import list_files
from mwam_det.files.images import DAMAGED, ORIENTATION, check_pixels, most_pixels
from mwam_det.files.values import format_value

SMALLEST_SIDE = 10
"""Images with a shorter side, in pixels, are rejected, as in Ultralytics."""

PLAIN_SUFFIXES = (".jpg", ".jpeg", ".png")
JPEG_SIGNATURE, JPEG_END, PNG_SIGNATURE = b"\xff\xd8", b"\xff\xd9", b"\x89PNG"

PLAIN = Modality("image")
"""The default reading of an image."""


def stem_of(file: str | Path, folder: str | Path, naming: Naming = "") -> str:
    """Return the path of a file below its folder without the extension, or the part that partners share.

    Args:
        file: One of the files of a modality, see `select_files`.
        folder: Its folder.
        naming: The modality's naming, whose shared part is kept.
    """
    file, below = os.fspath(file), os.path.join(folder, "")
    if not file.startswith(below):  # a folder like "." or "a/../b"
        return shared_part(Path(file).relative_to(folder).with_suffix("").as_posix(), naming)
    return shared_part(os.path.splitext(file[len(below) :])[0].replace(os.sep, "/"), naming)


def select_files(
    name: str, files: Iterable[str], folders: Mapping[str, str | Path], namings: Mapping[str, Naming]
) -> list[str]:
    """Select the files of a modality among the images of its folder, by their stems.

    If modalities share the folder, a file belongs to the one whose pattern matches, or else to the one with the longest
    suffix that matches.

    Args:
        name: The modality.
        files: All images of its folder.
        folders: The folder of every modality by name.
        namings: Namings of the modalities that have a suffix or a pattern.

    Raises:
        DatasetError: If there are images, but none of this modality, or one matches the patterns of two.
    """
    files = list(files)
    here = {other: namings.get(other, "") for other, folder in folders.items() if Path(folder) == Path(folders[name])}
    if here == {name: ""}:
        return files

    def owner(file: str) -> str | None:
        stem = os.path.splitext(os.path.basename(file))[0]
        fitting = {other: naming for other, naming in here.items() if has_naming(stem, naming)}
        matching = [other for other, naming in fitting.items() if not isinstance(naming, str)]
        if len(matching) > 1:
            raise DatasetError(f"match: '{Path(file).name}' fits both {' and '.join(matching)}: make them exclude it")
        suffixes = {other: naming for other, naming in fitting.items() if isinstance(naming, str)}
        longest = max(suffixes, key=lambda other: len(suffixes[other]), default=None)
        return matching[0] if matching else longest

    chosen = [file for file in files if owner(file) == name]
    if files and not chosen:
        naming = namings.get(name, "")
        rule = f"ends in '{naming}'" if isinstance(naming, str) else f"fits '{naming.pattern}'"
        raise DatasetError(
            f"{'suffix' if isinstance(naming, str) else 'match'}: no image in {folders[name]} has a stem that {rule}, "
            f"as those of {name} should; there is '{Path(files[0]).name}'"
        )
    return chosen


def list_images(folder: str | Path) -> list[str]:
    """List the images below a folder, in order; see `mwam_det.files.folders.list_files`."""
    return [file for file in list_files(folder) if os.path.splitext(file)[1][1:].lower() in IMG_FORMATS]


def find_partners(
    files: Iterable[str],
    folders: Mapping[str, str | Path],
    namings: Mapping[str, Naming] | None = None,
    may_be_alone: bool = False,
) -> tuple[dict[str, dict[str, list[str]]], dict[str, int]]:
    """Find the partners of each file of the first modality, by stem.

    Args:
        files: Image files of the first modality.
        folders: The folder of every modality by name, the first modality first.
        namings: Namings of the modalities, unless partners have the same stem.
        may_be_alone: Whether all files may lack a partner, with a warning.

    Returns:
        For each file of the first modality, by path, the candidates of every modality: none if the partner is missing,
        several if it is ambiguous. And by modality, the number of files without a partner of the first.

    Raises:
        DatasetError: If a modality has no file, or no file has a partner, unless `may_be_alone`.
    """
    namings = namings or {}
    (first, first_folder), *others = folders.items()
    stems = {file: stem_of(file, first_folder, namings.get(first, "")) for file in files}
    same_stem = defaultdict(list)
    for file, stem in stems.items():
        same_stem[stem].append(file)
    partners = {file: {first: same_stem[stem]} for file, stem in stems.items()}
    left_over = {}
    for name, folder in others:
        index = defaultdict(list)
        for file in select_files(name, list_images(folder), folders, namings):
            index[stem_of(file, folder, namings.get(name, ""))].append(file)
        if not index:
            raise DatasetError(f"there is no image of {name} in {folder}")
        if not any(stem in index for stem in same_stem):
            text = (
                f"no image of {first} in {first_folder} has a partner of {name} in {folder}: partners have the same "
                f"name except for the file extension and a recipe's keys 'suffix' and 'match', but these are called "
                f"'{next(iter(same_stem))}' and '{next(iter(index))}'{_hint({first: same_stem, name: index})}"
            )
            if not may_be_alone:
                raise DatasetError(text)
            LOGGER.warning(text)
        for file, stem in stems.items():
            partners[file][name] = index.get(stem, [])
        left_over[name] = len(index.keys() - same_stem.keys())
    return partners, left_over


def _hint(stems: Mapping[str, Iterable[str]]) -> str:
    """Suggest the key by which the names of two modalities match, if there is one."""
    namings, count = find_namings(stems)
    if not count:
        return ""
    suffixes = {name: naming for name, naming in namings.items() if isinstance(naming, str) and naming}
    patterns = {name: naming.pattern for name, naming in namings.items() if not isinstance(naming, str)}
    keys = {"suffix": suffixes, "match": patterns}
    return f": try {', '.join(f'{key}: {format_value(value)}' for key, value in keys.items() if value)}"


def image_size(file: str | Path, modality: Modality = PLAIN) -> tuple[int, int]:
    """Check that training can read an image, without changing it, and return its (height, width).

    A complete JPEG or PNG (a JPEG with its end marker, a PNG with valid checksums) is measured by its header. Any other
    image is decoded as in training, unless its header states too many pixels. Pillow first checks the formats whose
    missing bytes OpenCV replaces by grey. Its plugins are called by name, because `Image.open`, as patched by
    Ultralytics, tries to install a codec for unknown bytes.

    Args:
        file: The image.
        modality: How it will be read; by default as 3 channels of 8 bits.

    Raises:
        ValueError: If the file is not an image, is truncated, needs a range to become 8 bit and there is none, has a
            side below 10 pixels, or more pixels than Pillow allows (see `mwam_det.files.images.check_pixels`).
    """
    if (stated := _stated_size(os.fspath(file))) is not None:
        return stated
    file = Path(file)
    try:
        is_known = check_pixels(file)
    except OSError as error:
        raise ValueError(f"{file} cannot be read ({error})") from None
    if not is_known:
        raise ValueError(f"{file} cannot be read (it is damaged, or not an image of a known format)")
    try:
        with open(file, "rb") as stream:
            head = stream.read(8)
        plugin = next((plugin for signature, plugin in _PLUGINS.items() if head.startswith(signature)), None)
        if plugin is not None:
            _check_completeness(file, plugin)
        pixels = read_image(file, modality)
    except (OSError, SyntaxError, ValueError, cv2.error) as error:
        raise ValueError(f"{file} cannot be read ({error})") from None
    if pixels is None and file.suffix.lower() in PIL_FALLBACK_SUFFIXES and not has_codec(file):
        raise ValueError(f"{file} cannot be read (Pillow has no codec for it; for HEIF, install pi-heif)")
    is_read = pixels is not None and pixels.dtype == np.uint8 and pixels.shape[2] == modality.channels
    if modality.value_range is None and (not is_read or file.suffix.lower() in TIFF_SUFFIXES):
        check_stored(file)
    if pixels is None or not is_read:
        raise ValueError(f"{file} is not an image that can be read as 8 bit")
    height, width = pixels.shape[:2]
    if min(height, width) < SMALLEST_SIDE:
        raise ValueError(f"{file} is {width}×{height} pixels, smaller than {SMALLEST_SIDE}")
    return height, width


def verify_pair(args: tuple) -> tuple | list:
    """Check one pair and its labels; the counterpart of Ultralytics' `verify_image_label`, which it calls for labels.

    Ultralytics re-saves damaged JPEG files. To leave the user's files unchanged, images are checked here and the label
    check gets a stand-in.

    Args:
        args: Image of the first modality, candidates of every modality by name, label file, prefix of messages, number
            of classes, whether all classes count as one, the modalities, and whether keypoints are kept, their number
            per label and values per keypoint, 0 if there are none.

    Returns:
        The result of `verify_image_label`: image, labels (N, 5), (height, width), segments, keypoints, and the numbers
        missing, found, empty, corrupt, and a message. The first five are None for a pair that is left out. Then the
        (height, width) of every modality's file.
    """
    image, candidates, label_file, prefix, num_classes, single_class, modalities, (keep, keypoints, values) = args
    try:
        sizes = check_pair(candidates, modalities)
    except ValueError as error:
        return [None] * 5 + [0, 0, 0, 1, f"{prefix}{image}: pair left out, {error}", ()]
    stand_in = _StandIn(image)
    result = verify_image_label((stand_in, label_file, prefix, keep, num_classes, keypoints, values, single_class))
    if result[0] is None:
        return [*result[:-1], f"{prefix}{label_file}: pair left out, {str(result[-1]).rpartition('label: ')[2]}", ()]
    return (image, result[1], sizes[0], *result[3:], sizes)


def check_pair(candidates: Mapping[str, Sequence[str]], modalities: Sequence[Modality]) -> tuple[tuple[int, int], ...]:
    """Check that a pair is complete and can be read, and return the (height, width) of every modality's file.

    Args:
        candidates: Candidates of every modality, see `find_partners`.
        modalities: The modalities.

    Raises:
        ValueError: If a partner is missing or ambiguous, or a file cannot be read.
    """
    for name, files in candidates.items():
        if not files:
            raise ValueError(f"it has no partner of {name}")
        if len(files) > 1:
            raise ValueError(f"several files of {name} share its name: {', '.join(files)}")
    return tuple(image_size(candidates[modality.name][0], modality) for modality in modalities)


def read_mode(file: str | Path) -> str:
    """Return Pillow's mode of a PNG, after checking that it is complete.

    Raises:
        FileNotFoundError: If the file does not exist.
        OSError, SyntaxError, ValueError: If it is not a PNG, damaged or too large.
    """
    check_pixels(file)
    _check_completeness(Path(file), PngImageFile)
    with PngImageFile(file) as image:
        return image.mode


def _stated_size(file: str) -> tuple[int, int] | None:
    """Return the (height, width) of a complete JPEG or PNG as read by OpenCV, or None if it must be decoded.

    That is the case for other formats, damaged files, unusual sizes, and images that EXIF may rotate.
    """
    if not file.lower().endswith(PLAIN_SUFFIXES):
        return None
    with suppress(*DAMAGED), open(file, "rb") as stream:
        if (head := stream.read(8)).startswith(JPEG_SIGNATURE):
            stream.seek(-len(JPEG_END), io.SEEK_END)
            if stream.read() != JPEG_END:
                return None
            stream.seek(0)
            image: ImageFile = JpegImageFile(stream)
            turned = not {"exif", "xmp"}.isdisjoint(image.info) and image.getexif().get(ORIENTATION, 1) != 1
        elif head.startswith(PNG_SIGNATURE):
            content = head + stream.read()
            image = PngImageFile(io.BytesIO(content))
            image.verify()
            turned = b"eXIf" in content
        else:
            return None
        (width, height), limit = image.size, most_pixels()
        if not turned and min(width, height) >= SMALLEST_SIDE and (limit is None or width * height <= limit):
            return height, width
    return None


_PLUGINS: dict[bytes, type[JpegImageFile] | type[PngImageFile] | type[BmpImageFile]] = {
    JPEG_SIGNATURE: JpegImageFile,
    PNG_SIGNATURE: PngImageFile,
    b"BM": BmpImageFile,
}


def _check_completeness(file: Path, plugin: type[ImageFile]) -> None:
    """Raise OSError, SyntaxError or ValueError if a file of Pillow's `plugin` is damaged or truncated."""
    with plugin(file) as image:
        if plugin is PngImageFile:
            image.verify()
        elif plugin is BmpImageFile or not file.read_bytes().endswith(JPEG_END):
            image.load()  # bytes after the end of a JPEG are harmless, missing ones are not


class _StandIn(io.BytesIO):
    """A small valid image in memory that prints as the file whose labels are checked."""

    _PNG: Any = cv2.imencode(".png", np.zeros((16, 16), np.uint8))[1].tobytes()

    def __init__(self, file: str):
        super().__init__(self._PNG)
        self._file = file

    def __str__(self) -> str:
        return self._file
