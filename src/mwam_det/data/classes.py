"""Pairs for classification, in one folder per class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.transforms import v2
from ultralytics.data.augment import Compose
from ultralytics.data.utils import get_hash
from ultralytics.utils import LOGGER

from mwam_det.data.dataset import PairedDataset
from mwam_det.data.errors import DatasetError
from mwam_det.data.modality import Modality
from mwam_det.data.pairing import check_pair
from mwam_det.data.transforms import StackedFormat

WHOLE_IMAGE = (0.5, 0.5, 1.0, 1.0)
"""The label of an image for Ultralytics' dataset of boxes: one box around everything."""


class CentreCropFormat:
    """Ultralytics' transform of classification without augmentation, for stacks: a centre crop as a tensor.

    Args:
        modalities: The modalities of the stack.
        new_shape: (height, width) of the tensor, not larger than the stack.
    """

    def __init__(self, modalities: Sequence[Modality], new_shape: tuple[int, int]):
        self.new_shape = new_shape
        self._format = StackedFormat(modalities)

    def __call__(self, labels: dict[str, Any]) -> dict[str, Any]:
        """Turn a sample of the dataset into one for a batch: "img" (C, H, W), uint8, and "cls" (1,), int64."""
        (height, width), (top, left) = labels["resized_shape"], centre_of(labels["resized_shape"], self.new_shape)
        original = labels["ori_shape"]
        image = self._as_tensor(centre_crop(labels["img"], self.new_shape))
        pad = ((height / original[0], width / original[1]), (-left, -top))
        return {**self._sample(labels, image), "ratio_pad": pad}

    def _as_tensor(self, image: np.ndarray) -> torch.Tensor:
        return self._format.apply_image({"img": image})["img"]

    def _sample(self, labels: dict[str, Any], image: torch.Tensor) -> dict[str, Any]:
        return {
            "img": image,
            "cls": torch.from_numpy(labels["cls"][0]).long(),
            "im_file": labels["im_file"],
            "ori_shape": labels["ori_shape"],
            "resized_shape": self.new_shape,
        }


class RandomCropFormat(CentreCropFormat):
    """Ultralytics' augmentation of classification, for stacks: all modalities are cropped, mirrored and erased alike.

    Colours change in the visible modality only. There is no `auto_augment`, which changes colours and geometry at once.

    Args:
        modalities: The modalities of the stack.
        new_shape: (height, width) of the tensor.
        hyp: Ultralytics' arguments `scale`, `fliplr`, `flipud`, `hsv_h`, `hsv_s`, `hsv_v` and `erasing`.
    """

    def __init__(self, modalities: Sequence[Modality], new_shape: tuple[int, int], hyp: Any):
        super().__init__(modalities, new_shape)
        self._visible = next((modality.slice for modality in modalities if modality.visible), None)
        self._crop = v2.Compose(
            [
                v2.RandomResizedCrop(new_shape, scale=(1 - hyp.scale, 1), antialias=True),
                v2.RandomHorizontalFlip(hyp.fliplr),
                v2.RandomVerticalFlip(hyp.flipud),
            ]
        )
        self._colour = v2.ColorJitter(hyp.hsv_v, hyp.hsv_v, hyp.hsv_s, hyp.hsv_h)
        self._erase = v2.RandomErasing(hyp.erasing)

    def __call__(self, labels: dict[str, Any]) -> dict[str, Any]:
        """Turn a sample of the dataset into one for a batch, see `CentreCropFormat`."""
        image = self._crop(self._as_tensor(labels["img"]))
        if self._visible is not None:
            image[self._visible] = self._colour(image[self._visible])
        return self._sample(labels, self._erase(image))


class PairedClassificationDataset(PairedDataset):
    """Pairs in one folder per class below the folder of each modality: train/rgb/car/1.jpg and train/ir/car/1.jpg.

    Images are resized to the training size by their shorter side and cropped, in training at random. Arguments and
    errors are those of `PairedDataset`, with one more:

    Raises:
        DatasetError: If no image lies in the folder of a class.
    """

    fit = "short"

    def get_img_files(self, img_path: str | list[str]) -> list[str]:
        """List the images of the first modality that have a class, and find their partners."""
        files = super().get_img_files(img_path)
        numbers = {name: number for number, name in self.data["names"].items()}
        folders = {file: self._class_folder(file, numbers) for file in files}
        self._classes = {file: numbers[folder] for file, folder in folders.items() if folder in numbers}
        if others := sorted({folder for folder in folders.values() if folder not in numbers}):
            count, where = len(files) - len(self._classes), ", ".join(others)
            finding = f"{count} of {len(files)} images of {img_path} are in no folder of a class but in {where}"
            if not self._classes:
                raise DatasetError(f"{finding}: the classes are {', '.join(numbers)}")
            LOGGER.warning(f"{self.prefix}{finding}: left out")
        return list(self._classes)

    def _class_folder(self, file: str, numbers: Mapping[str, int]) -> str:
        """Return the first folder of an image; if images are listed, the first one named like a class."""
        parts = Path(file).relative_to(self._folders_of[file][self.modalities[0].name]).parts
        return parts[0] if self.is_whole else next((part for part in parts[:-1] if part in numbers), parts[0])

    def get_label_files(self) -> list[str]:
        """Return the images: their folders are the labels."""
        self.label_files = list(self.im_files)
        return self.label_files

    def verify_args(self) -> tuple:
        """Return the function that checks a pair, and its arguments for every image."""
        candidates, classes = map(self.candidates, self.im_files), (self._classes[file] for file in self.im_files)
        constants = map(repeat, (self.prefix, self.modalities))
        return verify_classified_pair, zip(self.im_files, candidates, classes, *constants)  # noqa: B905 (endless)

    def get_cache_hash(self) -> str:
        """Return a hash as of pairs, and of the class of each: the scan has it, and the order of `names` changes it."""
        return get_hash([f"classes {[*self._classes.values()]}", super().get_cache_hash()])

    def update_labels(self, include_class: list[int] | None) -> None:
        """Leave the classes unchanged: Ultralytics' classification cannot select them."""

    def build_transforms(self, hyp: Any) -> Compose:
        """Build the augmentation, or a centre crop."""
        height, width = self.imgsz if isinstance(self.imgsz, list | tuple) else (self.imgsz, self.imgsz)
        if self.augment:
            return Compose([RandomCropFormat(self.modalities, (height, width), hyp)])
        return Compose([CentreCropFormat(self.modalities, (height, width))])


def centre_of(shape: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """Return (top, left) of the centre crop of `size` (height, width), as torchvision rounds it."""
    return round((shape[0] - size[0]) / 2), round((shape[1] - size[1]) / 2)


def centre_crop(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the centre crop of `size` (height, width) of an image (H, W, C), as a view."""
    top, left = centre_of(image.shape[:2], size)
    return image[top : top + size[0], left : left + size[1]]


def verify_classified_pair(args: tuple) -> tuple:
    """Check one pair of a class and return what `verify_pair` does, with one box around everything as the label.

    Args:
        args: Image of the first modality, candidates of every modality by name, class, prefix of messages, and the
            modalities.
    """
    image, candidates, number, prefix, modalities = args
    try:
        sizes = check_pair(candidates, modalities)
    except ValueError as error:
        return None, None, None, None, None, 0, 0, 0, 1, f"{prefix}{image}: pair left out, {error}", ()
    label = np.array([[number, *WHOLE_IMAGE]], np.float32)
    return image, label, sizes[0], [], None, 0, 1, 0, 0, "", sizes
