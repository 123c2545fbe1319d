"""Crop the objects of a dataset of pairs, into folders that classifiers read."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from ultralytics.utils import TQDM

from mwam_det.data.dataset import PairedDataset
from mwam_det.data.errors import DatasetError
from mwam_det.data.levels import AS_STORED
from mwam_det.data.modality import Modality
from mwam_det.data.names import class_folders
from mwam_det.data.paired_data import PairedData
from mwam_det.data.reading import decode, place
from mwam_det.files.locks import LOCK, Hold
from mwam_det.files.paths import expanded

MARGIN = 0.1
SMALLEST = 16


def cut_objects(
    data: PairedData,
    destination: str | Path,
    margin: float = MARGIN,
    smallest: int = SMALLEST,
    recipe_for: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda section: {"data": section},
) -> dict[str, Counter[str]]:
    """Write every object of a dataset as one image per modality.

    Object i of the pair STEM becomes DST/SPLIT/MODALITY/CLASS/STEM_i.png, so that patterns of names such as "day_*"
    still match; "/" in a stem becomes "%2F", "%" becomes "%25". Folders of classes are named by
    `mwam_det.data.names.class_folders`.

    A crop is a square around the box, as large as its longer side plus a margin, shifted into the image at the border.
    Values are those of the files (16 bits stay 16 bits); partners are resized or aligned to the first modality, as for
    training. DST/recipe.yaml describes the crops; a range by percentiles, or a filter, is then that of each crop.

    Args:
        data: A dataset with boxes.
        destination: A new or empty folder. It appears when everything is written.
        margin: Margin on each side, as a share of the longer side of the box.
        smallest: Objects whose longer side is shorter, in pixels, are left out.
        recipe_for: Makes the recipe of a classifier from the data section of the crops; by default the recipe holds
            only that section.

    Returns:
        Number of objects written by class, by split.

    Raises:
        DatasetError: If the destination is not empty, two classes would share a folder or two pairs a file, or a split
            has no object to crop.
        FolderInUse: If another process writes to the destination.
    """
    try:
        folders = class_folders(data.names)
    except ValueError as error:
        raise DatasetError(f"names: {error}") from None
    destination = expanded(destination)
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise DatasetError(f"{destination} already exists: name a new folder")
    keys = data.as_dict()
    with _unfinished(destination) as folder:
        root = folder / destination.name
        counts = {split: _cut_split(keys, split, folders, root, margin, smallest) for split in data.splits}
        if empty := ", ".join(split for split, count in counts.items() if not count.total()):
            raise DatasetError(f"no object of {empty} has a side of {smallest} pixels: choose a smaller size")
        section = _section(data, destination, folders.values(), counts)
        recipe = yaml.safe_dump(recipe_for(section), sort_keys=False, allow_unicode=True)
        (root / "recipe.yaml").write_text(recipe, encoding="utf-8")
        if destination.exists():
            destination.rmdir()
        root.rename(destination)
    return counts


@contextmanager
def _unfinished(destination: Path) -> Iterator[Path]:
    """Hold a temporary folder beside the destination, emptied of what a dead process left, and remove it at the end."""
    folder = destination.with_name(f"{destination.name}.unfinished")
    # an empty folder is that of a process killed before it had locked it
    is_ours = folder.is_dir() and ((folder / LOCK).exists() or not any(folder.iterdir()))
    if folder.exists() and not is_ours:
        raise DatasetError(f"{folder} is in the way: move it, or name another folder")
    hold = Hold(folder)
    try:
        _empty(folder)
        yield folder
    finally:
        _empty(folder)
        hold.release()
        folder.rmdir()


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name != LOCK:
            shutil.rmtree(path)


def _cut_split(
    data: dict[str, Any], split: str, folders: Mapping[int, str], root: Path, margin: float, smallest: int
) -> Counter[str]:
    dataset = PairedDataset(img_path=data[split], imgsz=640, augment=False, prefix=f"{split}: ", data=data)
    count: Counter[str] = Counter(dict.fromkeys(folders.values(), 0))
    for label in TQDM(dataset.labels, desc=f"{split}: cropping objects"):
        size = label["shape"]
        squares = [_square(box, size, margin) for box in label["bboxes"]]
        sides = (label["bboxes"][:, 2:] * size[::-1]).max(1, initial=0)
        kept = [i for i, side in enumerate(sides) if side >= smallest]
        if not kept:
            continue
        images = {m.name: _read(dataset, label["im_file"], m) for m in dataset.modalities}
        stem = dataset.stem(label["im_file"])
        for i in kept:
            name = folders[int(label["cls"][i, 0])]
            count[name] += 1
            for modality, image in images.items():
                suffix = ".png" if image.dtype in (np.uint8, np.uint16) else ".tiff"  # PNG holds no other values
                file = root / split / modality / name / f"{_flat(stem)}_{i}{suffix}"
                if file.exists():  # on a file system that ignores case
                    raise DatasetError(
                        f"two pairs would be written to {file.name}: names must differ in more than case"
                    )
                file.parent.mkdir(parents=True, exist_ok=True)
                done, encoded = cv2.imencode(suffix, image[squares[i]])  # imwrite crashes on a name in no encoding
                if not done:
                    raise OSError(f"{file} cannot be written")
                file.write_bytes(encoded.tobytes())
    return count


def _flat(stem: str) -> str:
    """Return a unique name without folders for a stem."""
    return stem.replace("%", "%25").replace("/", "%2F")


def _read(dataset: PairedDataset, first: str, modality: Modality) -> np.ndarray:
    index = dataset.modalities.index(modality)
    sizes, file = dataset.sizes[first], dataset.files(first)[index]
    image = decode(file, AS_STORED)
    if image is None:
        raise DatasetError(f"{file} can no longer be read")
    return place(image, modality, sizes[index], sizes[0], sizes[0])


def _square(box: np.ndarray, size: tuple[int, int], margin: float) -> tuple[slice, slice]:
    """Return rows and columns of the crop of a box (x, y, w, h) normalised to the image's (height, width)."""
    centre = box[1] * size[0], box[0] * size[1]
    side = round(max(box[3] * size[0], box[2] * size[1]) * (1 + 2 * margin))
    parts = []
    for middle, image_side in zip(centre, size, strict=True):
        length = min(max(side, 1), image_side)
        first = min(max(round(middle - length / 2), 0), image_side - length)
        parts.append(slice(first, first + length))
    return parts[0], parts[1]


def _section(
    data: PairedData, destination: Path, folders: Iterable[str], counts: Mapping[str, Counter[str]]
) -> dict[str, Any]:
    section: dict[str, Any] = {
        "path": str(destination.absolute()),
        "modalities": {name: f"{{split}}/{name}" for name in data.channels},
        **{split: split for split in counts},
        "names": [name for name in folders if any(count[name] for count in counts.values())],
    }
    if grey := {name: channels for name, channels in data.channels.items() if channels == 1}:
        section["channels"] = grey
    keys = data.as_dict()
    return section | {key: keys[key] for key in ("range", "filter") if keys[key]}
