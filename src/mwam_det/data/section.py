"""Resolve a recipe's data section: check its keys and find its folders."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ultralytics.data.utils import IMG_FORMATS

from mwam_det.core.config import refuse_unknown_keys
from mwam_det.data.errors import DatasetError
from mwam_det.data.foreign import refuse_foreign_keys
from mwam_det.data.modality import filters_of, modalities_in
from mwam_det.data.paired_data import RESOLVED_KEYS, PairedData
from mwam_det.data.published import how_to_get
from mwam_det.data.splits import Group, groups_of, resolve_split
from mwam_det.files.paths import expanded
from mwam_det.files.yaml_text import read_yaml

SECTION_KEYS = (
    "path", "modalities", "labels", "train", "val", "test", "names", "visible", "suffix", "match", "channels", "range",
    "align", "filter", "kpt_shape", "flip_idx", "label_mapping", "synthetic",
)  # fmt: skip
IGNORED = 255
"""Class number of pixels to ignore."""
SPLITS = ("train", "val", "test")


def resolve_dataset(data: PairedData | Mapping[str, Any] | str | Path) -> PairedData:
    r"""Check the description of a dataset and find its folders.

    A data section has these keys. The first six are required, but see `labels`:

    - path: The dataset's folder, relative to the working directory or absolute; "~" is the home folder.
    - modalities: Folder below `path` by modality, {rgb: visible, ir: infrared}. The first modality determines the size,
      and labels belong to it. The split is appended to each folder, or replaces "{split}" in it. For allowed names see
      `mwam_det.data.names.check_modality_names`.
    - labels: Folder of the label files, likewise: YOLO's, one text file per pair, named by the stem that the pair
      shares. For the task obb, a line holds a class and four corners, for segment a class and an outline, for pose a
      class, a box and keypoints. The task semantic has a PNG of class numbers instead, 255 to ignore. For the task
      classify it is left out: the folder of each modality has one folder per class. `names` may then be left out too;
      the classes are all folders there, in alphabetical order.
    - train, val: Names of the splits in the folders; "." if the images lie in the folders themselves. Or a text file
      with one path or stem of the first modality per line, or a list of such folders, files and images, see
      `mwam_det.data.splits`. Then nothing is appended to folders without "{split}", and a label file has the path below
      `labels` that its image has below the folder of its modality. "test" is a third, optional split.
    - names: Class names, as a list or by number from 0.
    - visible: The modality that takes colour augmentation, or null for none; by default one of `VISIBLE_NAMES`.
    - suffix: Suffix of a modality's stems, {rgb: _co, ir: _ir}: partners have the same stem without it. Modalities may
      then share a folder; a file there belongs to the modality with the longest matching suffix, so that one of them
      may have none. A label file has the stem that partners share, or else that of one of its images.
    - match: Instead of a suffix, a regular expression for the file's stem, without folders, with one group: the part
      that partners share. {rgb: RGB_(.+), ir: T_(.+)} for prefixes, or one for all modalities, (.+)\.rf\.[0-9a-f]+ for
      the hashes that Roboflow adds. Other files are ignored.
    - channels: 1 or 3 by modality, {ir: 1}; 3 by default. With 1, a modality is read as grey and takes one channel of
      the stack; with 3, grey is repeated.
    - range: The values of a modality's files that become 0 and 255, {ir: [lo, hi]}, for 16-bit, float and faint images.
      Values between are mapped linearly, those beyond are clipped. Fixed numbers mean the same in every image, which
      suits temperatures, depth, and MWAM, which compares images. "minmax" and "percentile" (the 1st and the 99th) take
      them from each image. Non-finite values become 0, and so does an image of a single value. By default, 8-bit files
      are read unchanged, 16-bit files keep the high byte, and float files are rejected.
    - align: A 3×3 matrix by modality, {ir: [[a, b, c], [d, e, f], [g, h, i]]}, that maps its pixels (x, y, 1) to those
      of the first modality, both at the size of the files, from the centre of the upper left pixel: a homography from
      a calibration. Outside its view the image is mirrored. By default, partners are stretched to the size of the
      first. Inspection and training suggest a matrix if the edges of the pairs determine one.
    - filter: The frequencies of a modality that are kept, {ir: {low: 16}} or {ir: {high: 16}}: those inside or outside
      the n×n window in the middle of the shifted 2-D FFT of the file's image, see `mwam_det.data.filtering`. A
      high-pass image is centred at mid-grey, 128. It applies to every split and to prediction. By default, or if false,
      all frequencies are kept.
    - kpt_shape: For the task pose, [number of keypoints, 2 or 3]: x and y of each, and with 3 its visibility.
    - flip_idx: For the task pose, the keypoint that each one becomes in a mirrored image, a permutation; without it,
      images are not mirrored.
    - label_mapping: For the task semantic, the class of a number in the PNG, {0: 255, 1: 0}; others are unchanged.
    - synthetic: Arguments of `mwam_det.data.synthetic.write_demo`; the set is generated if it does not exist.

    Args:
        data: A recipe's data section, or a YAML file that holds one (under the key "data", or as a whole), or the
            result of `save_dataset_yaml`. A resolved dataset is returned unchanged.

    Raises:
        DatasetError: If the file, a key or a folder is missing or invalid.
    """
    if isinstance(data, PairedData):
        return data
    source = "data"
    if isinstance(data, str | Path):
        source = str(data)
        data = _read_yaml(Path(data))
    if not isinstance(data, Mapping):
        raise DatasetError(f"{source} must be a mapping with the keys {', '.join(SECTION_KEYS)}, got {data!r}")
    try:
        resolved = PairedData.from_dict(data) if data.keys() >= RESOLVED_KEYS else _resolve_section(data)
        for split, of_split in resolved.splits.items():
            for folders in (folders for group in groups_of(of_split) for folders in group.folders):
                for name, folder in folders.items():
                    _check_folder(Path(folder), f"{name} ({split})")
    except DatasetError as error:
        raise DatasetError(f"{source}: {' '.join(str(error).splitlines())}") from None
    return resolved


def check_keys(section: Mapping[str, Any]) -> None:
    """Check that a data section has no unknown keys and that its filters are valid.

    Raises:
        DatasetError: If not; for an unknown key, the message names the nearest known one, or shows the section
            equivalent to other code's keys.
    """
    try:
        refuse_foreign_keys(section)
        refuse_unknown_keys(section, SECTION_KEYS)
    except ValueError as error:
        raise DatasetError(str(error)) from None
    if isinstance(modalities := section.get("modalities"), Mapping):
        filters_of(section.get("filter"), modalities)


def _read_yaml(file: Path) -> Any:
    if not file.is_file():
        raise DatasetError(f"{file} is not a file: give a recipe or a YAML file with the data section")
    try:
        content = read_yaml(file)
    except ValueError as error:
        raise DatasetError(str(error)) from None
    return content["data"] if isinstance(content, Mapping) and isinstance(content.get("data"), Mapping) else content


def _resolve_section(section: Mapping[str, Any]) -> PairedData:
    check_keys(section)
    _check_required(section)
    modalities = modalities_in(section)
    root = _root(section)
    splits = _splits(section, root)
    groups = {split: groups_of(resolved) for split, resolved in splits.items()}
    for folders in (folders for of_split in groups.values() for group in of_split for folders in group.folders):
        _check_apart({each.name: (folders[each.name], each.suffix, each.match) for each in modalities})
    names = class_names(section.get("names") or _class_folders(groups["train"], modalities[0].name))
    return PairedData(
        str(root), modalities, names, splits, {**_keypoints(section), **_label_mapping(section, len(names))}
    )


def _check_required(section: Mapping[str, Any]) -> None:
    required = ("path", "modalities", "train", "val", *(("names",) if section.get("labels") else ()))
    for key in required:
        if not section.get(key):
            hint = ": name a folder, or . if there are no folders of splits" if key in SPLITS else ""
            raise DatasetError(f"the key '{key}' is missing or empty{hint}")
    for key in ("path", "labels"):
        if not isinstance(value := section.get(key) or "", str | Path):
            raise DatasetError(f"{key}={value!r} must be a folder")


def _root(section: Mapping[str, Any]) -> Path:
    """Return the dataset's folder, generating a synthetic set if it does not exist."""
    path = str(section["path"])
    root = expanded(path).resolve()
    if section.get("synthetic"):
        _write_synthetic(root, section["synthetic"])
    if not os.path.isdir(root):  # unlike Path.is_dir, no error if the name is too long
        raise DatasetError(f"path={path} is not a folder (looked for {root}){how_to_get(path)}")
    return root


def _splits(section: Mapping[str, Any], root: Path) -> dict[str, Any]:
    labels = {"labels": str(section["labels"])} if section.get("labels") else {}
    templates = {**section["modalities"], **labels}
    splits = {}
    for split in SPLITS:
        if section.get(split):
            try:
                splits[split] = resolve_split(root, templates, section[split])
            except ValueError as error:
                raise DatasetError(f"{split}: {error}") from None
    return splits


def _keypoints(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return the checked keys for keypoints; {} if there are none."""
    shape, flip = section.get("kpt_shape"), section.get("flip_idx")
    if shape is None:
        if flip is not None:
            raise DatasetError(f"flip_idx={flip!r} needs kpt_shape, which is missing")
        return {}
    are_two = isinstance(shape, list | tuple) and len(shape) == 2 and all(type(number) is int for number in shape)
    if not are_two or shape[0] < 1 or shape[1] not in (2, 3):
        raise DatasetError(f"kpt_shape={shape!r} must be [number of keypoints, 2 or 3], like [17, 3]")
    if flip is None:
        return {"kpt_shape": list(shape)}
    if not isinstance(flip, list | tuple) or sorted(flip, key=str) != sorted(range(shape[0]), key=str):
        raise DatasetError(f"flip_idx={flip!r} must hold each of the numbers 0 to {shape[0] - 1} once")
    return {"kpt_shape": list(shape), "flip_idx": list(flip)}


def _label_mapping(section: Mapping[str, Any], classes: int) -> dict[str, Any]:
    """Return the checked key label_mapping; {} if there is none."""
    mapping = section.get("label_mapping")
    if mapping is None:
        return {}
    numbers = [*mapping, *mapping.values()] if isinstance(mapping, Mapping) else [None]
    if any(type(number) is not int or not 0 <= number <= IGNORED for number in numbers):
        raise DatasetError(f"label_mapping={mapping!r} must map numbers from 0 to 255 to classes, like {{0: 255}}")
    if wrong := [number for number in mapping.values() if number != IGNORED and number >= classes]:
        raise DatasetError(f"label_mapping leads to {wrong[0]}: choose from 0 to {classes - 1}, and {IGNORED}")
    return {"label_mapping": dict(mapping)}


def _check_apart(sources: Mapping[str, tuple[str, str, str]]) -> None:
    """Check that no two modalities have the same folder, suffix and match, and so the same files."""
    names: dict[tuple[str, str, str], str] = {}
    for name, source in sources.items():
        if (other := names.setdefault(source, name)) != name:
            raise DatasetError(
                f"{other} and {name} would both be read from the same files of {source[0]}: give them separate "
                "folders, or distinguish their files by the key 'suffix' or 'match'"
            )


def _write_synthetic(root: Path, arguments: Any) -> None:
    """Generate the demo set at `root` if it does not exist."""
    from mwam_det.data.synthetic import write_demo

    try:
        write_demo(root, **(arguments if isinstance(arguments, Mapping) else {}))
    except (FileExistsError, ValueError, TypeError) as error:
        raise DatasetError(f"synthetic: {error}") from None


def _class_folders(groups: Sequence[Group], first: str) -> list[str]:
    """List the folders of the classes of a dataset without labels; hidden ones are skipped."""
    folders = [Path(folders[first]) for group in groups for folders in group.folders if group.listed is None]
    if not folders:
        raise DatasetError("the key 'names' is missing or empty: it is required if images are listed")
    items = [item for folder in folders if os.path.isdir(folder) for item in folder.iterdir()]
    found = {item.name for item in items if item.is_dir() and not item.name.startswith(".")}
    if not found:
        raise DatasetError(
            f"the key 'labels' is missing or empty; without it, classes are the folders in "
            f"{', '.join(map(str, folders))}, but there are none"
        )
    return sorted(found)


def class_names(names: Any) -> dict[int, str]:
    """Return class names as {0: …, 1: …}, in this order; a list is numbered.

    Raises:
        DatasetError: If they are no list or mapping, are not numbered from 0, or one is not a unique text.
    """
    if isinstance(names, list | tuple):
        names = dict(enumerate(names))
    if not isinstance(names, Mapping):
        raise DatasetError(f"names={names!r} must be a list of class names or map numbers to names")
    if sorted(names, key=str) != sorted(range(len(names)), key=str):
        raise DatasetError(f"names has the numbers {list(names)}: they must run from 0 to {len(names) - 1}")
    if switches := [number for number, name in names.items() if isinstance(name, bool)]:
        raise DatasetError(
            f"names: {switches[0]} is {names[switches[0]]}: YAML reads yes, no, on and off as booleans, so quote it"
        )
    if parts := [(number, name) for number, name in names.items() if isinstance(name, list | Mapping)]:
        raise DatasetError(f"names: {parts[0][0]} is {parts[0][1]!r}: the name of a class must be text")
    named = {number: str(names[number]) for number in range(len(names))}
    if twice := sorted(name for name, count in Counter(named.values()).items() if count > 1):
        raise DatasetError(f"names holds {', '.join(twice)} more than once: give each class a unique name")
    return named


def _check_folder(folder: Path, what: str) -> None:
    if os.path.isdir(folder):
        return
    parent = next((p for p in folder.parents if os.path.isdir(p)), folder)
    entries = sorted(parent.iterdir())
    found = ", ".join([entry.name for entry in entries if entry.is_dir()][:12]) or "no folders"
    images = [entry.name for entry in entries if entry.suffix[1:].lower() in IMG_FORMATS]
    hint = f", and images like {images[0]}: for a folder without splits, write . for the split" if images else ""
    raise DatasetError(f"the folder of {what} is missing: {folder} (in {parent} there are: {found}{hint})")
