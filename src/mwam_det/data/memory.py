"""Memory for batches of images, which is used again as soon as nobody holds it."""

from __future__ import annotations

import math
import weakref
from collections import deque

import numpy as np
import torch

KEPT = 4
"""Batches whose memory is kept at most: what consumers hold at a time, and one to be written."""

_memory: deque[tuple[np.ndarray, weakref.ref]] = deque(maxlen=KEPT)
"""Arrays, and what of each was lent last: as long as that lives, a tensor or a view of one can be read by somebody."""


def empty_images(*shape: int) -> torch.Tensor:
    """Return a uint8 tensor for a batch, its values undefined, in memory that an earlier batch has left where there is.

    The system clears each page that it hands out: for fresh memory that costs more than what is then written to it. New
    memory comes from numpy, which asks for huge pages, unlike torch.

    Args:
        shape: Its shape, commonly (B, C, H, W).
    """
    size = math.prod(shape)
    array = _left_memory(size)
    if array is None:
        array = np.empty(size, np.uint8)
    part = array[:size]  # an object of its own, which the tensor holds and we do not
    _memory.append((array, weakref.ref(part)))
    return torch.from_numpy(part).view(shape)


def _left_memory(size: int) -> np.ndarray | None:
    """Take an array that nobody reads and that is large enough; those that are too small are given up."""
    for _ in range(KEPT):
        try:
            array, lent = _memory.popleft()  # atomic: what one thread has taken no other sees
        except IndexError:
            return None
        if lent() is not None:
            _memory.append((array, lent))
        elif array.size >= size:
            return array
    return None
