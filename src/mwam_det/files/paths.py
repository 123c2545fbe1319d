"""Paths as users write them."""

from __future__ import annotations

import os
from pathlib import Path


def expanded(path: str | Path) -> Path:
    """Return a path with "~" as the user's folder; unlike `Path.expanduser`, "~ann" is no error if there is no Ann."""
    return Path(os.path.expanduser(path))
