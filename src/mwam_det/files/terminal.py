"""Output that never fails: characters that the encoding of a terminal or file lacks are replaced by "?"."""

from __future__ import annotations

import io
import sys

MARKS = ("●", "○")
PLAIN_MARKS = ("x", ".")
"""The same for encodings without circles, where both would be replaced by "?"."""


def tolerate_encodings() -> None:
    """Make standard output replace characters that it cannot encode, as standard error does.

    Windows code pages and ISO 8859-1 lack "×" or "●", and file names may be in no encoding at all.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # leave a redirected stream alone
        sys.stdout.reconfigure(errors="replace")


def marks_in(encoding: str) -> tuple[str, str]:
    """Return a mark for present and one for missing, distinguishable in an encoding."""
    return MARKS if holds(encoding, "".join(MARKS)) else PLAIN_MARKS


def holds(encoding: str, text: str) -> bool:
    """Return whether an encoding, which may be unknown, has every character of a text."""
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def encodable(text: str) -> str:
    r"""Return a name that UTF-8 can encode: bytes of a file name that it cannot become escapes like "\udcfc"."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
