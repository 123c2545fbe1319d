"""Training without a recipe, with Ultralytics' arguments: model=yolo11n.yaml data=FOLDER epochs=3."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mwam_det.files.paths import expanded
from mwam_det.files.values import parse_text
from mwam_det.keys import recipe_keys
from mwam_det.recipe import RecipeError, read_content, with_overrides

FROM_DATA = ("task", "model", "data")
"""Sections taken from what "data=…" names, unless another word sets them."""


def read_stock_words(words: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Read words as the content of a recipe.

    Args:
        words: Keys of a recipe, like "fusion=add" or "incomplete.views=2"; keys of its train section also without the
            section, like "epochs=3"; and "data=…", a folder of pairs, or a YAML file with a data section, such as a
            recipe.

    Returns:
        The content, and sentences on how a folder was interpreted.

    Raises:
        RecipeError: If there is no data, or a word cannot be read.
        DatasetError: If the folder holds no pairs, or no labels.
    """
    places = [word.partition("=")[2] for word in words if word.startswith("data=")]
    if not places:
        raise RecipeError("no data to train on: name a recipe, like cfg/demo.yaml, or data=FOLDER, or data=FILE.yaml")
    found, sentences = _read_data(parse_text(places[-1]) or "")
    content = {key: found[key] for key in FROM_DATA if key in found}
    given = with_overrides({}, [word for word in words if word.startswith(("task=", "model="))])
    if "task" not in content | given and "model" in given:
        from ultralytics.cfg import TASK2MODEL

        by_ending = {Path(name).stem.partition("-")[2]: task for task, name in TASK2MODEL.items()}  # "obb" and so on
        content["task"] = by_ending.get(Path(str(given["model"])).stem.rpartition("-")[2], "detect")
    keys = recipe_keys(str((content | given).get("task", "detect")))["train"]
    rest = [word for word in words if not word.startswith("data=")]
    full = [f"train.{word}" if "=" in word and word.partition("=")[0] in keys else word for word in rest]
    return with_overrides(content, full), sentences


def _read_data(name: str) -> tuple[Mapping[str, Any], list[str]]:
    """Return the recipe that a folder or a file stands for, and sentences on how it was interpreted."""
    path = expanded(name)
    if path.is_dir():
        return _draft(path)
    if not path.is_file():
        raise RecipeError(f"data={name} is neither a folder of pairs nor a YAML file with a data section")
    content = read_content(path, f"data={name} must be a recipe, or map the keys of a data section to values")
    return content if "data" in content else {"data": content}, []


def _draft(folder: Path) -> tuple[Mapping[str, Any], list[str]]:
    """Return what `mwam-det init` would write for a folder, with the lists of images inline."""
    from mwam_det.data.drafting.draft import draft
    from mwam_det.data.drafting.known import Known
    from mwam_det.files.yaml_text import parse_yaml

    made = draft([folder], Path("data.yaml").resolve())
    if isinstance(made, Known):
        raise RecipeError(" ".join(filter(None, [f"data={folder} is {made.title}. {made.advice}", made.command])))
    content = parse_yaml(made.recipe)
    lists = {str(Path(name).resolve()): text.splitlines() for name, text in made.lists.items()}
    for split in ("train", "val"):
        content["data"][split] = lists.get(content["data"][split], content["data"][split])
    keep = f"`{shlex.join(['mwam-det', 'init', str(folder)])}` writes this to a recipe that you can edit."
    return content, [*made.conclusions, *(f"Doubt: {doubt}" for doubt in made.doubts), keep]
