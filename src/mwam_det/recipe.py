"""Recipes: one YAML file per experiment, with overrides from the command line. Keys are defined elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mwam_det.files.values import format_value, parse_text, parse_value
from mwam_det.files.yaml_text import read_yaml

KEYS = (
    "task",
    "model",
    "fusion",
    "share_backbone",
    "pretrained",
    "data",
    "mwam",
    "incomplete",
    "balancing",
    "train",
    "report",
    "select",
)
"""The sections of a recipe."""

REPORT_KEYS = ("split", "imgsz", "batch", "device", "workers", "fill", "degradations", "coco")
"""Keys of the section "report"."""

HOST_TASKS = ("multimodal-classification", "rgbd-segmentation")
"""Tasks of models other than Ultralytics'."""

TEXTS = {
    **dict.fromkeys(("task", "model", "fusion", "data.path", "data.labels", "data.visible", "data.format"), "text"),
    **dict.fromkeys(("train.name", "train.project", "train.teacher", "report.split"), "text"),
    # of commands, not of recipes
    **dict.fromkeys(("name", "project", "data", "format", "split", "cluster"), "text"),
    **dict.fromkeys(("data.modalities", "data.train", "data.val", "data.test", "data.names"), "texts"),
    **dict.fromkeys(("data.suffix", "data.match", "data.groups", "missing"), "texts"),
    **dict.fromkeys(("pretrained", "train.resume"), "texts or switch"),
}
"""Keys whose values are names and paths: one text, several in brackets, or texts by keys below them."""


class RecipeError(ValueError):
    """A recipe or an override cannot be used; the message names the key, the value and the choices."""


@dataclass(frozen=True)
class Recipe:
    """The content of a recipe, with the defaults of a detector.

    Attributes:
        name: The file's name without suffix; name of the run folder.
        data: Where the pairs are and how they are read. The folders are not checked yet.
        model: The model to train: a stock description such as yolo11s.yaml, or a checkpoint.
        task: What the model does.
        fusion: How streams are fused.
        share_backbone: Whether all modalities share one backbone.
        pretrained: Weights to start from; False to use a checkpoint's architecture without its weights.
        mwam: True, False, or values of `MWAMConfig`.
        incomplete: True, False, or values of `IncompleteConfig`: what training sees of missing modalities.
        balancing: A mapping with the method that balances the modalities and its settings; None or False for none.
        train: Training arguments.
        report: Options of the report after training; False for none.
        select: How the best checkpoint is chosen: the value of `by`, or a mapping with both keys.
    """

    name: str
    data: dict[str, Any]
    model: str = "yolov8n.yaml"
    task: str = "detect"
    fusion: str = "concat"
    mwam: bool | dict[str, Any] = True
    train: dict[str, Any] = field(default_factory=dict)
    report: bool | dict[str, Any] = True
    select: str | dict[str, Any] = "full"
    incomplete: bool | dict[str, Any] = False
    share_backbone: bool = False
    pretrained: bool | str | dict[str, str] = True
    balancing: bool | dict[str, Any] | None = None


def read_recipe(file: str | Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Read the content of a recipe of any task and apply overrides. Keys are not checked.

    Args:
        file: The YAML file.
        overrides: Like "train.epochs=60", "data.path=datasets/LLVIP" or "mwam=false". Names and paths are taken as
            typed, other values are read by `mwam_det.files.values.parse_value`.

    Raises:
        RecipeError: If the file is missing or is not a mapping in YAML, or an override cannot be read.
    """
    file = Path(file)
    if file.suffix == ".pt":
        raise RecipeError(
            f"{file} holds weights, but a recipe (a YAML file) is expected here; to train them, set model={file}"
        )
    if not file.is_file():
        raise RecipeError(f"there is no recipe {file}{_what_instead(file)}")
    return with_overrides(read_content(file, f"{file} must map keys to values: {', '.join(KEYS)}"), overrides)


def read_content(file: Path, refusal: str) -> dict[str, Any]:
    """Read a YAML file that maps keys to values; numbers that YAML takes for text, like 1e-3, are numbers.

    Args:
        file: The file.
        refusal: Error message if the file holds something else.

    Raises:
        RecipeError: If it is not YAML, or holds something else.
    """
    try:
        content = read_yaml(file)
    except ValueError as error:
        raise RecipeError(str(error)) from None
    if not isinstance(content, Mapping):
        raise RecipeError(refusal)
    return _with_numbers(content)


def with_overrides(content: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Return the content of a recipe with overrides applied; see `read_recipe`."""
    changed = deepcopy(dict(content))
    for override in overrides:
        _apply(changed, override)
    return {key: value for key, value in changed.items() if value is not None}  # "train:" alone, "pretrained=null"


def read_arguments(words: Iterable[str], known: Iterable[str]) -> dict[str, Any]:
    """Read a command's own arguments.

    Args:
        words: Like "imgsz=320" or "classes=[0, 2]", read as in `read_recipe`; null keeps the default.
        known: The command's keys.

    Raises:
        RecipeError: If a word is not an argument, or a key (the nearest known one is named) or a value is wrong.
    """
    from mwam_det.core.config import refuse_unknown_keys  # needs torch: slow to import

    arguments: dict[str, Any] = {}
    try:
        for word in words:
            key, equals, _ = word.partition("=")
            if not equals or not key:
                raise RecipeError(f"'{word}' is not an argument: write key=value, like imgsz=320")
            refuse_unknown_keys([key], known)
            _apply(arguments, word)
    except ValueError as error:
        raise RecipeError(str(error)) from None
    return {key: value for key, value in arguments.items() if value is not None}


def format_override(path: str, value: Any) -> str:
    """Write an override that `read_recipe` reads as this value of the key `path`."""
    is_text = _kind_of_text(path) is not None and isinstance(value, str)
    return f"{path}={value if is_text else format_value(value)}"


def _what_instead(missing: Path) -> str:
    """Say what a missing recipe may have meant: the nearest file, or all shipped ones."""
    if missing.is_dir():
        return f": it is a folder. `mwam-det init {missing}` writes a recipe for it, and data={missing} trains on it"
    shipped = sorted(path for path in Path("cfg").glob("**/*.yaml") if "studies" not in path.parts)
    paths = {path.stem: path for path in (*shipped, *sorted(Path().glob("*.y*ml")))}
    if near := get_close_matches(missing.stem, paths, n=1):
        return f": did you mean {paths[near[0]]}?"
    return f"; there are {', '.join(map(str, shipped))}" if shipped else ""


def _apply(content: dict[str, Any], override: str) -> None:
    """Set one "section.key=value" in the content of a recipe."""
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise RecipeError(f"'{override}' is not an override: write section.key=value, like train.epochs=60")
    if not text.strip():
        raise RecipeError(f"'{override}' has no value: write {path}=null for none")
    # classes have numbers, as in data.names.0=person
    *parents, key = (int(part) if part.isdecimal() else part for part in path.split("."))
    section: dict[Any, Any] = content
    for parent in parents:
        inner = section.get(parent)
        if isinstance(inner, list):
            inner = dict(enumerate(inner))
        # "mwam: true" and "mwam.gamma=1" mean the same section, the former with its defaults
        section[parent] = inner if isinstance(inner, dict) else {}
        section = section[parent]
    try:
        section[key] = _value(path, text, section.get(key))
    except ValueError as error:
        raise RecipeError(f"the value of '{override}' is not valid YAML: {error}") from None


def _value(path: str, text: str, present: Any) -> Any:
    """Read the value typed for a key; `present` is its value in the recipe."""
    kind = _kind_of_text(path)
    is_column = path.startswith("data.modalities.") and isinstance(present, int)
    if kind is None or is_column:
        return parse_value(text)
    return parse_text(text, brackets=kind != "text", switch=kind == "texts or switch")


def _kind_of_text(path: str) -> str | None:
    parents = [path.rsplit(".", count)[0] for count in range(path.count(".") + 1)]
    return next((TEXTS[key] for key in parents if key in TEXTS and (key == path or TEXTS[key] != "text")), None)


def _with_numbers(value: Any) -> Any:
    """Read "1e-3", a string in YAML 1.1, as a number."""
    if isinstance(value, Mapping):
        return {key: _with_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_numbers(item) for item in value]
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value):
        return float(value)
    return value
