"""The number of threads of a host."""

from __future__ import annotations

import os

import cv2
import torch

MOST_THREADS = 8


def limit_threads(device: torch.device) -> None:
    """Give this process as many threads as Ultralytics gives its trainings.

    Where PyTorch computes on the CPU, it gets one thread fewer than there are cores, at least 1 and at most
    `MOST_THREADS`: with one on every core, all wait at each operation for the one whose core is busy otherwise. OpenCV
    gets none: the workers of a loader are many already.

    Args:
        device: The device of the host.
    """
    cv2.setNumThreads(0)
    if device.type in ("cpu", "mps"):
        torch.set_num_threads(min(MOST_THREADS, max(1, (os.cpu_count() or 1) - 1)))
