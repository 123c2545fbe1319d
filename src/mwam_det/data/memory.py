"""Memory for batches of images, reused once it is free."""

from __future__ import annotations

import math
import weakref
from collections import deque

import numpy as np
import torch

KEPT = 4
"""Maximum number of batches whose memory is kept: those held by consumers at a time, and one being written."""

_memory: deque[tuple[np.ndarray, weakref.ref]] = deque(maxlen=KEPT)
"""Arrays, and a reference to the part of each lent last, which lives as long as a tensor or a view of it does."""


def empty_images(*shape: int) -> torch.Tensor:
    """Return an uninitialised uint8 tensor for a batch, in the memory of an earlier batch if possible.

    The system clears each page of fresh memory, which costs more than writing a batch. New memory comes from numpy,
    which asks for huge pages, unlike torch.

    Args:
        shape: Its shape, commonly (B, C, H, W).
    """
    size = math.prod(shape)
    array = _free_memory(size)
    if array is None:
        array = np.empty(size, np.uint8)
    part = array[:size]  # a separate object, held by the tensor only
    _memory.append((array, weakref.ref(part)))
    return torch.from_numpy(part).view(shape)


def _free_memory(size: int) -> np.ndarray | None:
    """Take a free array that is large enough, and drop free ones that are too small."""
    for _ in range(KEPT):
        try:
            array, lent = _memory.popleft()  # atomic, so that no other thread takes it
        except IndexError:
            return None
        if lent() is not None:
            _memory.append((array, lent))
        elif array.size >= size:
            return array
    return None
