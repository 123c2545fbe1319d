"""A training in Ultralytics' own words, without a recipe: model=yolo11n.yaml data=FOLDER epochs=3."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mwam_det.files.values import parse_text
from mwam_det.keys import recipe_keys
from mwam_det.recipe import RecipeError, read_content, with_overrides

FROM_DATA = ("task", "model", "data")
"""What the word "data" gives, as far as no other word does."""


def read_stock_words(words: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Read words as the content of a recipe.

    Args:
        words: Keys of a recipe, like "fusion=add" or "incomplete.views=2"; without a section, also those of its train
            section, like "epochs=3"; and "data=…", a folder of pairs, or a YAML file with a data section, which may be
            a recipe.

    Returns:
        The content, and sentences on what was concluded about a folder.

    Raises:
        RecipeError: If there is no data, or a word cannot be read.
        DatasetError: If the folder holds no pairs, or no labels.
    """
    places = [word.partition("=")[2] for word in words if word.startswith("data=")]
    if not places:
        raise RecipeError(
            "there is no data to train on: name a recipe, like cfg/demo.yaml, or data=FOLDER, or data=FILE.yaml"
        )
    found, sentences = _look_at(parse_text(places[-1]) or "")
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


def _look_at(place: str) -> tuple[Mapping[str, Any], list[str]]:
    """Return the recipe that a folder or a file stands for, and what was concluded about it."""
    path = Path(place).expanduser()
    if path.is_dir():
        return _drafted(path)
    if not path.is_file():
        raise RecipeError(f"data={place} is neither a folder of pairs nor a YAML file with a data section")
    content = read_content(path, f"data={place} must be a recipe, or map the keys of a data section to values")
    return content if "data" in content else {"data": content}, []


def _drafted(folder: Path) -> tuple[Mapping[str, Any], list[str]]:
    """Return what `mwam-det init` would write for a folder, with lists of images in the section itself."""
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
    keep = f"`{shlex.join(['mwam-det', 'init', str(folder)])}` writes this down, to be changed."
    return content, [*made.said, *(f"Doubt: {doubt}" for doubt in made.doubts), keep]
