"""Ultralytics' dataset, with an image that is the stack of all modalities."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
from functools import partial
from itertools import repeat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
from ultralytics.data.augment import Compose
from ultralytics.data.dataset import YOLODataset
from ultralytics.data.utils import get_hash, get_split_fraction
from ultralytics.utils import LOGGER, colorstr
from ultralytics.utils.patches import imread

from mwam_det.data.layout import DatasetError, modalities_of
from mwam_det.data.pairing import dark_16_bit_maximum, find_partners, stem_of, verify_pair
from mwam_det.data.transforms import StackedFormat, colour_on_visible

SCANS = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "mwam_det"
"""Where the results of scans are kept; deleting a file there makes the next run scan again."""


class PairedDataset(YOLODataset):
    """A detection dataset of aligned modalities, stacked along the channels in the order of `data["modalities"]`.

    Images are listed from the first modality's folder; partners are found by stem whatever the suffix, and always by
    path, because Ultralytics reorders its lists. The first modality's size rules: partners of another size are
    stretched to it. Every modality is read as 3 channels: grey is repeated, of 16 bits the high byte is kept.

    Args:
        *args: Arguments of `YOLODataset`; `img_path` is the first modality's folder of one split.
        data: A resolved dataset (see `mwam_det.data.layout.resolve_dataset`).
        **kwargs: Arguments of `YOLODataset`.

    Raises:
        DatasetError: If a split is empty, no pair can be used, or `cache="disk"` is asked for.
    """

    def __init__(self, *args: Any, data: dict[str, Any], **kwargs: Any):
        if str(kwargs.get("cache")).lower() == "disk":
            raise DatasetError("cache=disk would store the first modality alone: use cache=ram or cache=false")
        self.modalities = modalities_of(data)
        self.format_class = partial(StackedFormat, self.modalities)
        super().__init__(*args, data=data, **kwargs)
        self._warn_of_dark_images()

    def get_img_files(self, img_path: str) -> list[str]:
        """List the images of the first modality and find the partners of each.

        Raises:
            DatasetError: If there is no image, or a modality has no partner at all.
        """
        first = self.modalities[0].name
        folders = next((f for f in self.data["splits"].values() if f[first] == str(img_path)), None)
        if folders is None:
            raise DatasetError(f"{img_path} is not the folder of {first} in any split of the dataset")
        try:
            files = super().get_img_files(img_path)
        except FileNotFoundError as error:
            raise DatasetError(f"there is no image of {first} in {img_path}") from error
        self.folders = {name: Path(folder) for name, folder in folders.items()}
        image_folders = {modality.name: self.folders[modality.name] for modality in self.modalities}
        self.partners, left_over = find_partners(files, image_folders)
        for name, count in left_over.items():
            if count and self.fraction == 1:  # a fraction of the first modality leaves partners over by design
                LOGGER.warning(f"{self.prefix}{count} images of {name} in {folders[name]} have no partner of {first}")
        return files

    def get_label_files(self) -> list[str]:
        """Return the label file of each image: the same stem below the labels' folder."""
        labels, first = self.folders["labels"], self.folders[self.modalities[0].name]
        self.label_files = [str(labels / f"{stem_of(file, first)}.txt") for file in self.im_files]
        return self.label_files

    def verify_args(self) -> tuple:
        """Return the function that checks a pair and its arguments for every image."""
        candidates = [self.partners[file] for file in self.im_files]
        constants = map(repeat, (self.prefix, len(self.data["names"]), self.single_cls))
        return verify_pair, zip(self.im_files, candidates, self.label_files, *constants)  # noqa: B905 (endless repeat)

    def get_cache_hash(self) -> str:
        """Return a hash of all files of all modalities, so that a changed partner is scanned again."""
        partners = [f for candidates in self.partners.values() for files in candidates.values() for f in files]
        return get_hash([*self.label_files, *partners, f"{list(self.data['modalities'])}", super().get_cache_hash()])

    def get_labels(self) -> list[dict[str, Any]]:
        """Scan all pairs, leave out the bad ones with a message each, and return the labels of the others.

        Raises:
            DatasetError: If no pair can be used, or a training split has no labels at all.
        """
        try:
            return super().get_labels()
        except (RuntimeError, ValueError) as error:
            reasons = {"No labels found": "no labels", "No valid images found": "no usable pair"}
            reason = next((ours for theirs, ours in reasons.items() if theirs in str(error)), None)
            if reason is None:
                raise
            raise DatasetError(
                f"{reason} among {len(self.im_files)} images of {self.img_path}, labels in "
                f"{self.folders['labels']}: see the messages above, mend the files or the data section"
            ) from error

    def _load_or_scan_cache(self, cache_path: Path, cache_hash: str) -> tuple[dict, bool]:
        # Beside the labels lies Ultralytics' own scan of the folder, and datasets are often read-only.
        label = "-".join(cache_path.with_suffix("").parts[-3:])
        name = f"{label}-{hashlib.sha256(str(cache_path).encode()).hexdigest()[:8]}.cache"
        with contextlib.suppress(OSError):  # Ultralytics says that it cannot save the scan
            SCANS.mkdir(parents=True, exist_ok=True)
        return super()._load_or_scan_cache(SCANS / name, cache_hash)

    def load_image(
        self, i: int, rect_mode: bool = True, resize_short: bool = False
    ) -> tuple[np.ndarray, tuple[int, int], tuple[int, int]]:
        """Read image `i` of every modality, bring it to the training size and stack all along the channels.

        Ultralytics reads one file, resizes it and keeps it for mosaics in one method, so the rules for size and buffer
        are restated here. `*.npy` files beside the images hold one modality and are not read.

        Returns:
            The stack, shape (H, W, ΣC_m), uint8, colour modalities in BGR; the (height, width) of the first modality on
            disk; the (height, width) of the stack.

        Raises:
            FileNotFoundError: If a file has become unreadable since the scan.
        """
        if self.ims[i] is not None:
            return self.ims[i], self.im_hw0[i], self.im_hw[i]
        first = imread(self.im_files[i], flags=cv2.IMREAD_COLOR)
        if first is None:
            raise FileNotFoundError(f"cannot read {self.im_files[i]}")
        original = first.shape[:2]
        target = _target_size(original, self.imgsz, rect_mode, resize_short)
        images = [_resize(first, target)]
        for modality in self.modalities[1:]:
            (file,) = self.partners[self.im_files[i]][modality.name]
            if (partner := imread(file, flags=cv2.IMREAD_COLOR)) is None:
                raise FileNotFoundError(f"cannot read {file}, the {modality.name} partner of {self.im_files[i]}")
            images.append(_resize(partner, target))
        stack = np.concatenate(images, axis=2)
        if self.augment and self.cache != "ram":
            self.ims[i], self.im_hw0[i], self.im_hw[i] = stack, original, target
            self.buffer.append(i)
            if 1 < len(self.buffer) >= self.max_buffer_length:
                j = self.buffer.pop(0)
                self.ims[j], self.im_hw0[j], self.im_hw[j] = None, None, None
        return stack, original, target

    def build_transforms(self, hyp: Any) -> Compose:
        """Build Ultralytics' transforms, with colour augmentation on the visible modality alone."""
        return colour_on_visible(super().build_transforms(hyp), self.modalities)

    def _warn_of_dark_images(self) -> None:
        for modality in self.modalities:
            file = self.partners[self.im_files[0]][modality.name][0]
            if (maximum := dark_16_bit_maximum(file)) is not None:
                LOGGER.warning(
                    f"{self.prefix}{modality.name} has 16 bits but {file} reaches only {maximum} of 65535; the high "
                    f"byte is read, so it is nearly black (0 to {maximum >> 8} of 255): rescale the files beforehand"
                )


def build_paired_dataset(
    args: SimpleNamespace,
    img_path: str,
    batch: int | None,
    data: dict[str, Any],
    mode: str,
    rect: bool,
    stride: int,
) -> PairedDataset:
    """Build the dataset of one split for trainer or validator, as `ultralytics.data.build_yolo_dataset` does.

    Args:
        args: Ultralytics' arguments.
        img_path: The first modality's folder of the split.
        batch: Batch size, for rectangular batches.
        data: A resolved dataset.
        mode: "train" augments, "val" does not.
        rect: Whether batches are rectangular.
        stride: Stride of the model, in pixels.
    """
    return PairedDataset(
        img_path=img_path,
        imgsz=args.imgsz,
        batch_size=batch,
        augment=mode == "train",
        hyp=args,
        rect=rect,
        cache=args.cache or None,
        single_cls=args.single_cls or False,
        stride=stride,
        pad=0.0 if mode == "train" else 0.5,
        prefix=colorstr(f"{mode}: "),
        task=args.task,
        classes=args.classes,
        data=data,
        fraction=get_split_fraction(args.fraction, "train" if mode == "train" else args.split),
    )


def _target_size(
    original: tuple[int, int], imgsz: int | tuple[int, int], rect_mode: bool, resize_short: bool
) -> tuple[int, int]:
    """Return the (height, width) that Ultralytics brings an image to before augmentation."""
    shape = tuple(imgsz) if isinstance(imgsz, tuple | list) else (imgsz, imgsz)
    if not rect_mode:
        return shape
    height, width = original
    longest = max(shape)
    if resize_short:
        ratio = longest / min(original)
        return (longest, math.ceil(width * ratio)) if height < width else (math.ceil(height * ratio), longest)
    ratio = longest / max(original)
    return min(math.ceil(height * ratio), longest), min(math.ceil(width * ratio), longest)


def _resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return image if image.shape[:2] == size else cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
