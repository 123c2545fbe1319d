"""Stacked pairs on disk, each with a fingerprint of its files, so that changes are noticed."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

VERSION = 1
"""Increase it when the same files and options give different pixels than before."""


def stack_name(files: Iterable[str], reading: str, size: tuple[int, int]) -> str:
    """Return the file name of a stack, unique for its files, the text `reading` on how they are read, and its size."""
    identity = "\n".join([*files, reading, f"{size}", f"{VERSION}"])
    return f"{hashlib.sha256(os.fsencode(identity)).hexdigest()[:32]}.npy"


def fingerprint(files: Iterable[str]) -> np.ndarray:
    """Return size in bytes and modification time in nanoseconds of every file, shape (files, 2), int64.

    Raises:
        OSError: If a file is missing.
    """
    return np.array([(state.st_size, state.st_mtime_ns) for state in map(os.stat, files)], np.int64)


def save_stack(file: Path, made_from: np.ndarray, stack: np.ndarray) -> None:
    """Write a stack, and the fingerprint of its files taken before they were read, atomically.

    Raises:
        OSError: If it cannot be written; nothing is left behind.
    """
    handle, unfinished = tempfile.mkstemp(dir=file.parent, suffix=".unfinished")
    try:
        with os.fdopen(handle, "wb") as stream:
            np.save(stream, made_from)
            np.save(stream, stack)
        os.replace(unfinished, file)
    except BaseException:
        os.unlink(unfinished)
        raise


def is_current(file: Path, made_from: np.ndarray) -> bool:
    """Return whether a stack exists and was made from files with this fingerprint."""
    try:
        with open(file, "rb") as stream:
            return np.array_equal(np.load(stream), made_from)
    except (OSError, ValueError, EOFError):
        return False


def load_stack(file: Path, made_from: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray | None:
    """Read a stack, uint8; None if it is missing, damaged, of another shape or made from other files.

    Args:
        file: Its file.
        made_from: The current fingerprint of its sources.
        shape: Its shape.
    """
    try:
        with open(file, "rb") as stream:
            if not np.array_equal(np.load(stream), made_from):
                return None
            stack = np.load(stream)
    except (OSError, ValueError, EOFError):
        return None
    return stack if stack.shape == shape and stack.dtype == np.uint8 else None
