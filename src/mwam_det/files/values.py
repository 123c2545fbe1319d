"""Values as people type them behind `key=`: numbers are numbers, and everything else is the text that was typed."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from typing import Any

from mwam_det.files.yaml_text import parse_yaml

NOTHING = ("null", "none")
"""Words for no value, YAML's and Ultralytics' (in upper or lower case)."""

SWITCHES = {"true": True, "false": False}


def parse_value(text: str) -> Any:
    """Read a value by Ultralytics' rule for `key=value`, with lists and mappings in brackets as YAML has them.

    None, true and false are known in upper and lower case, and so is YAML's null. Numbers and quoted texts are Python's
    literals. All else is text, also what YAML would take for a date, a switch ("no", "on") or a comment. In brackets,
    as in `[0, 2]` or `{gamma: 0.5}`, the same rule holds for each value.

    Args:
        text: What stands behind the equals sign.

    Returns:
        None, a bool, a number, a text, or a list or dictionary of these.

    Raises:
        ValueError: If brackets hold no YAML, or the text cannot be written to a file; the message is one line.
    """
    return parse_yaml(text, _scalar) if _is_bracketed(text) else _scalar(text)


def parse_text(text: str, brackets: bool = False, switch: bool = False) -> Any:
    """Read a value that is a name or a path: it is what was typed, and only null and none stand for no value.

    Args:
        text: What stands behind the equals sign.
        brackets: Whether it may also be a list or mapping in brackets. Its values are texts, too; its keys are read as
            values, so that `{0: no}` has a number.
        switch: Whether it may also be true or false.

    Returns:
        A text or None; with `brackets` perhaps a list or dictionary of texts, with `switch` perhaps a bool.

    Raises:
        ValueError: If brackets hold no YAML, or the text cannot be written to a file; the message is one line.
    """
    if _is_bracketed(text) and brackets:
        return _with_keys(parse_yaml(text, lambda value: value))
    word = text.strip().lower()
    if switch and word in SWITCHES:
        return SWITCHES[word]
    return None if word in NOTHING else text


def format_value(value: Any) -> str:
    """Write a value so that `parse_value` reads it: null, true, bare words where they are unmistakable, else quotes."""
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
    if "\0" in text or re.search("[\ud800-\udfff]", text):  # bytes of a name that is in no encoding
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
    """Return a value, or its text where it is of a type that no key takes: bytes, a set, a complex number."""
    return value if isinstance(value, str | int | float | None) else text


def _with_keys(value: Any) -> Any:
    """Read the keys of mappings as values; what they lead to stays text."""
    if isinstance(value, dict):
        return {_scalar(key) if isinstance(key, str) else key: _with_keys(item) for key, item in value.items()}
    return [_with_keys(item) for item in value] if isinstance(value, list) else value
