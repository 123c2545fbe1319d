"""Data sections of sets that need not be there."""

from typing import Any


def people(path: str) -> dict[str, Any]:
    """Return the section of a set of pairs with one class."""
    return {
        "path": path,
        "modalities": {"rgb": "visible", "ir": "infrared"},
        "labels": "labels",
        "train": "train",
        "val": "val",
        "names": {0: "person"},
    }
