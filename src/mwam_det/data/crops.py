"""Objects cut out of a dataset of pairs: the folders that classifiers read."""

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
from mwam_det.data.modality import Modality
from mwam_det.data.names import class_folders
from mwam_det.data.paired_data import PairedData
from mwam_det.data.reading import AS_STORED, decode, place
from mwam_det.files.locks import LOCK, Hold

MARGIN = 0.1
SMALLEST = 16


def cut_objects(
    data: PairedData,
    destination: str | Path,
    margin: float = MARGIN,
    smallest: int = SMALLEST,
    recipe_for: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda section: {"data": section},
) -> dict[str, Counter[str]]:
    """Write every object of a dataset as a picture of its own in each modality.

    Object i of the pair STEM becomes DST/SPLIT/MODALITY/CLASS/STEM_i.png, so that patterns of names such as "day_*" go
    on to fit; "%2F" stands for a "/" in a stem, "%25" for a "%". What the folder of a class is called says
    `mwam_det.data.names.class_folders`.

    The cut is square around the box, of the longer side and a margin, and moved into the image where it reaches beyond.
    Values are those of the files (16 bits stay 16 bits); partners of another size are brought to the first modality's,
    or aligned, as for training. DST/recipe.yaml describes them.

    Args:
        data: A dataset with boxes.
        destination: A folder that is not there yet, or empty. It appears when all is written.
        margin: Added on each side, as a share of the longer side of the box.
        smallest: Objects whose longer side is shorter are left out, in pixels.
        recipe_for: Makes the recipe of a classifier from the data section of the cuts; if left out, the recipe holds
            that section alone.

    Returns:
        How many objects of each class were written, by split.

    Raises:
        DatasetError: If the destination holds something, two classes would share a folder or two pairs a file, or
            nothing was cut out of a split.
        FolderInUse: If another process cuts into the destination.
    """
    folders = _class_folders(data)
    destination = Path(destination).expanduser()
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise DatasetError(f"{destination} is there already: name a new folder")
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
    """Hold a folder beside the destination to write to; it is gone afterwards, and what a dead process left in it."""
    folder = destination.with_name(f"{destination.name}.unfinished")
    if folder.exists() and not (folder / LOCK).exists():
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
    for label in TQDM(dataset.labels, desc=f"{split}: cutting out objects"):
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
                if file.exists():  # on a system to which upper and lower case are the same
                    raise DatasetError(f"two pairs would be written to {file.name}: names must differ, and not in case")
                file.parent.mkdir(parents=True, exist_ok=True)
                if not cv2.imwrite(str(file), image[squares[i]]):
                    raise OSError(f"{file} could not be written")
    return count


def _class_folders(data: PairedData) -> dict[int, str]:
    try:
        return class_folders(data.names)
    except ValueError as error:
        raise DatasetError(f"names: {error}") from None


def _flat(stem: str) -> str:
    """Return a name without folders for a stem, another one for each."""
    return stem.replace("%", "%25").replace("/", "%2F")


def _read(dataset: PairedDataset, first: str, modality: Modality) -> np.ndarray:
    place_in_stack = dataset.modalities.index(modality)
    sizes, file = dataset.sizes[first], dataset.files(first)[place_in_stack]
    image = decode(file, AS_STORED)
    if image is None:
        raise DatasetError(f"{file} has become unreadable")
    return place(image, modality, sizes[place_in_stack], sizes[0], sizes[0])


def _square(box: np.ndarray, size: tuple[int, int], margin: float) -> tuple[slice, slice]:
    """Return rows and columns of the cut around a box (x, y, w, h), relative to the image's (height, width)."""
    centre = box[1] * size[0], box[0] * size[1]
    side = round(max(box[3] * size[0], box[2] * size[1]) * (1 + 2 * margin))
    parts = []
    for middle, whole in zip(centre, size, strict=True):
        length = min(max(side, 1), whole)
        first = min(max(round(middle - length / 2), 0), whole - length)
        parts.append(slice(first, first + length))
    return parts[0], parts[1]


def _section(
    data: PairedData, destination: Path, folders: Iterable[str], counts: Mapping[str, Counter[str]]
) -> dict[str, Any]:
    kept = [name for name in folders if any(count[name] for count in counts.values())]
    section: dict[str, Any] = {
        "path": str(destination.absolute()),
        "modalities": {name: f"{{split}}/{name}" for name in data.channels},
        **{split: split for split in counts},
        "names": kept,
    }
    if grey := {name: channels for name, channels in data.channels.items() if channels == 1}:
        section["channels"] = grey
    if ranges := {m.name: list(m.value_range) for m in data.modalities if isinstance(m.value_range, tuple)}:
        section["range"] = ranges
    return section
