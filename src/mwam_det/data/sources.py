"""Pairs to predict on: folders, patterns, files, videos, arrays and tensors, by modality."""

from __future__ import annotations

import glob
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from ultralytics.data.loaders import LoadImagesAndVideos, SourceTypes
from ultralytics.data.utils import IMG_FORMATS, VID_FORMATS
from ultralytics.utils import LOGGER

from mwam_det.core.missing import check_missing
from mwam_det.data.dataset import Fit, target_size
from mwam_det.data.modality import Modality
from mwam_det.data.naming import has_naming, shared_part
from mwam_det.data.pairing import find_partners, list_images, select_files, stem_of
from mwam_det.data.reading import TIFF_SUFFIXES, as_stacked, check_stored, from_pillow, place, read_image, reduction_of
from mwam_det.files.images import check_pixels
from mwam_det.files.paths import expanded

Item = str | np.ndarray
"""One image or video of one modality: its file, the URL of a stream, or its pixels as stored in a file."""

RATES_AGREE = 0.01
"""Relative difference up to which frame rates of two videos count as equal."""

NAMED = 3
"""Number of files named in a message about several."""

PARTNERS = ("error", "skip", "missing")
"""What to do with an image without a partner: reject the source, leave the image out, or predict without partner."""


@dataclass(frozen=True)
class Pair:
    """The input of a detector for one scene.

    Attributes:
        path: The file of the first given modality, or a name for an image without a file.
        images: The image of each modality that is not missing, by name, shape (H, W, 3), uint8, BGR, stretched or
            aligned to the first given one.
        stack: All modalities at the size of the network, shape (h, w, ΣC_m), uint8, colour in BGR; 0 if missing.
    """

    path: str
    images: dict[str, np.ndarray]
    stack: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the images."""
        return next(iter(self.images.values())).shape[:2]


def by_modality(source: Any, modalities: Sequence[Modality]) -> dict[str, Any]:
    """Split a source by modality.

    Args:
        source: A mapping by name, or a tuple or list in the order of the modalities, with None (or no name) for missing
            ones; or a list of tuples, each a pair in that order; or an array (H, W, ΣC_m) or tensor ([B,] ΣC_m, H, W)
            of all modalities.
        modalities: The modalities of the model.

    Returns:
        The source of each given modality, in the order of the model.

    Raises:
        ValueError: If a modality is unknown, none is given, or the source does not identify its modality.
    """
    names = [modality.name for modality in modalities]
    named: dict[str, Any] | None
    if isinstance(source, Mapping):
        if unknown := [name for name in source if name not in names]:
            raise ValueError(f"source: {unknown[0]} is not a modality of this model: choose from {', '.join(names)}")
        named = dict(source)
    elif isinstance(source, np.ndarray | Tensor):
        named = _unstacked(source, modalities)
    else:
        named = _in_order(source, names)
    if named is None:
        raise ValueError(
            f"source={_described(source)} does not say which modality it is: give "
            f"{{{', '.join(f'{name!r}: …' for name in names)}}}, or all of them in the order ({', '.join(names)}), or "
            f"stacked images with {sum(modality.channels for modality in modalities)} channels"
        )
    named = {name: named[name] for name in names if named.get(name) is not None}
    if not named:
        raise ValueError(f"source={source!r} gives no image of any modality: choose from {', '.join(names)}")
    return named


def _unstacked(source: np.ndarray | Tensor, modalities: Sequence[Modality]) -> dict[str, Any] | None:
    """Return the channels of each modality of stacked images; None if their total differs."""
    channels = sum(modality.channels for modality in modalities)
    if isinstance(source, Tensor):
        if source.ndim in (3, 4) and source.shape[-3] == channels:
            return {modality.name: source[..., modality.slice, :, :] for modality in modalities}
    elif source.ndim == 3 and source.shape[2] == channels:
        named = {modality.name: np.ascontiguousarray(source[..., modality.slice]) for modality in modalities}
        for modality in modalities if source.dtype == np.uint16 else ():
            if modality.value_range is None and 0 < named[modality.name].max(initial=0) <= np.iinfo(np.uint8).max:
                raise ValueError(
                    f"source is stacked as uint16, and {modality.name} has no value above 255: its high byte, which is "
                    f"read of 16 bits, is 0; give each image in its own type, like {{{modality.name!r}: …}}"
                )
        return named
    return None


def _in_order(source: Any, names: Sequence[str]) -> dict[str, Any] | None:
    """Return a list of pairs, or a list with one item per modality, by name; None for others."""
    if isinstance(source, list) and source and all(isinstance(p, tuple) and len(p) == len(names) for p in source):
        return {name: list(items) for name, items in zip(names, zip(*source, strict=True), strict=True)}
    if isinstance(source, list | tuple) and len(source) == len(names):
        return dict(zip(names, source, strict=True))
    return None


def _described(source: Any) -> str:
    if isinstance(source, str | Path):
        return repr(source)
    what = type(source).__name__
    if isinstance(source, np.ndarray | Tensor):
        return f"{what} of shape {tuple(source.shape)}"
    return f"{what} of length {len(source)}" if isinstance(source, list | tuple) else what


def missing_modalities(
    named: Mapping[str, Any], modalities: Sequence[Modality], missing: str | Sequence[str] = ()
) -> tuple[str, ...]:
    """List the modalities that a detector does not see: those declared missing, and those not given.

    Args:
        named: The result of `by_modality`.
        modalities: The modalities of the model.
        missing: Names of modalities that count as missing even if given, or one name.

    Raises:
        ValueError: If a name is unknown, or no modality is left.
    """
    names = [modality.name for modality in modalities]
    missing = check_missing((missing,) if isinstance(missing, str) else missing, names)
    return tuple(check_missing([name for name in names if name in missing or name not in named], names))


def stack_tensors(named: Mapping[str, Tensor], modalities: Sequence[Modality], missing: Sequence[str]) -> Tensor:
    """Stack tensors of modalities, shape (B, ΣC_m, H, W), with 0 for missing ones.

    Args:
        named: By modality, shape (B, C_m, H, W) or (C_m, H, W), RGB in [0, 1].
        modalities: The modalities of the model.
        missing: Names of missing modalities.

    Raises:
        ValueError: If the channels of a tensor differ from its modality's, or its size from the first tensor's.
    """
    tensors = {name: tensor if tensor.ndim == 4 else tensor[None] for name, tensor in named.items()}
    first = next(iter(tensors.values()))
    parts = []
    for modality in modalities:
        shape = (len(first), modality.channels, *first.shape[2:])
        tensor = tensors.get(modality.name)
        if tensor is not None and tensor.shape != shape:
            raise ValueError(f"source: the tensor of {modality.name} has the shape {tuple(tensor.shape)}, not {shape}")
        parts.append(first.new_zeros(shape) if tensor is None or modality.name in missing else tensor)
    return torch.cat(parts, 1)


def list_pairs(
    named: Mapping[str, Any], modalities: Sequence[Modality], partners: str = "error"
) -> list[dict[str, Item]]:
    """List the pairs of a source.

    Folders and patterns are paired by stem, as in a dataset; lists, single files and arrays by position.

    Args:
        named: For each modality a folder, a pattern like "night/*.png", a file, the URL of a stream like "rtsp://…", an
            array (H, W, 1 or 3), a Pillow image, or a list of files, URLs, arrays and images, with None for missing
            ones; in the order of the modalities.
        modalities: The modalities of the model; their suffixes and patterns of names apply to folders.
        partners: One of `PARTNERS`. A None in a list is a missing image whatever the value.

    Returns:
        For each pair, its file or array by modality, without missing ones.

    Raises:
        FileNotFoundError: If a file or folder does not exist or has no images.
        ValueError: If an image has no partner or several, the modalities are given in different ways, or `partners` is
            unknown.
    """
    if partners not in PARTNERS:
        raise ValueError(f"partners={partners!r} is unknown: choose from {', '.join(PARTNERS)}")
    named = {name: _as_list(given) for name, given in named.items()}
    kinds = {name: _kind(name, given) for name, given in named.items()}
    if len(set(kinds.values())) > 1:
        listed = " but ".join(f"{name} as {kind}" for name, kind in kinds.items())
        raise ValueError(f"source gives {listed}: give all modalities in the same way")
    if next(iter(kinds.values())) == "a folder or pattern":
        return _pairs_by_stem(named, modalities, partners)
    lists = {name: given if isinstance(given, list | tuple) else [given] for name, given in named.items()}
    lists = {name: [_item(name, item) for item in items] for name, items in lists.items()}
    shortest, longest = min(lists, key=lambda n: len(lists[n])), max(lists, key=lambda n: len(lists[n]))
    if not lists[shortest]:
        raise ValueError(f"source: the list of {shortest} is empty")
    if len(lists[shortest]) < len(lists[longest]):
        alone = lists[longest][len(lists[shortest])]
        alone = alone if isinstance(alone, str) else f"array {len(lists[shortest])}"
        raise ValueError(
            f"source: {longest} has {len(lists[longest])} images and {shortest} {len(lists[shortest])}: {alone} has no "
            f"partner of {shortest}"
        )
    pairs = [
        {name: item for name, item in zip(lists, items, strict=True) if item is not None}
        for items in zip(*lists.values(), strict=True)
    ]
    if partners == "skip":
        complete = [pair for pair in pairs if len(pair) == len(lists)]
        if not complete:
            raise ValueError(f"source: none of {len(pairs)} pairs is complete, and partners=skip leaves the others out")
        if len(complete) < len(pairs):
            LOGGER.warning(f"{len(pairs) - len(complete)} of {len(pairs)} pairs lack a partner: left out")
        pairs = complete
    if {} in pairs:
        raise ValueError(f"source: pair {pairs.index({})} has no image of any modality: leave it out")
    return pairs


def read_pair(
    inputs: Mapping[str, Item],
    modalities: Sequence[Modality],
    missing: Sequence[str],
    imgsz: Sequence[int],
    path: str,
    fit: Fit = "long",
) -> Pair:
    """Read a pair exactly as validation does.

    The first given modality determines the size, even if it counts as missing. Alignment matrices map to the first
    modality of the model; if that one is not given, partners are stretched.

    Args:
        inputs: File or array by modality, without those missing in this pair.
        modalities: The modalities of the model.
        missing: Names of missing modalities, which may be in `inputs`: 0 in the stack, and without an image.
        imgsz: (height, width) of the network's input.
        path: Name of the pair.
        fit: The side of the image that becomes the longer one of `imgsz`, or "stretch". If height and width of `imgsz`
            differ, "short" stretches too, as in Ultralytics' classification.

    Raises:
        FileNotFoundError: If a file cannot be read.
        ValueError: If an array or file has values or channels that cannot be stacked.
    """
    given = [modality for modality in modalities if modality.name in inputs]
    pixels = {modality.name: _pixels(inputs[modality.name], modality, path) for modality in given}
    size = pixels[given[0].name].shape[:2]
    target = target_size(size, (imgsz[0], imgsz[1]), "stretch" if fit == "short" and imgsz[0] != imgsz[1] else fit)
    images, stacked = {}, []
    for modality in modalities:
        if modality.name in missing or modality.name not in inputs:
            stacked.append(np.zeros((*target, modality.channels), np.uint8))
            continue
        if given[0] != modalities[0]:
            modality = replace(modality, align=None)
        item, full = inputs[modality.name], pixels[modality.name]
        image: np.ndarray | None = full
        if isinstance(item, str) and (divisor := reduction_of(item, modality, full.shape[:2], target)) != 1:
            image = read_image(item, modality, divisor)
        if image is None:
            raise FileNotFoundError(f"{item} can no longer be read")
        stacked.append(place(image, modality, full.shape[:2], size, target))
        shown = place(full, modality, full.shape[:2], size, size)
        images[modality.name] = shown if modality.channels == 3 else cv2.cvtColor(shown, cv2.COLOR_GRAY2BGR)
    stack = cv2.merge(stacked)
    return Pair(path, images, stack if stack.ndim == 3 else stack[..., None])


class PairLoader(LoadImagesAndVideos):
    """Ultralytics' loader of images and videos, for pairs.

    Args:
        named: As in `list_pairs`.
        modalities: The modalities of the model.
        missing: Names of missing modalities. Their files are not read, except for the first modality's, which
            determines the size.
        batch: Pairs per batch.
        vid_stride: Stride of the frames read from videos.
        imgsz: (height, width) of the network's input.
        fit: See `read_pair`.
        partners: See `list_pairs`.

    Raises:
        FileNotFoundError: If a file or folder does not exist or has no images.
        ValueError: If an image has no partner, a pair has only missing modalities, or images and videos are mixed.
    """

    files: Any  # Ultralytics declares it as open files

    def __init__(
        self,
        named: Mapping[str, Any],
        modalities: Sequence[Modality],
        missing: Sequence[str] = (),
        batch: int = 1,
        vid_stride: int = 1,
        imgsz: Sequence[int] = (640, 640),
        fit: Fit = "long",
        partners: str = "error",
    ):
        first = modalities[0].name
        named = {name: given for name, given in named.items() if name == first or name not in missing}
        self.modalities, self.missing, self.imgsz = tuple(modalities), tuple(missing), tuple(imgsz)
        self.fit: Fit = fit
        self.entries, self.partners = list_pairs(named, modalities, partners), partners
        titles = [_title(entry, index) for index, entry in enumerate(self.entries)]
        unseen = [title for title, entry in zip(titles, self.entries, strict=True) if not set(entry) - set(missing)]
        if unseen:
            raise ValueError(
                f"source: {len(unseen)} of {len(titles)} pairs have only {', '.join(missing)}, which is declared "
                f"missing; the first is {unseen[0]}"
            )
        kinds = {_is_video(item) for entry in self.entries for item in entry.values()}
        if len(kinds) > 1:
            raise ValueError("source mixes images and videos: predict on them separately")
        video = kinds.pop()
        self.given = tuple(named)
        for name in self.given:
            lacking = [title for title, entry in zip(titles, self.entries, strict=True) if name not in entry]
            if lacking:
                LOGGER.warning(
                    f"{name} is missing in {len(lacking)} of {len(titles)} pairs, first in {lacking[0]}: its channels "
                    "are 0 there"
                )
        self.nf = len(self.entries)
        self.ni = 0 if video else self.nf
        self.video_flag = [video] * self.nf
        self.files = [str(next(iter(entry.values()))) for entry in self.entries]
        self.mode = "video" if video else "image"
        self.bs, self.vid_stride, self.count = batch, vid_stride, 0
        self.frame, self.frames, self.fps = 0, 0, 0.0
        arrays = all(isinstance(item, np.ndarray) for entry in self.entries for item in entry.values())
        self.source_type = SourceTypes(from_img=arrays)
        self._open = ExitStack()

    def __len__(self) -> int:
        """Return the number of batches, a video counting as one image."""
        return -(-self.nf // self.bs)

    def __iter__(self) -> Iterator[tuple[list[str], list[Pair], list[str]]]:
        """Yield batches: the name of each pair, the pairs, and the log message of each."""
        self.count = 0
        batch: list[tuple[str, Pair, str]] = []
        for index, entry in enumerate(self.entries):
            path = _title(entry, index)
            videos = {name: str(item) for name, item in entry.items()}
            pairs = self._frames(videos, path) if self.mode == "video" else [(entry, f"image {index + 1}/{self.nf}")]
            for inputs, message in pairs:
                absent = [name for name in self.given if name not in inputs]
                without = f" without {', '.join(absent)}" if absent else ""
                message = "" if self.source_type.from_img else f"{message} {path}{without}: "
                pair = read_pair(inputs, self.modalities, self.missing, self.imgsz, path, self.fit)
                batch.append((path, pair, message))
                if len(batch) == self.bs:
                    yield _transposed(batch)
                    batch = []
            self.count += 1
            if self.mode == "video" and batch:  # a batch never spans two videos
                yield _transposed(batch)
                batch = []
        if batch:
            yield _transposed(batch)

    def close(self) -> None:
        """Release open videos."""
        self._open.close()

    def _frames(self, entry: Mapping[str, str], path: str) -> Iterator[tuple[dict[str, np.ndarray], str]]:
        """Yield frames of videos or streams in parallel until one ends, or all if partners may be missing."""
        captures = {}
        for name, file in entry.items():
            captures[name] = capture = cv2.VideoCapture(file)
            self._open.callback(capture.release)
            if not capture.isOpened():
                raise FileNotFoundError(f"{file}, the video of {name}, cannot be opened")
        rates = {name: capture.get(cv2.CAP_PROP_FPS) for name, capture in captures.items()}
        if max(rates.values()) > min(rates.values()) * (1 + RATES_AGREE):
            listed = ", ".join(f"{name} {rate:g}" for name, rate in rates.items())
            LOGGER.warning(f"{path}: frame rates differ ({listed}); frames are paired by number, not by time")
        self.fps = next(iter(rates.values()))
        lengths = [int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) for capture in captures.values()]
        length = max(lengths) if self.partners == "missing" else min(lengths)
        self.frame, self.frames = 0, max(length, 0) // self.vid_stride  # a stream has no number of frames
        while True:
            read = {name: _next_frame(capture, self.vid_stride) for name, capture in captures.items()}
            frames = {name: frame for name, frame in read.items() if frame is not None}
            if ended := [name for name in read if name not in frames]:
                continues = self.partners == "missing" and bool(set(frames) - set(self.missing))
                if frames:
                    rest = ": the rest is predicted without it" if continues else ", before the other video"
                    LOGGER.warning(f"{path}: {', '.join(ended)} ends after {self.frame} frames{rest}")
                if not continues:
                    break
                captures = {name: captures[name] for name in frames}
            self.frame += 1
            yield frames, f"video {self.count + 1}/{self.nf} (frame {self.frame}/{self.frames})"
        self.close()


def _next_frame(capture: cv2.VideoCapture, stride: int) -> np.ndarray | None:
    for _ in range(stride):
        if not capture.grab():
            return None
    read, frame = capture.retrieve()
    return frame if read else None


def _title(entry: Mapping[str, Item], index: int) -> str:
    """Return the name of a pair: its first file, or a name by its index."""
    return next((item for item in entry.values() if isinstance(item, str)), f"image{index}.jpg")


def _transposed(batch: Sequence[tuple[str, Pair, str]]) -> tuple[list[str], list[Pair], list[str]]:
    paths, pairs, messages = map(list, zip(*batch, strict=True))
    return paths, pairs, messages


def _as_list(given: Any) -> Any:
    """Return other ordered collections, like a deque or an array of files, as a list."""
    if isinstance(given, np.ndarray):
        return given.tolist() if given.ndim == 1 and given.dtype.kind in "UO" else given
    if isinstance(given, str | Path | Image.Image | Tensor | Mapping) or type(given) in (set, frozenset):
        return given
    return list(given) if isinstance(given, Collection) else given


def _kind(name: str, given: Any) -> str:
    if isinstance(given, str | Path) and (expanded(given).is_dir() or _is_pattern(given)):
        return "a folder or pattern"
    if isinstance(given, str | Path) and not _is_address(given) and not expanded(given).exists():
        raise FileNotFoundError(f"source: there is no file or folder {given}, given for {name}")
    if isinstance(given, str | Path | np.ndarray | Image.Image | list | tuple):
        return "files or arrays"
    raise ValueError(
        f"source: {name} is given as {type(given).__name__}: give a folder, a pattern, a file, an array, a Pillow "
        "image, or a list of files, arrays or images (of an iterator, list(…)); or tensors for all modalities"
    )


def _is_pattern(given: str | Path) -> bool:
    return glob.has_magic(str(given)) and not _is_address(given) and not expanded(given).exists()


def _is_video(item: Item) -> bool:
    return isinstance(item, str) and (_is_address(item) or Path(item).suffix[1:].lower() in VID_FORMATS)


def _is_address(given: Any) -> bool:
    return isinstance(given, str) and "://" in given


def _item(name: str, item: Any) -> Item | None:
    """Check one image of a list, and return its absolute path or its pixels."""
    if item is None or isinstance(item, np.ndarray) or _is_address(item):
        return item
    if isinstance(item, Image.Image):
        return from_pillow(item)
    if not isinstance(item, str | Path):
        raise ValueError(
            f"source: {name} lists a {type(item).__name__}: give files, arrays (H, W, 1 or 3), Pillow images, or None"
        )
    file = expanded(item).absolute()
    if not file.is_file():
        raise FileNotFoundError(f"source: there is no file {item}, given for {name}")
    if file.suffix[1:].lower() not in IMG_FORMATS | VID_FORMATS:
        raise ValueError(f"source: {item}, given for {name}, has no file extension of an image or video")
    return str(file)


def _pairs_by_stem(
    named: Mapping[str, str | Path], modalities: Sequence[Modality], unpaired: str
) -> list[dict[str, Item]]:
    given = {name: expanded(text).absolute() for name, text in named.items()}
    folders = {name: folder if folder.is_dir() else _fixed_part(folder) for name, folder in given.items()}
    listed = {name: list_images(folder) if folder.is_dir() else _matching(folder) for name, folder in given.items()}
    listed = {name: _without_others(name, files, folders[name], modalities, named) for name, files in listed.items()}
    for name, files in listed.items():
        if not files and (unpaired != "missing" or not any(listed.values())):
            raise FileNotFoundError(f"source: there is no image of {name} in {named[name]}")
    if not all(listed.values()):
        return _pairs_by_stem({name: given for name, given in named.items() if listed[name]}, modalities, unpaired)
    namings = {modality.name: modality.naming for modality in modalities if modality.name in named}
    first, *others = named
    files = select_files(first, listed[first], folders, namings)
    partners, _ = find_partners(files, folders, namings, may_be_alone=unpaired == "missing")
    wanted = {name: set(files) for name, files in listed.items()}
    found = {
        file: {name: [partner for partner in partners[file][name] if partner in wanted[name]] for name in named}
        for file in files
    }
    for candidates in found.values():
        for name, several in candidates.items():
            if len(several) > 1:
                raise ValueError(f"source: several files of {name} share their name: {_listed(several)}")
    entries: list[dict[str, Item]] = [
        {name: partners[0] for name, partners in candidates.items() if partners} for candidates in found.values()
    ]
    paired = {file for entry in entries for file in entry.values()}
    left_over = {
        name: [file for file in select_files(name, listed[name], folders, namings) if file not in paired]
        for name in others
    }
    if unpaired == "missing":
        rest: dict[str, dict[str, Item]] = {}
        for name in others:
            for file in left_over[name]:
                rest.setdefault(stem_of(file, folders[name], namings.get(name, "")), {})[name] = file
        stems = [stem_of(file, folders[first], namings.get(first, "")) for file in files]
        ordered = sorted([*zip(stems, entries, strict=True), *rest.items()], key=lambda item: item[0])
        return [entry for _, entry in ordered]
    for name in others:
        alone = [file for file in files if not found[file][name]]
        if alone and unpaired == "error":
            more = f" and {len(alone) - NAMED} more" if len(alone) > NAMED else ""
            raise ValueError(
                f"source: there is no partner of {name} in {named[name]} for {_listed(alone)}{more}: partners=skip "
                "leaves such images out, partners=missing predicts without the partner"
            )
        if alone:
            LOGGER.warning(f"{len(alone)} of {len(files)} images of {first} have no partner of {name}: left out")
        if left_over[name] and given[name].is_dir():
            count = len(left_over[name])
            LOGGER.warning(f"{count} images of {name} in {named[name]} have no partner of {first}: left out")
    if not (complete := [entry for entry in entries if len(entry) == len(named)]):
        raise ValueError(f"source: of {len(entries)} pairs none is complete, and partners=skip leaves such pairs out")
    return complete


def _without_others(
    name: str, files: list[str], folder: Path, modalities: Sequence[Modality], given: Collection[str]
) -> list[str]:
    """Leave out the files of a modality that is not given, if it shares the folder: one of them has its partner there.

    As in `select_files`, a pattern counts more than a suffix, and a longer suffix more than a shorter.
    """
    own = next(modality.naming for modality in modalities if modality.name == name)
    if not isinstance(own, str):
        return files
    stems = {file: stem_of(file, folder) for file in files}
    for other in modalities:
        naming = other.naming
        if other.name in given or (isinstance(naming, str) and len(naming) <= len(own)):
            continue
        theirs = {file: shared_part(stem, naming) for file, stem in stems.items() if has_naming(stem, naming)}
        parts = {shared_part(stem, own) for file, stem in stems.items() if file not in theirs and has_naming(stem, own)}
        if not parts.isdisjoint(theirs.values()):
            LOGGER.warning(
                f"{len(theirs)} images in {folder} are named like those of {other.name}, like "
                f"{Path(next(iter(theirs))).name}: not taken for {name}"
            )
            stems = {file: stem for file, stem in stems.items() if file not in theirs}
    return list(stems)


def _listed(files: Sequence[str]) -> str:
    return ", ".join(files[:NAMED])


def _matching(pattern: Path) -> list[str]:
    """List the images that match a pattern; unlike `glob`, circular links are followed once."""
    folder = _fixed_part(pattern)
    parts = pattern.relative_to(folder).parts
    return [file for file in list_images(folder) if _fits(Path(file).relative_to(folder).parts, parts)]


def _fits(names: Sequence[str], patterns: Sequence[str]) -> bool:
    """Return whether the parts of a path match one pattern each; "**" matches any number of folders."""
    if not patterns:
        return not names
    if patterns[0] == "**":
        return _fits(names, patterns[1:]) or (len(names) > 0 and _fits(names[1:], patterns))
    return len(names) > 0 and fnmatch(names[0], patterns[0]) and _fits(names[1:], patterns[1:])


def _fixed_part(pattern: Path) -> Path:
    """Return the folder of a pattern above its first wildcard; existing folders may contain wildcard characters."""
    parts = pattern.parts
    wild = (i for i, part in enumerate(parts) if glob.has_magic(part) and not Path(*parts[: i + 1]).is_dir())
    return Path(*parts[: next(wild)])


def _as_stored(pixels: np.ndarray) -> np.ndarray:
    """Return an array as decoded from a file: 0 and 255 for a mask, in native byte order."""
    if pixels.dtype == bool:
        return pixels.astype(np.uint8) * 255
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def _pixels(item: Item, modality: Modality, path: str) -> np.ndarray:
    """Read an image of a modality at its own size, shape (H, W, C_m), uint8."""
    if isinstance(item, str):
        is_known, what = check_pixels(item), item
        if is_known and modality.value_range is None and item.lower().endswith(TIFF_SUFFIXES):
            check_stored(item)
        pixels = read_image(item, modality) if is_known else None
        if pixels is None:
            raise FileNotFoundError(f"cannot read {item}, the {modality.name} image")
    else:
        pixels, what = item if item.ndim == 3 else item[..., None], f"the {modality.name} image of {path}"
        if pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
            raise ValueError(f"{what} has the shape {item.shape}: arrays are (H, W), (H, W, 1) or (H, W, 3)")
        if not pixels.size:
            raise ValueError(f"{what} has the shape {item.shape}: it has no pixel")
        if pixels.dtype.kind not in "buif":
            raise ValueError(f"{what} has values of type {pixels.dtype}, not numbers")
        pixels = _as_stored(pixels)
        if modality.value_range is None and pixels.dtype == np.uint16:
            pixels = (pixels >> 8).astype(np.uint8)  # as such a file is read
        if modality.value_range is not None or pixels.dtype == np.uint8:
            pixels = as_stacked(np.ascontiguousarray(pixels), modality)
    if pixels.dtype != np.uint8:
        raise ValueError(
            f"{what} has values of type {pixels.dtype}, which have no 8-bit reading: the model must be trained with "
            f"the key 'range' for {modality.name}, the values that become 0 and 255"
        )
    return pixels
