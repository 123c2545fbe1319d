"""Values as typed after `key=`: numbers are numbers, and everything else is the text as typed."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from typing import Any

from mwam_det.files.yaml_text import parse_yaml

NOTHING = ("null", "none")
"""Words for no value, YAML's and Ultralytics', in any case."""

SWITCHES = {"true": True, "false": False}


def parse_value(text: str) -> Any:
    """Read a value by Ultralytics' rule for `key=value`, with lists and mappings in brackets as in YAML.

    None, null, true and false may be in any case. Numbers and quoted texts are Python literals. Everything else is
    text, including what YAML takes for a date, a switch ("no", "on") or a comment. In brackets, as in `[0, 2]` or
    `{gamma: 0.5}`, the same rule applies to each value.

    Args:
        text: What follows the equals sign.

    Returns:
        None, a bool, a number, a text, or a list or dictionary of these.

    Raises:
        ValueError: If brackets hold invalid YAML, or the text cannot be written to a file; the message is one line.
    """
    return parse_yaml(text, _scalar) if _is_bracketed(text) else _scalar(text)


def parse_text(text: str, brackets: bool = False, switch: bool = False) -> Any:
    """Read a name or a path: the text as typed; only null and none mean no value.

    Args:
        text: What follows the equals sign.
        brackets: Whether it may also be a list or mapping in brackets, of texts. Keys are read as values, so that the
            key of `{0: no}` is a number.
        switch: Whether it may also be true or false.

    Returns:
        A text or None; with `brackets` possibly a list or dictionary of texts, with `switch` possibly a bool.

    Raises:
        ValueError: If brackets hold invalid YAML, or the text cannot be written to a file; the message is one line.
    """
    if _is_bracketed(text) and brackets:
        return _with_keys(parse_yaml(text, lambda value: value))
    word = text.strip().lower()
    if switch and word in SWITCHES:
        return SWITCHES[word]
    return None if word in NOTHING else text


def format_value(value: Any) -> str:
    """Format a value so that `parse_value` reads it back, with quotes only where a text would be ambiguous."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{format_value(key)}: {format_value(item)}' for key, item in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(format_value, value))}]"
    if isinstance(value, int | float):
        return str(value)
    text = str(value)
    is_bare = re.fullmatch(r"[\w./+@%~-]+( [\w./+@%~-]+)*", text) and text[0] not in "@%-" and _scalar(text) == text
    return text if is_bare else json.dumps(text, ensure_ascii=False)


def _is_bracketed(text: str) -> bool:
    if "\0" in text or re.search("[\ud800-\udfff]", text):  # undecodable bytes of a file name
        raise ValueError("it has a character that no file can hold")
    return text.lstrip()[:1] in ("[", "{")


def _scalar(text: str) -> Any:
    text = text.strip()
    if text.lower() in NOTHING:
        return None
    if text.lower() in SWITCHES:
        return SWITCHES[text.lower()]
    try:
        value = ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return text
    if isinstance(value, tuple):
        return [_plain(item, str(item)) for item in value]
    return _plain(value, text)


def _plain(value: Any, text: str) -> Any:
    """Return a value, or its text if no key takes its type: bytes, a set, a complex number."""
    return value if isinstance(value, str | int | float | None) else text


def _with_keys(value: Any) -> Any:
    """Read the keys of mappings as values; the mapped values stay text."""
    if isinstance(value, dict):
        return {_scalar(key) if isinstance(key, str) else key: _with_keys(item) for key, item in value.items()}
    return [_with_keys(item) for item in value] if isinstance(value, list) else value
