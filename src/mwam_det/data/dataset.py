"""Ultralytics' dataset whose images are stacks of all modalities."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import shutil
import unicodedata
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from ultralytics.data.augment import Compose
from ultralytics.data.dataset import YOLODataset
from ultralytics.data.utils import check_file_speeds, get_hash
from ultralytics.utils import LOCAL_RANK, LOGGER

from mwam_det.data.errors import DatasetError
from mwam_det.data.listing import list_split, partners_in
from mwam_det.data.memory import empty_images
from mwam_det.data.messages import brief_messages
from mwam_det.data.modality import Modality, modalities_of
from mwam_det.data.pairing import stem_of, verify_pair
from mwam_det.data.reading import place, read_image, reduction_of
from mwam_det.data.splits import groups_of, source_of
from mwam_det.data.stacks import fingerprint, is_current, load_stack, save_stack, stack_name
from mwam_det.data.transforms import (
    Frame,
    LetterBoxedFormat,
    StackedFormat,
    are_planes,
    colour_on_visible,
    copy_channels,
    fuse_letterbox,
)
from mwam_det.files.folders import list_files
from mwam_det.files.paths import expanded

Fit = Literal["long", "short", "stretch"]
"""How an image is resized: by its longer side, by its shorter side, or each side independently."""

SCANS = expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "mwam_det"
"""Folder of scan results and, in "stacks", of `cache="disk"`; it may be deleted."""

LONGEST_PART = 40
"""Bytes of each folder's name used in names there; file systems allow 255 in all."""

_ImageStore: Any = getattr(YOLODataset, "_ImageCache", list)


class CachedStacks(_ImageStore):
    """Ultralytics' store of images in RAM, preserving planar memory layout.

    Args:
        images: Stacks of shape (H, W, C), uint8, all planar in memory or none; the list is emptied.
    """

    def __init__(self, images: list[np.ndarray]):
        self.planar = all(map(are_planes, images))
        if self.planar:
            images[:] = (image.transpose(2, 0, 1) for image in images)
        super().__init__(images)

    def __getitem__(self, i: int) -> np.ndarray:
        """Return stack `i`."""
        image = super().__getitem__(i)
        return image.transpose(1, 2, 0) if self.planar else image


class PairedDataset(YOLODataset):
    """A detection dataset of aligned modalities, stacked along the channels in the order of `data["modalities"]`.

    Images are listed from the first modality's folder; partners are found by stem, whatever the extension, and always
    looked up by path, because Ultralytics reorders its lists. The first modality determines the size: partners of
    another size are stretched to it, or aligned.

    Args:
        *args: Arguments of `YOLODataset`; `img_path` is the value of the split in `data`.
        data: A resolved dataset (see `mwam_det.data.section.resolve_dataset`), which also says how files are named and
            read.
        **kwargs: Arguments of `YOLODataset`.

    Attributes:
        left_over: By modality, number of images without a partner of the first; 0 unless `is_whole`.
        is_whole: Whether the split is all pairs in its folders, not a list or a fraction of them.

    Raises:
        DatasetError: If a split is empty or no pair can be used.
    """

    label_suffix = ".txt"
    stacked_format: type[StackedFormat] = StackedFormat
    format_class: Any  # a class in Ultralytics, called and compared with `SemanticFormat`
    _ImageCache: Any = CachedStacks
    ims: list[Any]  # Ultralytics declares all three as lists of None, their initial content
    im_hw0: list[Any]
    im_hw: list[Any]

    def __init__(self, *args: Any, data: dict[str, Any], **kwargs: Any):
        self.modalities = modalities_of(data)
        self.format_class = partial(self.stacked_format, self.modalities)
        super().__init__(*args, data=data, **kwargs)

    @property
    def fit(self) -> Fit:
        """How images are resized to the training size."""
        return "long"

    def get_img_files(self, img_path: str | list[str]) -> list[str]:
        """List the images of the first modality and find their partners.

        Ultralytics' own listing repeats files in linked folders, endlessly if links are circular.

        Raises:
            DatasetError: If there is no image, or a modality has no partner at all.
        """
        first = self.modalities[0].name
        splits = map(groups_of, self.data["splits"].values())
        groups = next((groups for groups in splits if source_of(groups, first) == str(img_path)), None)
        if groups is None:
            raise DatasetError(f"{img_path} is not the folder of {first} in any split of the dataset")
        self._folders_of, warnings = list_split(groups, self.modalities, self.data["path"])
        files = list(self._folders_of)
        check_file_speeds([*files], prefix=self.prefix)
        count = self.fraction if isinstance(self.fraction, int) else max(1, round(len(files) * self.fraction))
        files = files[:count]  # of the first modality's files, not of all in its folder
        found, left_over = partners_in({file: self._folders_of[file] for file in files}, self.modalities)
        # the candidates of every modality by image; tuples to save memory
        names = [modality.name for modality in self.modalities]
        self._candidates = {file: tuple(tuple(files_of[name]) for name in names) for file, files_of in found.items()}
        # a list, or a fraction of the first modality, leaves images without a partner by design
        self.is_whole = self.fraction == 1 and all(group.listed is None for group in groups)
        self.left_over = {name: counts.total() if self.is_whole else 0 for name, counts in left_over.items()}
        if self.is_whole:
            warnings += [
                f"{count} images of {name} in {folder} have no partner of {first}"
                for name, counts in left_over.items()
                for folder, count in counts.items()
                if count
            ]
        if self.augment:
            validated, _ = list_split(groups_of(self.data["splits"]["val"]), self.modalities, self.data["path"])
            if both := len(validated.keys() & self._folders_of.keys()):
                warnings.append(
                    f"{both} of {len(validated)} pairs of val are also in train: validation measures how well they are "
                    "remembered"
                )
        for warning in warnings:
            LOGGER.warning(f"{self.prefix}{warning}")
        return files

    def get_label_files(self) -> list[str]:
        """Return the label file of each image, below the labels' folder and with `label_suffix`.

        Its stem is the one that partners share or, if that file does not exist, that of an image of the pair.

        Raises:
            DatasetError: If the dataset has no folder of labels.
        """
        if any("labels" not in folders for folders in self._folders_of.values()):
            raise DatasetError("the key 'labels' is missing or empty: it names the folder of the label files")
        self.label_files = [self._label_file(file, self._shared_stem(file)) for file in self.im_files]
        existing = {file for folder in self.label_folders for file in list_files(folder)}
        if any(modality.naming for modality in self.modalities):  # else partners have the same stem
            for i, (image, file) in enumerate(zip(self.im_files, self.label_files, strict=True)):
                if file not in existing:
                    self.label_files[i] = next((f for f in self._named_like_images(image) if f in existing), file)
        if not existing.issuperset(self.label_files):
            spelled = {_spelling(file): file for file in existing}
            self.label_files = [
                file if file in existing else spelled.get(_spelling(file), file) for file in self.label_files
            ]
        return self.label_files

    @property
    def listed(self) -> list[str]:
        """All images of the first modality, including those of pairs that cannot be used."""
        return list(self._candidates)

    @property
    def label_folders(self) -> list[Path]:
        """The folders of the label files, each once."""
        return list(dict.fromkeys(folders["labels"] for folders in self._folders_of.values()))

    def stem(self, im_file: str) -> str:
        """Return the stem that a pair shares, unique among folders, given its image of the first modality."""
        name = self.modalities[0].name
        folders = {folders[name] for folders in self._folders_of.values()}
        stem = self._shared_stem(im_file)
        if len(folders) == 1:
            return stem
        prefix = self._folders_of[im_file][name].relative_to(os.path.commonpath(folders)).as_posix()
        return stem if prefix == "." else f"{prefix}/{stem}"

    def _shared_stem(self, im_file: str) -> str:
        first = self.modalities[0]
        return stem_of(im_file, self._folders_of[im_file][first.name], first.naming)

    def _label_file(self, im_file: str, stem: str) -> str:
        return os.path.normpath(self._folders_of[im_file]["labels"] / f"{stem}{self.label_suffix}")

    def _named_like_images(self, im_file: str) -> Iterator[str]:
        """Yield the label files with the stem of an image of a pair, the first modality's first."""
        for modality, candidates in zip(self.modalities, self._candidates[im_file], strict=True):
            for file in candidates:
                yield self._label_file(im_file, stem_of(file, self._folders_of[im_file][modality.name]))

    def verify_args(self) -> tuple:
        """Return the function that checks a pair, and its arguments for every image."""
        candidates = map(self.candidates, self.im_files)
        keypoints = (self.use_keypoints, *self.data.get("kpt_shape", (0, 0)))
        constants = map(repeat, (self.prefix, len(self.data["names"]), self.single_cls, self.modalities, keypoints))
        return verify_pair, zip(self.im_files, candidates, self.label_files, *constants)  # noqa: B905 (endless repeat)

    def result_to_label(self, result: tuple | list) -> tuple:
        """Turn the result of `verify_pair` into a label that includes the size of every modality's file."""
        *stock, sizes = result
        label, *counts = super().result_to_label(stock)
        return {**label, "sizes": sizes} if label else label, *counts

    def get_cache_hash(self) -> str:
        """Return a hash of the files of all modalities and of how they are read, so that a change triggers a scan."""
        others = [f for file in self.im_files for candidates in self._candidates[file][1:] for f in candidates]
        return get_hash([*others, f"{self.modalities}", super().get_cache_hash()])

    def get_labels(self) -> list[dict[str, Any]]:
        """Scan all pairs and return the labels of the usable ones; of the others, a few are named and the rest counted.

        Raises:
            DatasetError: If no pair can be used, or a training split has no labels at all.
        """
        try:
            with brief_messages(self.prefix):
                labels = super().get_labels()
        except (RuntimeError, ValueError) as error:
            reasons = {
                "No labels found": "no labels",
                "No valid images found": "no usable pair",
                "requires equal numbers of boxes": "labels are boxes, not outlines",
            }
            reason = next((ours for theirs, ours in reasons.items() if theirs in str(error)), None)
            if reason is None:
                raise
            example = "".join(f", like: {line.strip()}" for line in str(error).splitlines()[1:2])
            folders = ", ".join(map(str, self.label_folders))
            if reason == "no labels":
                found = next((file for folder in self.label_folders for file in list_files(folder)), "no file")
                example = f": expected {self.label_files[0]}, found {found}"
            raise DatasetError(
                f"{reason} among {len(self.im_files)} images of {self.img_path}, labels in {folders}: see the messages "
                f"above, fix the files or the data section{example}"
            ) from error
        known = {file: file for file in self._candidates}
        same: dict[tuple, tuple] = {}
        self.im_files = [known[label["im_file"]] for label in labels]  # holds one string per path
        self.sizes = {}
        for file, label in zip(self.im_files, labels, strict=True):
            label["im_file"] = file
            sizes = label.pop("sizes")
            self.sizes[file] = same.setdefault(sizes, sizes)  # and one tuple per size
        return labels

    def _load_or_scan_cache(self, cache_path: Path, cache_hash: str) -> tuple[dict, bool]:
        # not beside the labels, where Ultralytics keeps its own scan, and which are often read-only
        with contextlib.suppress(OSError):  # Ultralytics reports that it cannot save the scan
            SCANS.mkdir(parents=True, exist_ok=True)
        # the images of a list lie in the folders of other splits
        name = f"{cache_path.with_suffix('')}{'' if os.path.isdir(str(self.img_path)) else self.img_path}"
        file = SCANS / f"{_cache_name(Path(name), f'{self.modalities}')}.cache"
        try:
            scan, is_known = super()._load_or_scan_cache(file, cache_hash)
        except FileNotFoundError:  # another process has just replaced the scan, which Ultralytics deletes first
            scan, is_known = super()._load_or_scan_cache(file, cache_hash)
        if is_known and LOCAL_RANK in {-1, 0}:  # Ultralytics would name a missing file beside the labels
            found, missing, empty, corrupt, _ = scan["results"]
            LOGGER.info(f"{self.prefix}{self.scan_summary(found, missing, empty, corrupt)}, scanned before")
            if scan["msgs"]:
                LOGGER.info("\n".join(scan["msgs"]))
        return scan, False

    def load_image(
        self, i: int, rect_mode: bool | None = None, resize_short: bool | None = None
    ) -> tuple[np.ndarray, tuple[int, int], tuple[int, int]]:
        """Read image `i` of every modality, resize it to the training size and stack all along the channels.

        Ultralytics reads, resizes and buffers one file in one method, so its rules for size and buffer are restated
        here. `*.npy` files beside the images hold one modality and are not read; with `cache="disk"`, a kept stack is
        read if the files of all modalities are unchanged.

        Returns:
            The stack, shape (H, W, ΣC_m), uint8, colour modalities in BGR; the (height, width) of the first modality's
            file, from the scan; the (height, width) of the stack.

        Raises:
            FileNotFoundError: If a file can no longer be read.
        """
        if self.ims[i] is not None:
            return self.ims[i], self.im_hw0[i], self.im_hw[i]
        original = self.sizes[self.im_files[i]][0]
        fit: Fit = "stretch" if rect_mode is False else "short" if resize_short else self.fit
        target = target_size(original, self.imgsz, fit)
        stack = self._kept_stack(self.im_files[i], target) if self.cache == "disk" else None
        if stack is None:
            stack = self._read_stack(self.im_files[i], target)
        if self.augment and self.cache != "ram":
            self.ims[i], self.im_hw0[i], self.im_hw[i] = stack, original, target
            self.buffer.append(i)
            if 1 < len(self.buffer) >= self.max_buffer_length:
                j = self.buffer.pop(0)
                self.ims[j], self.im_hw0[j], self.im_hw[j] = None, None, None
        return stack, original, target

    def check_cache_disk(self, safety_margin: float = 0.1) -> bool:
        """Return whether the folder of the stacks has the space that they need; warn if not.

        Args:
            safety_margin: Share of the needed space required on top.
        """
        sizes = [target_size(self.sizes[f][0], self.imgsz, self.fit) for f in self.im_files]
        # read by Ultralytics' progress bar; its own would lie beside the user's images
        self.npy_files = [self._stack_file(f, size) for f, size in zip(self.im_files, sizes, strict=True)]
        missing = (size for file, size in zip(self.npy_files, sizes, strict=True) if not file.is_file())
        required = sum(height * width * self.channels for height, width in missing) * (1 + safety_margin)
        folder = self.npy_files[0].parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(folder).free if os.access(folder, os.W_OK) else None
        except OSError:
            free = None
        if free is None:
            problem = "it is not writable"
        elif required > free:
            problem = f"{required / 2**30:.1f} GB are needed there and {free / 2**30:.1f} GB are free"
        else:
            return True
        self.cache = None
        LOGGER.warning(f"{self.prefix}pairs are not kept in {folder}: {problem}")
        return False

    def cache_images_to_disk(self, i: int) -> None:
        """Save the stack of pair `i`, unless it is saved and its files have not changed."""
        file, first = self.npy_files[i], self.im_files[i]
        made_from = fingerprint(self.files(first))
        if is_current(file, made_from):
            return
        target = target_size(self.sizes[first][0], self.imgsz, self.fit)
        stack = self._read_stack(first, target)
        try:
            save_stack(file, made_from, stack)
        except OSError as error:
            LOGGER.warning(f"{self.prefix}the pair of {first} is not kept: {error}")

    def _kept_stack(self, first: str, target: tuple[int, int]) -> np.ndarray | None:
        try:
            made_from = fingerprint(self.files(first))
        except OSError:
            return None  # reading the files names the missing one
        return load_stack(self._stack_file(first, target), made_from, (*target, self.channels))

    def _stack_file(self, first: str, target: tuple[int, int]) -> Path:
        folder = SCANS / "stacks" / _cache_name(self._folders_of[first][self.modalities[0].name])
        return folder / stack_name(self.files(first), f"{self.modalities}", target)

    def files(self, first: str) -> list[str]:
        """Return the file of every modality of a pair, given that of the first."""
        return [files[0] for files in self._candidates[first]]

    def candidates(self, first: str) -> dict[str, tuple[str, ...]]:
        """Return by modality the possible partners of an image of the first one, see `find_partners`."""
        return {modality.name: files for modality, files in zip(self.modalities, self._candidates[first], strict=True)}

    def _read_stack(self, first: str, target: tuple[int, int]) -> np.ndarray:
        """Decode every file of a pair and stack the images, see `load_image`."""
        if not self.augment:
            planes = np.empty((self.channels, *target), np.uint8)
            self._read_planes(first, target, list(planes))
            return planes.transpose(1, 2, 0)
        images = [image for _, image in self._read(first, target)]
        stack = cv2.merge(images)  # several times as fast as np.concatenate; augmentation needs interleaved channels
        return stack if stack.ndim == 3 else stack[..., None]

    def _read_planes(self, first: str, target: tuple[int, int], planes: list[np.ndarray]) -> None:
        """Decode every file of a pair into one plane of the target's shape per channel of the stack."""
        for modality, image in self._read(first, target):
            # at once, so that the next file is decoded into memory in the processor's cache
            cv2.split(image, planes[modality.slice])

    def _read(self, first: str, target: tuple[int, int]) -> Iterator[tuple[Modality, np.ndarray]]:
        """Decode the files of a pair one by one, each stretched or aligned to the target."""
        sizes = self.sizes[first]
        for modality, file, size in zip(self.modalities, self.files(first), sizes, strict=True):
            image = read_image(file, modality, reduction_of(file, modality, size, target))
            if image is None:
                raise FileNotFoundError(f"cannot read {file}, the {modality.name} image of {first}")
            yield modality, place(image, modality, size, sizes[0], target)

    def build_transforms(self, hyp: Any) -> Compose:
        """Build Ultralytics' transforms, with colour augmentation on the visible modality only."""
        self._arranged: dict[int, Any] = {}
        return fuse_letterbox(colour_on_visible(super().build_transforms(hyp), self.modalities))

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Return the samples of a batch, as requested by a loader.

        If letterbox and formatting are the only transforms, images are written side by side into one tensor, which
        `collate_fn` returns as the batch without a copy.
        """
        transform = self.transforms.tolist()[0]
        if not isinstance(transform, LetterBoxedFormat):
            return [self[i] for i in indices]
        size = self.batch_shapes[self.batch[indices[0]]] if self.rect else np.broadcast_to(self.imgsz, 2)
        rooms = empty_images(len(indices), self.channels, *size.tolist())
        places = zip(indices, rooms, rooms.numpy(), strict=True)  # one call of numpy() for all, since torch is slow
        return [self._still_sample(i, transform, *room) for i, *room in places]

    def _still_sample(
        self, i: int, transform: LetterBoxedFormat, room: torch.Tensor, planes: np.ndarray
    ) -> dict[str, Any]:
        """Return sample `i`, with its image in `room` if the shapes agree; `planes` is the same memory."""
        arranged = self._arranged.get(i) or self._arrange(i, transform)
        if arranged is None or arranged[1].shape != room.shape:
            return self[i]
        sample, frame = arranged
        inner = transform.pad(planes, frame)
        places = list(zip(transform.draw_order(), inner, strict=True))
        if self.ims[i] is None and self.cache != "disk":
            in_order = [plane for _, plane in sorted(places, key=lambda pair: pair[0])]
            self._read_planes(self.im_files[i], inner.shape[1:], in_order)
        else:
            copy_channels(self.load_image(i)[0], places)
        return {**sample, "img": room}

    def _arrange(self, i: int, transform: LetterBoxedFormat) -> tuple[dict, Frame] | None:
        """Arrange sample `i` without reading a file; the result is kept unless it holds masks."""
        unread = self.ims[i] is None
        if unread:  # Ultralytics takes the shape from the image
            original = self.sizes[self.im_files[i]][0]
            target = target_size(original, self.imgsz, self.fit)
            blank = np.broadcast_to(np.uint8(), (*target, self.channels))
            self.ims[i], self.im_hw0[i], self.im_hw[i] = blank, original, target
        try:
            arranged = transform.arrange(self.get_image_and_label(i))
        finally:
            if unread:
                self.ims[i] = None
        if arranged and not transform.return_mask:
            self._arranged[i] = arranged
        return arranged

    @staticmethod
    def collate_fn(batch: list[dict[str, Any]]) -> dict[str, Any]:
        """Collate samples as Ultralytics does, but without copying images that are adjacent in memory."""
        images = [sample["img"] for sample in batch]
        stacked = joined_in_storage(images)
        if stacked is None:
            stacked = torch.stack(images, out=empty_images(len(images), *images[0].shape))
        rest = [{key: value for key, value in sample.items() if key != "img"} for sample in batch]
        for sample in rest:
            if "batch_idx" in sample:  # modified in place by Ultralytics, while samples may be kept
                sample["batch_idx"] = sample["batch_idx"].clone()
        return dict(sorted({**YOLODataset.collate_fn(rest), "img": stacked}.items()))


def _spelling(label_file: str) -> str:
    """Return a label file as it is compared: in the Unicode form NFC, with its suffix in lower case."""
    stem, suffix = os.path.splitext(unicodedata.normalize("NFC", label_file))
    return stem + suffix.lower()


def _cache_name(path: Path, reading: str = "") -> str:
    """Return a name for what is kept of a folder: its last parts, and a hash of the full path and of how it is read."""
    last = path.relative_to(path.anchor).parts[-3:]
    parts = (os.fsencode(part)[:LONGEST_PART].decode(errors="ignore") for part in last)  # a limit is one of bytes
    return f"{'-'.join(parts)}-{hashlib.sha256(os.fsencode(path) + reading.encode()).hexdigest()[:8]}"


def joined_in_storage(images: Sequence[torch.Tensor]) -> torch.Tensor | None:
    """Return tensors as one of shape (number, *shape) without a copy, or None unless they fill one storage in order."""
    first, size = images[0], images[0].numel()
    for i, image in enumerate(images):
        same = image.untyped_storage().data_ptr() == first.untyped_storage().data_ptr() and image.shape == first.shape
        if not (same and image.is_contiguous() and image.storage_offset() == i * size):
            return None
    if first.untyped_storage().nbytes() != len(images) * first.nbytes:
        return None
    return first.as_strided((len(images), *first.shape), (size, *first.stride()))


class StretchedDataset(PairedDataset):
    """Pairs whose images are stretched to the training size, as for RT-DETR."""

    fit: Fit = "stretch"


def target_size(original: tuple[int, int], imgsz: int | tuple[int, int], fit: Fit) -> tuple[int, int]:
    """Return the (height, width) to which Ultralytics resizes an image before augmentation."""
    rows, columns = imgsz if isinstance(imgsz, tuple | list) else (imgsz, imgsz)
    if fit == "stretch":
        return rows, columns
    height, width = original
    longest = max(rows, columns)
    if fit == "short":
        ratio = longest / min(original)
        return (longest, math.ceil(width * ratio)) if height < width else (math.ceil(height * ratio), longest)
    ratio = longest / max(original)
    return min(math.ceil(height * ratio), longest), min(math.ceil(width * ratio), longest)
