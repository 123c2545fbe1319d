"""Files that are there whole or not at all, however the process ends that writes them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(file: Path) -> Iterator[Path]:
    """Yield the place to write a file's content to, which takes the file's place when the block ends.

    It lies beside the file. After an error it is gone and the file is as it was; what a process that died left there is
    written anew.

    Args:
        file: The file; its folder is there.

    Raises:
        OSError: If it cannot be written.
    """
    unfinished = file.with_name(f".{file.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    try:
        yield unfinished
        os.replace(unfinished, file)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
