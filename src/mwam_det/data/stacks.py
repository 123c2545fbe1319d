"""Stacked pairs on disk, each with what it was made from, so that a changed file is noticed."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

VERSION = 1
"""To be raised when the same files and options give other pixels than before."""


def stack_name(files: Iterable[str], reading: str, size: tuple[int, int]) -> str:
    """Return the file name of a stack: the same for the same files, read in the same way, of the same size.

    Args:
        files: The image of every modality.
        reading: How they are read, as any text that differs where that does.
        size: (height, width) of the stack.
    """
    identity = "\n".join([*files, reading, f"{size}", f"{VERSION}"])
    return f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.npy"


def fingerprint(files: Iterable[str]) -> np.ndarray:
    """Return size in bytes and time of the last change in nanoseconds of every file, shape (files, 2), int64.

    Raises:
        OSError: If a file has gone.
    """
    return np.array([(state.st_size, state.st_mtime_ns) for state in map(os.stat, files)], np.int64)


def save_stack(file: Path, made_from: np.ndarray, stack: np.ndarray) -> None:
    """Write a stack and the fingerprint of its files, taken before they were read. Others never see half a file.

    Raises:
        OSError: If it cannot be written, for want of space perhaps; nothing is left behind then.
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
    """Tell whether a stack is there and was made from files as they are now."""
    try:
        with open(file, "rb") as stream:
            return np.array_equal(np.load(stream), made_from)
    except (OSError, ValueError, EOFError):
        return False


def load_stack(file: Path, made_from: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray | None:
    """Read a stack.

    Args:
        file: Where it is.
        made_from: The fingerprint of its files as they are now.
        shape: Its shape.

    Returns:
        The stack, uint8, or None if there is none, it was made from other files, or it is damaged.
    """
    try:
        with open(file, "rb") as stream:
            if not np.array_equal(np.load(stream), made_from):
                return None
            stack = np.load(stream)
    except (OSError, ValueError, EOFError):
        return None
    return stack if stack.shape == shape and stack.dtype == np.uint8 else None
