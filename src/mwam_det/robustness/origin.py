"""Where a robustness report comes from: what was trained and how, by which releases, and when it was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Origin:
    """Where a report comes from.

    Attributes:
        trained: What was trained and how, for people: the value by what it is called, like {"MWAM": "off"}. Nothing
            where the weights do not say it, such as those of an exported file.
        versions: The release of each package that made the report.
        date: When it was made: local time with its offset from UTC, as ISO 8601.
    """

    trained: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    date: str = ""

    @classmethod
    def of(cls, trained: Mapping[str, str], packages: Sequence[str]) -> Origin:
        """Describe a report that is made now, by packages that are called `packages` and by this one."""
        return cls(dict(trained), versions_with(packages), datetime.now().astimezone().isoformat(timespec="minutes"))

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {"trained": dict(self.trained), "versions": dict(self.versions), "date": self.date}


def versions_with(packages: Sequence[str]) -> dict[str, str]:
    """Return the release of this package and of others by name."""
    return {name: str(import_module(name).__version__) for name in ("mwam_det", *packages)}


def switch_in_words(value: Any) -> str:
    """Write what a recipe says under "mwam" or "incomplete".

    Args:
        value: True, False or None, or a mapping of keys to values.

    Returns:
        "on", "off", or the values, like "views=2".
    """
    if isinstance(value, Mapping) and value:
        return ", ".join(f"{key}={each}" for key, each in value.items())
    return "off" if value in (False, None) else "on"
