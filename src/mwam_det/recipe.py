"""A recipe: one YAML file an experiment, with overrides from the command line."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ultralytics.utils import DEFAULT_CFG_DICT

from mwam_det.core.config import mwam_config, refuse_unknown_keys
from mwam_det.data.foreign import refuse_foreign_recipe
from mwam_det.data.layout import SPLITS, check_keys, check_labels
from mwam_det.data.names import check_modality_names
from mwam_det.engine.arguments import (
    check_auxiliary,
    check_coco,
    check_shared_backbone,
    check_train_arguments,
    check_validation,
    check_values,
    freeze_with,
)
from mwam_det.files.values import format_value, parse_text, parse_value
from mwam_det.files.yaml_text import read_yaml
from mwam_det.models.two_stream import FUSIONS, check_trainable, task_of, two_stream_cfg
from mwam_det.models.weights import pretrained_files
from mwam_det.robustness.degradation import DEGRADATIONS, FILLS
from mwam_det.training.incomplete import check_incomplete, incomplete_config, refuse_missing_section
from mwam_det.training.selection import Selection

KEYS = ("task", "model", "fusion", "share_backbone", "pretrained", "data", "mwam", "incomplete", "train", "robustness")
TASKS = ("detect", "obb", "segment", "pose", "semantic", "classify")
HOST_TASKS = ("multimodal-classification", "rgbd-segmentation")
"""Tasks of other models, for `mwam-det train` and `robustness` alone; `mwam_det.hosts.experiment` checks them."""

ROBUSTNESS_KEYS = ("split", "imgsz", "batch", "device", "workers", "fill", "degradations", "coco")
SELECTION_KEYS = ("select", "every")

TEXTS = {
    **dict.fromkeys(("task", "model", "fusion", "data.path", "data.labels", "data.visible", "data.format"), "text"),
    **dict.fromkeys(("train.name", "train.project", "train.teacher", "robustness.split"), "text"),
    **dict.fromkeys(("name", "project", "data", "format", "split"), "text"),  # of commands that take no recipe
    **dict.fromkeys(("data.modalities", "data.train", "data.val", "data.test", "data.names"), "texts"),
    **dict.fromkeys(("data.suffix", "data.match", "data.groups", "missing"), "texts"),
    **dict.fromkeys(("pretrained", "train.resume"), "texts or switch"),
}
"""Keys whose values are names and paths: one text, or also several in brackets, or by keys below them."""


class RecipeError(ValueError):
    """A recipe or an override cannot be used; the message names the key, the value and the choices."""


@dataclass(frozen=True)
class Recipe:
    """An experiment, checked.

    Attributes:
        name: The file's name without suffix; names the run folder.
        data: Data section (see `mwam_det.data.layout.resolve_dataset`); folders are not looked at yet.
        model: A stock description such as "yolov8n.yaml", or a checkpoint of a two-stream model.
        task: What the model does, one of `TASKS`; what the model ends in must do that.
        fusion: How streams are fused (see `mwam_det.models.two_stream.two_stream_cfg`).
        share_backbone: Whether all modalities pass one backbone.
        pretrained: A checkpoint of a stock single-stream model, or one for each modality; False to take a checkpoint's
            structure, but not its weights.
        mwam: True, False, or values of `MWAMConfig`.
        incomplete: True, False, or values of `IncompleteConfig`: what training sees of missing modalities.
        train: Ultralytics' arguments.
        robustness: False, or arguments of `MultimodalYOLO.robustness`, of the keys in `ROBUSTNESS_KEYS`, and what
            decides on the best checkpoint, of the keys in `SELECTION_KEYS` (see `Selection` in
            `mwam_det.training.selection`).
    """

    name: str
    data: dict[str, Any]
    model: str = "yolov8n.yaml"
    task: str = "detect"
    fusion: str = "concat"
    mwam: bool | dict[str, Any] = True
    train: dict[str, Any] = field(default_factory=dict)
    robustness: bool | dict[str, Any] = True
    incomplete: bool | dict[str, Any] = False
    share_backbone: bool = False
    pretrained: bool | str | dict[str, str] = True


def load_recipe(file: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe and apply overrides.

    Args:
        file: The YAML file.
        overrides: Like "train.epochs=60", "data.path=datasets/LLVIP" or "mwam=false". Names and paths are what was
            typed, other values are read by `mwam_det.files.values.parse_value`.

    Raises:
        RecipeError: If the file, a key or a value is wrong.
    """
    file, content = Path(file), read_recipe(file, overrides)
    try:
        _check(content)
    except ValueError as error:
        raise RecipeError(f"{file}: {' '.join(str(error).splitlines())}") from None
    return Recipe(file.stem, **content)


def read_recipe(file: str | Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Read the content of a recipe of any task and apply overrides, as `load_recipe` does; keys are not checked.

    Raises:
        RecipeError: If the file is missing or is no mapping in YAML, or an override is none.
    """
    file = Path(file)
    if not file.is_file():
        there = ", ".join(sorted(str(p) for p in Path("cfg").glob("**/*.yaml") if "studies" not in p.parts))
        raise RecipeError(f"there is no recipe {file}" + (f"; there are {there}" if there else ""))
    try:
        content = read_yaml(file)
    except ValueError as error:
        raise RecipeError(str(error)) from None
    if not isinstance(content, Mapping):
        raise RecipeError(f"{file} must map keys to values: {', '.join(KEYS)}")
    content = _with_numbers(content)
    for override in overrides:
        _apply(content, override)
    return {key: value for key, value in content.items() if value is not None}  # "train:" alone, "pretrained=null"


def read_arguments(words: Iterable[str], known: Iterable[str]) -> dict[str, Any]:
    """Read the arguments of a command that takes no recipe.

    Args:
        words: Like "imgsz=320" or "classes=[0, 2]", read as in `read_recipe`. With null a key keeps its default.
        known: The keys that the command takes.

    Raises:
        RecipeError: If a word is no argument, or a key (the nearest known one is named) or a value is wrong.
    """
    arguments: dict[str, Any] = {}
    try:
        for word in words:
            key, equals, _ = word.partition("=")
            if not equals or not key:
                raise RecipeError(f"'{word}' is no argument: write key=value, like imgsz=320")
            refuse_unknown_keys([key], known)
            _apply(arguments, word)
        arguments = {key: value for key, value in arguments.items() if value is not None}
        check_values({key: value for key, value in arguments.items() if key in DEFAULT_CFG_DICT})
    except ValueError as error:
        raise RecipeError(str(error)) from None
    return arguments


def format_override(path: str, value: Any) -> str:
    """Write an override that `read_recipe` reads as this value of the key `path`."""
    is_text = _kind_of_text(path) is not None and isinstance(value, str)
    return f"{path}={value if is_text else format_value(value)}"


def check_device(device: Any, key: str = "train.device") -> None:
    """Check that a device of Ultralytics' naming is there; `key` is what the user calls it.

    Raises:
        RecipeError: If it is not.
    """
    from ultralytics.utils.torch_utils import select_device

    try:
        select_device(device, verbose=False)
    except ValueError as error:
        raise RecipeError(f"{key}={device} is not there: {' '.join(str(error).split())}") from None


def _apply(content: dict[str, Any], override: str) -> None:
    """Set one "section.key=value" in the content of a recipe."""
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise RecipeError(f"'{override}' is no override: write section.key=value, like train.epochs=60")
    if not text.strip():
        raise RecipeError(f"'{override}' has no value: write {path}=null for none")
    # classes are known by numbers, as in data.names.0=person
    *parents, key = (int(part) if part.isdecimal() else part for part in path.split("."))
    place: dict[Any, Any] = content
    for parent in parents:
        inner = place.get(parent)
        if isinstance(inner, list):
            inner = dict(enumerate(inner))
        # "mwam: true" and "mwam.gamma=1" mean the same section, one with its defaults
        place[parent] = inner if isinstance(inner, dict) else {}
        place = place[parent]
    try:
        place[key] = _value(path, text, place.get(key))
    except ValueError as error:
        raise RecipeError(f"the value of '{override}' is not valid YAML: {error}") from None


def _value(path: str, text: str, present: Any) -> Any:
    """Read what was typed for a key; `present` is what the recipe has there."""
    kind = _kind_of_text(path)
    is_column = path.startswith("data.modalities.") and isinstance(present, int)
    if kind is None or is_column:
        return parse_value(text)
    return parse_text(text, brackets=kind != "text", switch=kind == "texts or switch")


def _kind_of_text(path: str) -> str | None:
    parents = [path.rsplit(".", count)[0] for count in range(path.count(".") + 1)]
    return next((TEXTS[key] for key in parents if key in TEXTS and (key == path or TEXTS[key] != "text")), None)


def _with_numbers(value: Any) -> Any:
    """Read "1e-3", a string by YAML 1.1, as the number that everybody means."""
    if isinstance(value, Mapping):
        return {key: _with_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_numbers(item) for item in value]
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value):
        return float(value)
    return value


def _check(content: Mapping[str, Any]) -> None:
    if content.get("task") in HOST_TASKS:
        raise ValueError(
            f"task={content['task']} is for `mwam-det train` and `robustness`: this takes {TASKS[0]} alone"
        )
    refuse_missing_section(content)
    refuse_foreign_recipe(content)
    refuse_unknown_keys(content, KEYS)
    _choice("task", content.get("task", "detect"), (*TASKS, *HOST_TASKS))
    _choice("fusion", content.get("fusion", "concat"), FUSIONS)
    _check_section(content, "data", check_keys)
    _check_section(content, "train", check_train_arguments)
    _check_section(content, "mwam", mwam_config)
    _check_section(content, "incomplete", incomplete_config)
    if "data" not in content:
        raise ValueError("the section 'data' is missing")
    _check_section(content, "robustness", _check_robustness)
    if isinstance(content.get("robustness"), Mapping):
        _choice(
            "robustness.split", content["robustness"].get("split", "val"), [s for s in SPLITS if s in content["data"]]
        )
    modalities = content["data"].get("modalities") or {}
    if not isinstance(modalities, Mapping):
        raise ValueError(
            f"data.modalities={modalities!r} must map names to folders, like {{rgb: visible, ir: infrared}}"
        )
    check_modality_names(modalities)
    modalities = list(modalities)
    task, mwam = content.get("task", "detect"), mwam_config(content.get("mwam", True))
    check_shared_backbone(content.get("share_backbone", False), mwam)
    report = content.get("robustness")
    selection = {key: report[key] for key in SELECTION_KEYS if key in report} if isinstance(report, Mapping) else {}
    check_validation(Selection.from_dict(selection), mwam, content.get("train", {}).get("val", True))
    if modalities:
        check_incomplete(incomplete_config(content.get("incomplete")), modalities, mwam)
    check_labels(content["data"], task, content.get("train", {}).get("single_cls", False))
    robustness = content.get("robustness")
    try:
        check_auxiliary(mwam, task)
        check_coco(isinstance(robustness, Mapping) and robustness.get("coco", False), task)
    except NotImplementedError as error:
        raise ValueError(str(error)) from None
    if not isinstance(pretrained := content.get("pretrained", True), bool) and modalities:
        try:
            pretrained_files(pretrained, modalities)
        except FileNotFoundError as error:
            raise ValueError(str(error)) from None
    if modalities:
        freeze_with(0, content.get("train", {}).get("freeze"), modalities)
    _check_model(content.get("model", "yolov8n.yaml"), content.get("fusion", "concat"), task)


def _check_robustness(section: Mapping[str, Any]) -> None:
    refuse_unknown_keys(section, (*ROBUSTNESS_KEYS, *SELECTION_KEYS))
    Selection.from_dict({key: section[key] for key in SELECTION_KEYS if key in section})
    own = ("split", "fill", "degradations", "coco")
    check_train_arguments({key: section[key] for key in ROBUSTNESS_KEYS if key not in own and key in section})
    _choice("fill", section.get("fill", "zero"), FILLS)
    if not isinstance(section.get("coco", False), bool):
        raise ValueError(f"coco={section['coco']!r} must be true or false")
    degradations = section.get("degradations", False)
    if not isinstance(degradations, bool):
        for name in degradations if isinstance(degradations, list) else [degradations]:
            _choice("degradations", name, DEGRADATIONS)


def _check_section(content: Mapping[str, Any], name: str, check: Any) -> None:
    section = content.get(name, {})
    switches = ("mwam", "incomplete", "robustness")
    if isinstance(section, bool) and name in switches:
        return
    if not isinstance(section, Mapping):
        also = ", or true or false" if name in switches else ""
        raise ValueError(f"{name}={section!r} must be a mapping of keys to values{also}")
    try:
        check(section)
    except ValueError as error:
        raise ValueError(f"in section '{name}': {error}") from None


def _choice(key: str, value: Any, choices: Iterable[str]) -> None:
    if value not in list(choices):  # in a dictionary, a list of the user's would be an error
        raise ValueError(f"{key}={value!r} is unknown: choose from {', '.join(choices)}")


def _check_model(model: Any, fusion: str, task: str) -> None:
    text = str(model)
    if text.endswith(".pt"):
        if not os.path.isfile(text):
            raise ValueError(f"model={text} is not a file")
    elif not text.endswith((".yaml", ".yml")):
        raise ValueError(f"model={text} must be a stock description like yolov8n.yaml or a checkpoint like best.pt")
    else:
        try:
            if os.path.isfile(text):
                read_yaml(text)  # Ultralytics' reading would end in a traceback
            described = two_stream_cfg(text, fusion=fusion)
            check_trainable(described)
        except (NotImplementedError, ValueError) as error:
            raise ValueError(f"model={text}: {error}") from None
        except FileNotFoundError:
            raise ValueError(
                f"model={text}: Ultralytics has no such description, nor is it a file; try yolov8n.yaml (n, s, m, l, x)"
            ) from None
        except (
            TypeError,
            LookupError,
            AttributeError,
            RuntimeError,
            OSError,
        ) as error:  # of layers that cannot be built
            said = " ".join(str(error).split())
            raise ValueError(f"model={text} cannot be built ({type(error).__name__}: {said:.200})") from None
        if (own := task_of(described)) != task:
            raise ValueError(f"task={task}, but model={text} is made for the task '{own}'")
