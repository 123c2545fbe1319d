"""Samples of several modalities: from files to tensors, augmented alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mwam_det.data.filtering import WindowFilter, apply_filter
from mwam_det.data.levels import AS_STORED, map_to_bytes
from mwam_det.files.images import check_pixels
from mwam_det.hosts.progress import Progress

VOID = -1
"""Class of a pixel without a label."""

IMAGES_FOR_STATISTICS = 256
"""Largest number of images, evenly spaced over the split, that mean and standard deviation are computed from."""

PICTURES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True)
class HostModality:
    """How the files of a modality are read.

    Attributes:
        name: Its name.
        channels: 1 or 3; of frames in several folders, their number.
        value_range: The values of a file that become 0 and 255, the smaller first, one of
            `mwam_det.data.levels.RANGES`, or None for files of 8 bits.
        filter: Which of its frequencies are kept, or None for all.
    """

    name: str
    channels: int = 3
    value_range: tuple[float, float] | str | None = None
    filter: WindowFilter | None = None


@dataclass(frozen=True)
class HostSample:
    """One sample on disk.

    Attributes:
        files: The image of each modality by name; or folders of frames, each of which holds one video. Several folders
            are channels of one modality, such as the two directions of optical flow.
        target: Number of the class, or the file of labels with one number a pixel: 0 for void, then 1 + class.
    """

    files: Mapping[str, Path | tuple[Path, ...]]
    target: int | Path


@dataclass(frozen=True)
class Augmentation:
    """How training images vary; the modalities of a sample and its labels vary alike.

    Args:
        flip: Probability of a mirror image, left and right.
        scale: An image is enlarged by a factor between 1 and this, and cropped back to its size at random.
        degrees: An image is rotated by at most this angle either way, in degrees.
    """

    flip: float = 0.5
    scale: float = 1.0
    degrees: float = 0.0


@dataclass(frozen=True)
class ImageView:
    """A view of an image: enlarged by `scale`, rotated, cropped at `top` and `left` of what is over, or mirrored.

    The rotation is by `degrees` counter-clockwise about the middle; what lies beyond the image is black, and void in
    labels. Of a video, the frame at `time`, from 0 for the first to 1 for the last.
    """

    mirrored: bool = False
    scale: float = 1.0
    top: float = 0.0
    left: float = 0.0
    time: float = 0.5
    degrees: float = 0.0

    def of(self, pixels: np.ndarray, size: tuple[int, int], labels: bool = False) -> np.ndarray:
        """Return this view of an image, shape (H, W) or (H, W, C), in (height, width) `size`; labels are not mixed."""
        height, width = (round(side * self.scale) for side in size)
        shrinks = height < pixels.shape[0] and width < pixels.shape[1]
        way = cv2.INTER_NEAREST if labels else cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        if pixels.shape[:2] != (height, width):
            pixels = cv2.resize(pixels, (width, height), interpolation=way)
        if self.degrees:
            middle = ((width - 1) / 2, (height - 1) / 2)
            way = cv2.INTER_NEAREST if labels else cv2.INTER_LINEAR
            pixels = cv2.warpAffine(
                pixels, cv2.getRotationMatrix2D(middle, self.degrees, 1.0), (width, height), flags=way
            )
        top, left = round(self.top * (height - size[0])), round(self.left * (width - size[1]))
        pixels = pixels[top : top + size[0], left : left + size[1]]
        return pixels[:, ::-1] if self.mirrored else pixels


class MultimodalDataset(Dataset):
    """Samples of several modalities in one size.

    An item is the images by modality, shape (C_m, H, W), uint8; the target, int64, 0-d or of shape (H, W) with `VOID`
    where there is no label; and the sample's index. How a sample varies follows from seed, `epoch` and index alone, so
    that neither the number of workers nor an interruption changes anything.

    Args:
        samples: The samples.
        modalities: How their files are read.
        size: (height, width) of what is returned.
        augmentation: How images vary, or None.
        seed: Of the variation.

    Attributes:
        epoch: To be set before each epoch.
    """

    def __init__(
        self,
        samples: Sequence[HostSample],
        modalities: Sequence[HostModality],
        size: tuple[int, int],
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ):
        self.samples = list(samples)
        self.modalities = tuple(modalities)
        self.size = size
        self.augmentation = augmentation
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[dict[str, Tensor], Tensor, int]:
        """Return images, target and index.

        Raises:
            ValueError: If a file cannot be read; the message names it.
        """
        sample, view = self.samples[index], self._view(index)
        images = {}
        for modality in self.modalities:
            pixels = view.of(read_modality(sample.files[modality.name], modality, view.time), self.size)
            pixels = pixels[..., None] if pixels.ndim == 2 else pixels
            images[modality.name] = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
        if isinstance(sample.target, int):
            return images, torch.tensor(sample.target), index
        labels = view.of(read_labels(sample.target), self.size, labels=True)
        return images, torch.from_numpy(labels.astype(np.int64)) - 1, index

    def _view(self, index: int) -> ImageView:
        if self.augmentation is None:
            return ImageView()
        random = np.random.default_rng([self.seed, self.epoch, index])
        mirrored = random.random() < self.augmentation.flip
        scale, top, left = random.uniform(1, self.augmentation.scale), random.random(), random.random()
        time, degrees = random.random(), random.uniform(-1, 1) * self.augmentation.degrees
        return ImageView(mirrored, scale, top, left, time, degrees)

    def statistics(self) -> dict[str, tuple[list[float], list[float]]]:
        """Measure mean and standard deviation of every channel, in [0, 1], by modality; 1 for one that is constant."""
        count = min(len(self.samples), IMAGES_FOR_STATISTICS)
        chosen = np.linspace(0, len(self.samples) - 1, count).round().astype(int)
        found = {}
        for modality in self.modalities:
            moments = []
            for place in chosen:
                pixels = read_modality(self.samples[place].files[modality.name], modality).astype(np.float64) / 255
                pixels = pixels.reshape(-1, modality.channels)
                moments.append((pixels.mean(0), (pixels**2).mean(0)))
            mean, square = np.mean(moments, axis=0)
            deviation = np.sqrt(np.maximum(square - mean**2, 0))
            found[modality.name] = mean.tolist(), np.where(deviation > 1e-6, deviation, 1.0).tolist()
        return found


def read_modality(source: Path | tuple[Path, ...], modality: HostModality, time: float = 0.5) -> np.ndarray:
    """Read what a sample has of a modality, see `HostSample`: an image, or the frame at a time of each folder.

    Returns:
        Shape (H, W, C_m), uint8; colour as RGB. The frames of several folders are grey, one channel each.

    Raises:
        ValueError: As `read_pixels`, or if a folder holds no frame, or frames differ in size.
    """
    if isinstance(source, Path):
        return read_pixels(source, modality)
    each = modality if len(source) == 1 else replace(modality, channels=1)
    frames = [read_pixels(frame_at(folder, time), each) for folder in source]
    if len({frame.shape for frame in frames}) > 1:
        raise ValueError(f"the frames in {' and '.join(map(str, source))} differ in size")
    return np.concatenate(frames, axis=2)


def frame_at(folder: Path, time: float) -> Path:
    """Return the frame at a time of a video, from 0 for the first to 1 for the last; frames are sorted by name.

    Raises:
        ValueError: If the folder holds none.
    """
    frames = pictures_in(folder)
    if not frames:
        raise ValueError(f"{folder} holds no frame")
    return frames[min(int(time * len(frames)), len(frames) - 1)]


def pictures_in(folder: Path) -> list[Path]:
    """List the pictures in a folder by name, without hidden ones such as the "._0.png" of macOS."""
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in PICTURES and file.is_file())
    return [file for file in files if not file.name.startswith(".")]


def read_pixels(file: Path, modality: HostModality) -> np.ndarray:
    """Read an image as its modality says.

    Returns:
        Shape (H, W, C_m), uint8; colour as RGB.

    Raises:
        ValueError: If the file cannot be read or is too large (see `mwam_det.files.images.check_pixels`), or has more
            than 8 bits a value and its modality no range.
    """
    pixels = decode_file(file, AS_STORED)
    if pixels is None:
        raise ValueError(f"{file} cannot be read as an image")
    if modality.value_range is not None:
        pixels = map_to_bytes(pixels, modality.value_range)
    elif pixels.dtype != np.uint8:
        raise ValueError(
            f"{file} has values of type {pixels.dtype}: say in data.range which of them become 0 and 255, like "
            f"{{{modality.name}: [0, 10000]}}"
        )
    if modality.channels == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB if pixels.ndim == 2 else cv2.COLOR_BGR2RGB)
    else:
        pixels = (pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY))[..., None]
    return pixels if modality.filter is None else apply_filter(pixels, modality.filter)


def decode_file(file: Path, flags: int) -> np.ndarray | None:
    """Read an image by OpenCV; None if it cannot be read or is too large."""
    try:
        # not cv2.imread, which does not open names that are in no encoding
        return cv2.imdecode(np.frombuffer(file.read_bytes(), np.uint8), flags) if check_pixels(file) else None
    except (OSError, cv2.error):
        return None


def check_files(
    samples: Sequence[HostSample], modalities: Sequence[HostModality], progress: Progress | None = None
) -> list[tuple[tuple[int, int], ...]]:
    """Read every image once, and a frame of every video, so that a bad file is found before a training begins.

    Args:
        samples: The samples.
        modalities: How their files are read.
        progress: Where progress is shown, or None.

    Returns:
        By sample the (height, width) of every modality's image.

    Raises:
        ValueError: As `read_modality`, of the first such file.
    """
    files = [(sample.files[modality.name], modality) for sample in samples for modality in modalities]
    with ThreadPoolExecutor() as pool:
        read = pool.map(lambda pair: read_modality(*pair).shape[:2], files)
        sizes = list(read if progress is None else progress.over(read, len(files), "reading file"))
    return [tuple(sizes[i : i + len(modalities)]) for i in range(0, len(sizes), len(modalities))]


def read_labels(file: Path) -> np.ndarray:
    """Read the labels of an image: shape (H, W), integer, 0 for void, then 1 + class.

    Raises:
        ValueError: If the file cannot be read, is too large or is not a grey picture.
    """
    labels = decode_file(file, cv2.IMREAD_UNCHANGED)
    if labels is None or labels.ndim != 2 or labels.dtype.kind not in "iu":
        raise ValueError(f"{file} cannot be read as labels: it must be a grey picture with one class number per pixel")
    return labels


def count_labels(samples: Sequence[HostSample], classes: int) -> np.ndarray:
    """Count the pixels of every label, sample by sample.

    Returns:
        Shape (samples, 1 + classes), int64; the first column is void.

    Raises:
        ValueError: If a label is not a class; the message names the file.
    """
    counts = np.zeros((len(samples), classes + 1), np.int64)
    for row, sample in zip(counts, samples, strict=True):
        if isinstance(sample.target, int):
            raise TypeError(f"a sample of class {sample.target} does not have labels of pixels")
        found = np.bincount(read_labels(sample.target).ravel())
        if len(found) > classes + 1:
            raise ValueError(f"{sample.target} has the label {len(found) - 1}, but there are {classes} classes")
        row[: len(found)] = found
    return counts


class Normalise:
    """Bring images to mean 0 and deviation 1 by channel, so that a modality of zeros is a missing one.

    Args:
        statistics: What `MultimodalDataset.statistics` returned.
    """

    def __init__(self, statistics: Mapping[str, tuple[list[float], list[float]]]):
        self._statistics = {
            name: tuple(torch.tensor(values).view(1, -1, 1, 1) for values in both) for name, both in statistics.items()
        }

    def __call__(self, images: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return uint8 images of shape (B, C_m, H, W) by modality as float32 on their device."""
        normalised = {}
        for name, tensor in images.items():
            mean, deviation = (values.to(tensor.device) for values in self._statistics[name])
            normalised[name] = (tensor.float() / 255 - mean) / deviation
        return normalised
