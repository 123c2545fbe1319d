"""Pairs with images of class numbers as labels."""

from __future__ import annotations

from itertools import repeat
from typing import Any

import numpy as np
import torch
from ultralytics.data.augment import SemanticFormat
from ultralytics.data.dataset import SemanticDataset
from ultralytics.data.utils import read_mask

from mwam_det.data.dataset import Fit, PairedDataset
from mwam_det.data.pairing import check_pair, read_mode
from mwam_det.data.section import IGNORED
from mwam_det.data.transforms import StackedFormat


class StackedSemanticFormat(StackedFormat):
    """Ultralytics' formatting of images and class numbers, for stacked modalities."""

    def apply_image(self, labels: dict[str, Any], params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Turn `labels["img"]` and `labels["semantic_mask"]`, (H, W) uint8, into tensors (C, H, W) and (H, W) int32."""
        labels = super().apply_image(labels, params)
        labels["semantic_mask"] = torch.from_numpy(labels["semantic_mask"].copy()).to(torch.int32)
        return labels

    apply_instances = SemanticFormat.apply_instances


class PairedSemanticDataset(PairedDataset, SemanticDataset):
    """Pairs with one PNG each that holds the class of every pixel, of the first modality's size.

    Numbers are mapped by `data["label_mapping"]`; 255 is ignored. Arguments and errors are those of `PairedDataset`.
    """

    label_suffix = ".png"
    stacked_format = StackedSemanticFormat

    def get_label_files(self) -> list[str]:
        """Return the PNG of each image."""
        self.mask_files = super().get_label_files()
        return self.mask_files

    def verify_args(self) -> tuple:
        """Return the function that checks a pair and its PNG, and its arguments for every image."""
        candidates = map(self.candidates, self.im_files)
        known = (np.arange(IGNORED + 1) < max(len(self.data["names"]), 2)) | (np.arange(IGNORED + 1) == IGNORED)
        constants = map(repeat, (self.prefix, self.modalities, known[self.label_lut]))
        return verify_masked_pair, zip(self.im_files, candidates, self.mask_files, *constants)  # noqa: B905 (endless)

    @property
    def fit(self) -> Fit:
        """How images are resized: in training by their shorter side, as Ultralytics does for this task."""
        return "short" if self.augment else "long"


def verify_masked_pair(args: tuple) -> tuple:
    """Check one pair and its PNG of class numbers; the counterpart of Ultralytics' `verify_image_mask`.

    Args:
        args: Image of the first modality, candidates of every modality by name, PNG, prefix of messages, the
            modalities, and for each of 256 numbers whether it is valid.

    Returns:
        The result of `verify_image_mask`: image, PNG, (height, width), Pillow's mode of the PNG, and the numbers
        missing, found, corrupt, and a message. The first four are None for a pair that is left out. Then the
        (height, width) of every modality's file.
    """
    image, candidates, mask_file, prefix, modalities, known = args
    try:
        sizes = check_pair(candidates, modalities)
        try:
            mode = read_mode(mask_file)
        except FileNotFoundError:
            return None, None, None, None, 1, 0, 0, f"{prefix}{image}: pair left out, there is no {mask_file}", ()
        mask = read_mask(mask_file, mode)
        if mask.shape != sizes[0]:
            (height, width), (mask_height, mask_width) = sizes[0], mask.shape[:2]
            raise ValueError(f"{mask_file} is {mask_width}×{mask_height} pixels, the image {width}×{height}")
        if unknown := [int(number) for number in np.unique(mask) if number > IGNORED or not known[number]]:
            raise ValueError(f"{mask_file} holds {', '.join(map(str, unknown[:8]))}, not a class")
    except (ValueError, OSError, SyntaxError) as error:
        return None, None, None, None, 0, 0, 1, f"{prefix}{image}: pair left out, {error}", ()
    return image, mask_file, sizes[0], mode, 0, 1, 0, "", sizes
