"""Output that never ends a program: what a terminal or a file of another encoding cannot hold is replaced by "?"."""

from __future__ import annotations

import io
import sys

MARKS = ("●", "○")
PLAIN_MARKS = ("x", ".")
"""The same where the encoding has no circles: replaced, both would look alike."""


def tolerate_encodings() -> None:
    """Let the standard output of this process replace characters that it cannot encode, as standard error does.

    Windows code pages and ISO 8859-1 lack "×" or "●", and names of files may be in no encoding at all.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # another one is of somebody who knows what to do with a text
        sys.stdout.reconfigure(errors="replace")


def marks_in(encoding: str) -> tuple[str, str]:
    """Return a mark for what is there and one for what is missing that an encoding can tell apart."""
    return MARKS if holds(encoding, "".join(MARKS)) else PLAIN_MARKS


def holds(encoding: str, text: str) -> bool:
    """Return whether an encoding, which may be unknown, has every character of a text."""
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
