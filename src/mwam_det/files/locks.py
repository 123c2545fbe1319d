"""One process at a time in a folder."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

LOCK = ".in_use"
"""Name of the file by which a process holds a folder. The system lets go of it however the process ends."""


class FolderInUse(OSError):
    """Another process works in a folder; the message names it."""


class Hold:
    """Hold a folder for this process until `release`, or until this object is gone.

    Args:
        folder: It is made if it is not there.

    Raises:
        FolderInUse: If another process, or another object of this one, holds it.
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
        """Let go of the folder; nothing is left in it."""
        if self._lock.is_locked:
            Path(self._lock.lock_file).unlink(missing_ok=True)
            self._lock.release()

    def __enter__(self) -> Hold:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()
