"""Every key of a recipe, with type, default and description, read from where each is defined.

Sources are parsed, not imported: importing torch and Ultralytics would take seconds, too long for shell completion.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mwam_det.files.values import format_value
from mwam_det.recipe import HOST_TASKS, KEYS, REPORT_KEYS

BULLET = re.compile(r"^- (\w+(?:, \w+)*): (.*(?:\n  .*)*)", re.MULTILINE)
ENTRY = re.compile(r"^    (\w+(?:, \w+)*): (.*(?:\n {8}.*)*)", re.MULTILINE)
"""Docstring entries for one or more keys: in a list, or in a section such as "Args"."""


@dataclass(frozen=True)
class Key:
    """A key of a recipe.

    Attributes:
        kind: Its type as defined; empty if not stated.
        default: Its default as typed; empty if there is none.
        text: Its description.
    """

    kind: str = ""
    default: str = ""
    text: str = ""


@cache
def recipe_keys(task: str = "detect") -> dict[str, dict[str, Key]]:
    """Return the keys of each section of a recipe for a task; the section "" holds those of the top level."""
    top = _only(KEYS, _arguments("recipe", "Recipe"))
    stock = _ultralytics()
    elsewhere = _literal("engine.arguments", "NOT_FOR_RECIPES") | _literal("engine.arguments", "OF_OTHER_COMMANDS")
    shared = {key: replace(stock[key], default="") for key in stock}  # a report uses the values of the training
    sections = {
        "": top,
        "data": _described("data.section", "resolve_dataset"),
        "mwam": _arguments("core.config", "MWAMConfig"),
        "incomplete": _arguments("training.incomplete", "IncompleteConfig"),
        "balancing": _balancing(),
        "train": {key: stock[key] for key in stock if key not in elsewhere},
        "report": _only(REPORT_KEYS, shared | _arguments("engine.facade", "robustness")),
        "select": {"by" if k == "select" else k: v for k, v in _arguments("training.selection", "Selection").items()},
    }
    if task in HOST_TASKS:
        changed = {"task": replace(top["task"], default=task), "model": replace(top["model"], default="")}
        sections[""] = _only(_literal("hosts.experiment", "KEYS"), top | changed)
        sections["data"] = _described("hosts.data.layout")
        sections["train"] = _arguments("hosts.settings", "TrainSettings")
        sections["report"] = _only(_literal("hosts.experiment", "REPORT_KEYS"), sections["report"])
    else:
        sections["data"]["test"] = sections["data"]["train"]  # the docstring mentions it there
    return sections


def full_names(key: str, task: str = "detect") -> list[str]:
    """Return what a key without its section can mean, like ["train.epochs"], or the nearest known key."""
    sections = {name: keys for name, keys in recipe_keys(task).items() if name}
    if not any(key in keys for keys in sections.values()):
        near = get_close_matches(key, {known for keys in sections.values() for known in keys}, n=1)
        if not near or get_close_matches(key, recipe_keys(task)[""], n=1):
            return []
        key = near[0]
    return [f"{name}.{key}" for name, keys in sections.items() if key in keys]


def _only(names: Iterable[str], keys: dict[str, Key]) -> dict[str, Key]:
    return {name: keys[name] for name in names if name in keys}


def _ultralytics() -> dict[str, Key]:
    """Read Ultralytics' file of defaults, whose comments describe the keys."""
    spec = find_spec("ultralytics")
    assert spec is not None and spec.submodule_search_locations
    text = (Path(spec.submodule_search_locations[0]) / "cfg/default.yaml").read_text(encoding="utf-8")
    lines = re.findall(r"^(\w+):[ ]*(.*?)[ ]*# \((.*?)\) (.*)$", text, re.MULTILINE)
    return {key: Key(kind, default.lower() if default in ("True", "False") else default or "null", line)
            for key, default, kind, line in lines}  # fmt: skip


def _balancing() -> dict[str, Key]:
    """Return the settings of all balancing methods; each description names its methods."""
    shared = _arguments("core.balancing.balancer", "BalancingConfig")
    methods: dict[str, dict[str, Key]] = {}
    for path in sorted(Path(__file__).parent.glob("core/balancing/*.py")):
        module = f"core.balancing.{path.stem}"
        for node in _tree(module).body:
            if isinstance(node, ast.ClassDef) and "BalancingConfig" in map(ast.unparse, node.bases):
                name = next(ast.literal_eval(f.value) for f in node.body if isinstance(f, ast.Assign))
                methods[name] = _arguments(module, node.name)
    keys = {"method": Key("str", text=f"One of {', '.join(methods)}."), **shared}
    for name in dict.fromkeys(name for settings in methods.values() for name in settings if name not in keys):
        by_method = {method: settings[name] for method, settings in methods.items() if name in settings}
        kinds, defaults = ({getattr(key, part) for key in by_method.values()} for part in ("kind", "default"))
        text = " ".join(f"Of {method}: {key.text}" for method, key in by_method.items())
        keys[name] = Key(" | ".join(sorted(kinds)), defaults.pop() if len(defaults) == 1 else "", text)
    return keys


def _tree(module: str) -> ast.Module:
    return ast.parse(Path(__file__).parent.joinpath(f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))


def _node(module: str, name: str) -> Any:
    """Return the first class or function of a name."""
    return next(node for node in ast.walk(_tree(module)) if getattr(node, "name", None) == name)


def _literal(module: str, name: str) -> Any:
    """Return the value of a constant."""
    values = (node.value for node in _tree(module).body if isinstance(node, ast.Assign) and
              isinstance(node.targets[0], ast.Name) and node.targets[0].id == name)  # fmt: skip
    return ast.literal_eval(next(values))


def _arguments(module: str, name: str) -> dict[str, Key]:
    """Return the fields of a dataclass, or the arguments of a method, with types, defaults and descriptions."""
    node, texts = _node(module, name), _described(module, name)
    if isinstance(node, ast.ClassDef):
        found = [(f.target.id, f.annotation, f.value) for f in node.body
                 if isinstance(f, ast.AnnAssign) and isinstance(f.target, ast.Name) and
                 not ast.unparse(f.annotation).startswith("ClassVar")]  # fmt: skip
    else:
        found = [(a.arg, a.annotation, d) for a, d in zip(node.args.args[1:], node.args.defaults, strict=True)]
    return {key: Key(ast.unparse(kind), _default(value), texts.get(key, Key()).text) for key, kind, value in found}


def _default(value: ast.expr | None) -> str:
    try:
        return format_value(ast.literal_eval(value)) if value is not None else ""
    except ValueError:  # field(default_factory=…)
        return "{}"


def _described(module: str, name: str = "") -> dict[str, Key]:
    """Return the first sentence of each entry in a docstring (the module's, without a name)."""
    text = ast.get_docstring(_node(module, name) if name else _tree(module)) or ""
    return {
        key: Key(text=re.split(r"(?<=\.)\s(?=[A-Z\"`])", " ".join(entry.split()))[0])
        for keys, entry in BULLET.findall(text) or ENTRY.findall(text.partition("\nReturns:")[0])
        for key in keys.split(", ")
    }
