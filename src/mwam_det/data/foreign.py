"""Descriptions of datasets as other code has them: recognised, to show what they are called here."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from mwam_det.data.naming import SPLIT_WORDS
from mwam_det.data.splits import LIST_SUFFIX, SPLIT
from mwam_det.files.values import format_value

_WORDS = "|".join(SPLIT_WORDS)
SPLIT_AND_MODALITY = (rf"(?P<split>{_WORDS})_(?P<modality>\w+)", rf"(?P<modality>\w+)_(?P<split>{_WORDS})")
"""Keys such as train_rgb and ir_val."""


def refuse_foreign_keys(content: Mapping[str, Any]) -> None:
    """Refuse a description that has a key for each split and modality.

    Raises:
        ValueError: If it is one; the message shows the section that it becomes.
    """
    keys: list[str] = []
    places: dict[str, dict[str, Any]] = {}
    for key, value in content.items():
        match = next((m for pattern in SPLIT_AND_MODALITY if (m := re.fullmatch(pattern, str(key).lower()))), None)
        if match is not None:
            keys.append(key)
            places.setdefault(match["modality"], {})[SPLIT_WORDS[match["split"]]] = value
    if keys:
        raise ValueError(
            f"{', '.join(keys)}: here a modality is a folder, and a split what it is called in that folder. Write a "
            f"section like {_section(content, places)}"
        )


def refuse_foreign_recipe(content: Mapping[str, Any]) -> None:
    """Refuse a description of a dataset in the place of a recipe, as Ultralytics and code like it have them.

    Raises:
        ValueError: If it is one; the message shows the section that it becomes.
    """
    refuse_foreign_keys(content)
    if "data" not in content and isinstance(content.get("train"), str | list) and "names" in content:
        raise ValueError(
            "this describes single images, as Ultralytics does: a recipe names the folder of each modality in a "
            f"section like {_section(content, {})}"
        )


def _section(content: Mapping[str, Any], places: Mapping[str, Mapping[str, Any]]) -> str:
    """Write the section that a description becomes, as far as it says what is needed."""
    names = content.get("names") or ["person", "car"]
    root = str(content.get("path") or "")
    example = {
        "path": root or "folder of the dataset",
        "modalities": {name: f"folder of {name}" for name in places or ("rgb", "ir")},
        "labels": "folder of the label files",
        "train": "train",
        "val": "val",
        "names": names,
    }
    first = next(iter(places.values()), {})
    if all(str(of.get(split)).endswith(LIST_SUFFIX) for of in places.values() for split in ("train", "val")):
        example |= {split: first[split] for split in first}  # the first modality's list says which pairs are meant
    elif len(places) > 1 and (found := _layout(places, root)) is not None:
        example |= found
    return f"data: {format_value(example)}"


def _layout(places: Mapping[str, Mapping[str, Any]], root: str) -> dict[str, Any] | None:
    """Find where the folders of all modalities and splits lie; None if they are not laid out alike."""
    templates, splits = {}, {}
    for name, of in places.items():
        if not {"train", "val"} <= of.keys() or not all(isinstance(place, str) for place in of.values()):
            return None
        parts = [os.path.normpath(os.path.join(root, place)).split(os.sep) for place in of.values()]
        differing = [i for i, same in enumerate(zip(*parts, strict=False)) if len(set(same)) > 1]
        if len({len(of_split) for of_split in parts}) > 1 or len(differing) != 1:
            return None
        (at,), path = differing, parts[0]
        templates[name] = os.sep.join(path[:at] if at == len(path) - 1 else [*path[:at], SPLIT, *path[at + 1 :]])
        splits[name] = {split: of_split[at] for split, of_split in zip(of, parts, strict=True)}
    common = os.path.commonpath([template.partition(SPLIT)[0] for template in templates.values()])
    if not common or len({str(of) for of in splits.values()}) > 1:
        return None
    modalities = {name: os.path.relpath(template, common) for name, template in templates.items()}
    return {"path": common, "modalities": modalities, **splits[name]}
