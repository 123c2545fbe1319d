"""Recognise dataset descriptions in the style of other code, and show the equivalent data section."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from mwam_det.data.naming import SPLIT_WORDS
from mwam_det.data.splits import LIST_SUFFIX, SPLIT
from mwam_det.files.values import format_value

_WORDS = "|".join(SPLIT_WORDS)
SPLIT_AND_MODALITY = (rf"(?P<split>{_WORDS})[_-](?P<modality>\w+)", rf"(?P<modality>\w+)[_-](?P<split>{_WORDS})")
"""Keys such as train_rgb and ir-val."""


def refuse_foreign_keys(content: Mapping[str, Any]) -> None:
    """Raise ValueError, showing the equivalent section, if a description has one key per split and modality."""
    keys: list[str] = []
    paths: dict[str, dict[str, Any]] = {}
    for key, value in content.items():
        match = next((m for pattern in SPLIT_AND_MODALITY if (m := re.fullmatch(pattern, str(key).lower()))), None)
        if match is not None:
            keys.append(key)
            if match["modality"] not in ("label", "labels"):
                paths.setdefault(match["modality"], {})[SPLIT_WORDS[match["split"]]] = value
    if keys:
        if "rgb" not in paths and "train" in content:  # as in train and train_ir
            paths = {"rgb": {split: content[split] for split in ("train", "val", "test") if split in content}, **paths}
        raise ValueError(
            f"{', '.join(keys)}: here each modality names a folder, and each split a folder in it. Write a section "
            f"like {_section(content, paths)}"
        )


def refuse_foreign_recipe(content: Mapping[str, Any]) -> None:
    """Raise ValueError, showing the equivalent section, if a recipe is a dataset description as for Ultralytics."""
    refuse_foreign_keys(content)
    if "data" not in content and isinstance(content.get("train"), str | list) and "names" in content:
        raise ValueError(
            "this describes single images, as Ultralytics does: a recipe names the folder of each modality in a "
            f"section like {_section(content, {})}"
        )


def _section(content: Mapping[str, Any], paths: Mapping[str, Mapping[str, Any]]) -> str:
    """Write the section equivalent to a description, with placeholders for what it lacks."""
    root = str(content.get("path") or "")
    example = {
        "path": root or "folder of the dataset",
        "modalities": {name: f"folder of {name}" for name in paths or ("rgb", "ir")},
        "labels": "folder of the label files",
        "train": "train",
        "val": "val",
        "names": content.get("names") or ["person", "car"],
    }
    if all(str(by_split.get(split)).endswith(LIST_SUFFIX) for by_split in paths.values() for split in ("train", "val")):
        example |= next(iter(paths.values()), {})  # the first modality's list selects the pairs
    elif len(paths) > 1 and (layout := _layout(paths, root)) is not None:
        example |= layout
    return f"data: {format_value(example)}"


def _layout(paths: Mapping[str, Mapping[str, Any]], root: str) -> dict[str, Any] | None:
    """Return path, modalities and splits of the section; None if modalities are not laid out alike."""
    templates, splits = {}, {}
    for name, by_split in paths.items():
        if not {"train", "val"} <= by_split.keys() or not all(isinstance(path, str) for path in by_split.values()):
            return None
        parts = [os.path.normpath(os.path.join(root, path)).split(os.sep) for path in by_split.values()]
        differing = [i for i, same in enumerate(zip(*parts, strict=False)) if len(set(same)) > 1]
        if len({len(of_split) for of_split in parts}) > 1 or len(differing) != 1:
            return None
        (index,), first = differing, parts[0]
        below = [SPLIT, *first[index + 1 :]] if index < len(first) - 1 else []
        templates[name] = os.sep.join([*first[:index], *below])
        splits[name] = {split: of_split[index] for split, of_split in zip(by_split, parts, strict=True)}
    common = os.path.commonpath([template.partition(SPLIT)[0] for template in templates.values()])
    if not common or len({str(by_split) for by_split in splits.values()}) > 1:
        return None
    modalities = {name: os.path.relpath(template, common) for name, template in templates.items()}
    return {"path": common, "modalities": modalities, **splits[name]}
