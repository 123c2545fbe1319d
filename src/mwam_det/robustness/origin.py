"""Provenance of a robustness report: what was trained and how, with which releases, and when it was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Origin:
    """Provenance of a report.

    Attributes:
        trained: What was trained and how, as text by name, like {"MWAM": "off"}. Empty if the weights do not record it,
            such as those of an exported file.
        versions: The release of each package that made the report.
        date: When it was made: local time with its offset from UTC, as ISO 8601.
    """

    trained: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    date: str = ""

    @classmethod
    def of(cls, trained: Mapping[str, str], packages: Sequence[str]) -> Origin:
        """Describe a report made now with this package and others, given by name."""
        return cls(dict(trained), versions_with(packages), datetime.now().astimezone().isoformat(timespec="minutes"))

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {"trained": dict(self.trained), "versions": dict(self.versions), "date": self.date}


def versions_with(packages: Sequence[str]) -> dict[str, str]:
    """Return the releases of this package and others by name."""
    return {name: str(import_module(name).__version__) for name in ("mwam_det", *packages)}


def switch_in_words(value: Any) -> str:
    """Format the value of a recipe's "mwam" or "incomplete".

    Args:
        value: True, False or None, or a mapping of keys to values.

    Returns:
        "on", "off", or the values, like "views=2".
    """
    if isinstance(value, Mapping) and value:
        return ", ".join(f"{key}={each}" for key, each in value.items())
    return "off" if value in (False, None) else "on"
