"""User-supplied YAML: a mistake or an attack gives a one-line error instead of a traceback or exhausted memory."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError

LARGEST_FILE = 1024**2
"""Larger files, in bytes, are refused: a recipe with 20,000 classes has half of it."""

MOST_VALUES = 100_000
"""Text with more values is refused; the values behind an alias count each time."""

DEEPEST = 32
"""Text with deeper nesting is refused: recipes have five levels."""

_MERGE, _VALUE = "tag:yaml.org,2002:merge", "tag:yaml.org,2002:value"


def read_yaml(file: str | Path) -> Any:
    """Read a YAML file.

    Returns:
        The result of `parse_yaml`.

    Raises:
        OSError: If there is no such file, or it cannot be read.
        ValueError: If it is too large, not text, or refused by `parse_yaml`; the message names the file.
    """
    if not Path(file).is_file():  # reading a pipe or a device may never end
        raise FileNotFoundError(errno.ENOENT, "no regular file", str(file))
    with open(file, "rb") as stream:
        content = stream.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise ValueError(f"{file} has more than {LARGEST_FILE:,} bytes: it is not a file of settings")
    try:
        return parse_yaml(content.decode())
    except ValueError as error:
        raise ValueError(f"{file} is not valid YAML: {error}") from None


def parse_yaml(text: str, plain: Callable[[str], Any] | None = None) -> Any:
    """Read text as YAML of plain values: mappings, lists, texts, numbers, true, false, null and dates.

    Anchors, aliases and merges are supported as long as the result is finite and small.

    Args:
        text: The text.
        plain: Reads unquoted values and keys from their text; if left out, YAML's rules apply.

    Raises:
        ValueError: If it is not YAML, repeats a key, has a recursive alias, is nested too deeply or has too many
            values, or a value is invalid for its type or cannot be written to a file; the message is one line.
    """
    try:
        loader = _Loader(text) if plain is None else _loader_with(plain)(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _measure(node, loader, {}, set())
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = "" if mark is None else f", line {mark.line + 1}"
        raise ValueError(f"{_one_line(error.problem or error.context)}{where}") from None
    except RecursionError:
        raise ValueError(f"it is nested more than {DEEPEST} levels deep") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise ValueError(_one_line(error)) from None


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, with a YAMLError in place of any other error in reading a value."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError):
            value = node.value if isinstance(node, yaml.ScalarNode) else "…"
            kind = node.tag.rpartition(":")[2]
            raise ConstructorError(None, None, f"{value!r:.60} is not a valid {kind}", node.start_mark) from None


def _loader_with(plain: Callable[[str], Any]) -> type[_Loader]:
    """Return a loader that reads every unquoted value by `plain`."""

    class Loader(_Loader):
        yaml_implicit_resolvers: dict[str, Any] = {}  # every unquoted value is a text at first

        def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
            value = super().construct_object(node, deep)
            is_plain = isinstance(node, yaml.ScalarNode) and node.style is None and isinstance(value, str)
            return plain(value) if is_plain else value

    return Loader


def _measure(node: yaml.Node, loader: _Loader, known: dict[int, tuple[int, int]], around: set[int]) -> tuple[int, int]:
    """Return the number of values and of levels in a node, and refuse what `parse_yaml` refuses.

    Args:
        node: The node.
        loader: Reads keys.
        known: Results for nodes measured so far, which aliases refer to again.
        around: The nodes that contain this one.
    """
    line = node.start_mark.line + 1
    if id(node) in around:
        raise ValueError(f"an alias refers to what contains it, line {line}")
    if id(node) in known:
        return known[id(node)]
    values, levels = 1, 1
    if isinstance(node, yaml.ScalarNode):
        if any(character == "\0" or "\ud800" <= character <= "\udfff" for character in node.value):
            raise ValueError(f"a text has a character that no file can hold, line {line}")
    else:
        children = node.value
        if isinstance(node, yaml.MappingNode):
            _refuse_repeated_keys(node, loader)
            children = [part for pair in node.value for part in pair]
        around.add(id(node))
        for child in children:
            inner_values, inner_levels = _measure(child, loader, known, around)
            values, levels = values + inner_values, max(levels, 1 + inner_levels)
            if values > MOST_VALUES:
                raise ValueError(f"it has more than {MOST_VALUES:,} values, line {line}")
            if levels > DEEPEST:
                raise ValueError(f"it is nested more than {DEEPEST} levels deep, line {line}")
        around.remove(id(node))
    known[id(node)] = values, levels
    return values, levels


def _refuse_repeated_keys(node: yaml.MappingNode, loader: _Loader) -> None:
    lines: dict[Any, int] = {}
    for key_node, _ in node.value:
        if not isinstance(key_node, yaml.ScalarNode):  # refused by the loader, as it is not hashable
            continue
        key = key_node.value if key_node.tag in (_MERGE, _VALUE) else loader.construct_object(key_node)
        line = key_node.start_mark.line + 1
        if key in lines:
            where = f"line {line}" if lines[key] == line else f"lines {lines[key]} and {line}"
            raise ValueError(f"the key {key!r:.60} is given twice, in {where}")
        lines[key] = line


def _one_line(message: Any) -> str:
    return " ".join(str(message).split())
