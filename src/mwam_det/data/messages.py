"""Shorten a scan's messages about single pairs to a few examples of each kind."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from ultralytics.utils import LOGGER

SHOWN = 3
"""Number of messages shown of each kind; the others are counted."""

LEFT_OUT = ": pair left out, "
"""Part of the message of a pair that cannot be used, after the file at fault."""

KINDS = {
    "it has no partner of": "pairs without a partner",
    "several files of": "pairs with several files of a name",
    "duplicate labels removed": "images with duplicate labels",
}
"""Kinds of messages by the words they contain; label files and images are distinguished by the file."""

OTHERS = "messages"


def brief(messages: list[str], prefix: str = "") -> list[str]:
    """Keep the first few messages of each kind and count the others; `prefix` begins the added lines."""
    kinds = list(map(_kind, messages))
    counts, kept = Counter(kinds), []
    seen: Counter[str] = Counter()
    for kind, message in zip(kinds, messages, strict=True):
        seen[kind] += 1
        if seen[kind] <= SHOWN or kind == OTHERS:
            kept.append(message)
        elif seen[kind] == counts[kind]:
            kept.append(f"{prefix}{counts[kind] - SHOWN:,} more of {counts[kind]:,} {kind}")
    return kept


def _kind(message: str) -> str:
    found = next((kind for words, kind in KINDS.items() if words in message), None)
    if found is not None or LEFT_OUT not in message:
        return found or OTHERS
    return "label files that cannot be used" if f".txt{LEFT_OUT}" in message else "pairs that cannot be used"


@contextmanager
def brief_messages(prefix: str = "") -> Iterator[None]:
    """Shorten what Ultralytics logs during a scan, one line per pair, to a few examples of each kind."""

    def cut(record: logging.LogRecord) -> bool:
        lines = str(record.msg).split("\n")
        if len(lines) > SHOWN:
            record.msg = "\n".join(brief(lines, prefix))
        return True

    LOGGER.addFilter(cut)
    try:
        yield
    finally:
        LOGGER.removeFilter(cut)
