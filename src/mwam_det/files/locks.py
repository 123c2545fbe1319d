"""One process at a time in a folder."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

LOCK = ".in_use"
"""Name of the lock file in a folder. The system releases it however the process ends."""


class FolderInUse(OSError):
    """Another process is working in a folder; the message names it."""


class Hold:
    """Lock a folder for this process until `release`, or until this object is garbage-collected.

    Args:
        folder: Created if missing.

    Raises:
        FolderInUse: If another process, or another object in this one, holds it.
    """

    def __init__(self, folder: str | Path):
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / LOCK, timeout=0)
        try:
            self._lock.acquire()
        except Timeout:
            raise FolderInUse(f"another process works in {folder}: wait for it, or name another folder") from None

    def release(self) -> None:
        """Release the folder and remove the lock file."""
        if self._lock.is_locked:
            with suppress(OSError):  # Windows does not remove an open file
                Path(self._lock.lock_file).unlink()
            self._lock.release()

    def __enter__(self) -> Hold:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()
