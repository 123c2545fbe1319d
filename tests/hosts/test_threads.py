"""A host leaves a core to others, as Ultralytics' trainings do."""

import os

import cv2
import pytest
import torch
from ultralytics.utils.torch_utils import select_device

from mwam_det.hosts.threads import limit_threads


@pytest.fixture
def restored():
    """Threads as they were, afterwards."""
    torchs, cvs = torch.get_num_threads(), cv2.getNumThreads()
    yield
    torch.set_num_threads(torchs)
    cv2.setNumThreads(cvs)


@pytest.mark.parametrize(("cores", "threads"), [(None, 1), (1, 1), (2, 1), (4, 3), (9, 8), (64, 8)])
def test_one_core_is_left_to_others(monkeypatch, restored, cores, threads):
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    limit_threads(torch.device("cpu"))
    limit_threads(torch.device("cuda"))  # the threads of the CPU do not matter there
    assert asked == [threads]


def test_ultralytics_uses_as_many(restored):
    found = []
    for use in (lambda: select_device("cpu", verbose=False), lambda: limit_threads(torch.device("cpu"))):
        torch.set_num_threads(3)
        cv2.setNumThreads(3)
        use()
        found.append(torch.get_num_threads())
    assert found[0] == found[1] and cv2.getNumThreads() <= 1
