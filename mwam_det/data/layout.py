"""Where the pairs of a dataset lie: a recipe's data section, checked and brought into Ultralytics' form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mwam_det.core.config import refuse_unknown_keys

SECTION_KEYS = ("path", "modalities", "labels", "train", "val", "test", "names", "visible", "synthetic")
RESOLVED_KEYS = {"path", "names", "nc", "channels", "modalities", "visible", "splits"}
SPLITS = ("train", "val", "test")
VISIBLE_NAMES = ("rgb", "visible", "vis", "color", "colour")
"""Names by which the modality that takes colour augmentation is recognised."""


class DatasetError(ValueError):
    """A dataset cannot be used as it is; the message says where, what and how to mend it."""


@dataclass(frozen=True)
class Modality:
    """One modality of a stacked image.

    Attributes:
        name: Its name.
        channels: How many channels it has.
        start: Its first channel in the stacked image.
        visible: Whether it is the camera image that takes colour augmentation.
    """

    name: str
    channels: int = 3
    start: int = 0
    visible: bool = False

    @property
    def slice(self) -> slice:
        """Its channels in the stacked image."""
        return slice(self.start, self.start + self.channels)


def modalities_of(data: Mapping[str, Any]) -> tuple[Modality, ...]:
    """List the modalities of a resolved dataset (see `resolve_dataset`), in the order in which they are stacked."""
    modalities, start = [], 0
    for name, channels in data["modalities"].items():
        modalities.append(Modality(name, channels, start, name == data["visible"]))
        start += channels
    return tuple(modalities)


def resolve_dataset(data: Mapping[str, Any] | str | Path) -> dict[str, Any]:
    """Check the description of a dataset and turn it into the dictionary that Ultralytics passes around.

    Args:
        data: A recipe's data section, or a YAML file that holds one (a recipe's "data" key, or the whole file), or
            what `save_dataset_yaml` wrote. Relative paths are relative to the working directory. A set that the key
            "synthetic" describes is generated if it does not exist yet.

    Returns:
        Ultralytics' keys "path", "train", "val", perhaps "test" (absolute folders of the first modality), "names", "nc"
        and "channels" (of the stacked image), and ours: "modalities" (channels by name), "visible" (a name or None)
        and "splits" (for each split, the absolute folder of every modality and of "labels").

    Raises:
        DatasetError: If the file, a key or a folder is missing or wrong.
    """
    source = "data"
    if isinstance(data, str | Path):
        source = str(data)
        data = _read_yaml(Path(data))
    if not isinstance(data, Mapping):
        raise DatasetError(f"{source} must be a mapping with the keys {', '.join(SECTION_KEYS)}, got {data!r}")
    try:
        resolved = dict(data) if data.keys() >= RESOLVED_KEYS else _resolve_section(data)
        for split, folders in resolved["splits"].items():
            for name, folder in folders.items():
                _check_folder(Path(folder), f"{name} ({split})")
    except DatasetError as error:
        raise DatasetError(f"{source}: {error}") from None
    return resolved


def as_single_class(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a resolved dataset whose classes count as one, as Ultralytics' `single_cls` means it."""
    return {**data, "names": {0: "item"}, "nc": 1}


def check_split(data: Mapping[str, Any], split: str) -> None:
    """Check that a resolved dataset has a split.

    Raises:
        DatasetError: If it has none of that name.
    """
    if split not in data["splits"]:
        raise DatasetError(f"the data section names no split '{split}': choose from {', '.join(data['splits'])}")


def save_dataset_yaml(data: Mapping[str, Any], folder: Path) -> str:
    """Write a resolved dataset to `folder`/data.yaml and return the path of the file.

    Ultralytics' standalone validator accepts nothing but a file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "data.yaml"
    file.write_text(yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True), encoding="utf-8")
    return str(file)


def _read_yaml(file: Path) -> Any:
    if not file.is_file():
        raise DatasetError(f"{file} is not a file: give a recipe or a YAML file with the data section")
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DatasetError(f"{file} is not valid YAML: {error}") from None
    return content["data"] if isinstance(content, Mapping) and isinstance(content.get("data"), Mapping) else content


def _resolve_section(section: Mapping[str, Any]) -> dict[str, Any]:
    try:
        refuse_unknown_keys(section, SECTION_KEYS)
    except ValueError as error:
        raise DatasetError(str(error)) from None
    for key in ("path", "modalities", "labels", "train", "val", "names"):
        if not section.get(key):
            raise DatasetError(f"the key '{key}' is missing or empty")
    root = Path(str(section["path"])).expanduser().resolve()
    if section.get("synthetic"):
        _write_synthetic(root, section["synthetic"])
    if not root.is_dir():
        raise DatasetError(f"path={section['path']} is not a folder (looked for {root})")
    modalities = section["modalities"]
    texts = [*modalities, *modalities.values()] if isinstance(modalities, Mapping) else [None]
    if not all(isinstance(text, str) for text in texts):
        raise DatasetError(f"modalities={modalities!r} must map names to folders, like {{rgb: visible, ir: infrared}}")
    if reserved := {"labels"} & set(modalities):
        raise DatasetError(f"a modality may not be called '{reserved.pop()}'")
    visible = section.get("visible", next((m for m in modalities if m.lower() in VISIBLE_NAMES), None))
    if visible is not None and visible not in modalities:
        raise DatasetError(f"visible={visible} is no modality: choose from {', '.join(modalities)}")
    names = _class_names(section["names"])

    templates = {**modalities, "labels": str(section["labels"])}
    splits = {
        split: {name: str(_split_folder(root, template, str(section[split]))) for name, template in templates.items()}
        for split in SPLITS
        if section.get(split)
    }
    first = next(iter(modalities))
    return {
        "path": str(root),
        **{split: folders[first] for split, folders in splits.items()},
        "names": names,
        "nc": len(names),
        "channels": 3 * len(modalities),
        "modalities": dict.fromkeys(modalities, 3),
        "visible": visible,
        "splits": splits,
    }


def _write_synthetic(root: Path, arguments: Any) -> None:
    """Generate the demo set at `root` if it is not there yet."""
    from mwam_det.data.synthetic import write_demo

    try:
        write_demo(root, **(arguments if isinstance(arguments, Mapping) else {}))
    except (FileExistsError, ValueError, TypeError) as error:
        raise DatasetError(f"synthetic: {error}") from None


def _split_folder(root: Path, template: str, split: str) -> Path:
    folder = template.replace("{split}", split) if "{split}" in template else f"{template}/{split}"
    return (root / folder).resolve()


def _class_names(names: Any) -> dict[int, str]:
    """Bring class names to {0: …, 1: …}; a list is numbered."""
    if isinstance(names, list | tuple):
        names = dict(enumerate(names))
    if not isinstance(names, Mapping):
        raise DatasetError(f"names={names!r} must be a list of class names or map numbers to names")
    if sorted(names, key=str) != sorted(range(len(names)), key=str):
        raise DatasetError(f"names has the numbers {list(names)}: they must run from 0 to {len(names) - 1}")
    return {number: str(names[number]) for number in range(len(names))}


def _check_folder(folder: Path, what: str) -> None:
    if folder.is_dir():
        return
    parent = next((p for p in folder.parents if p.is_dir()), folder)
    there = ", ".join(sorted(p.name for p in parent.iterdir() if p.is_dir())[:12]) or "no folders"
    raise DatasetError(f"the folder of {what} is missing: {folder} (in {parent} there are: {there})")
