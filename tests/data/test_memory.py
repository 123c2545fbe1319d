import threading

import numpy as np
import pytest
import torch

from mwam_det.data import memory
from mwam_det.data.memory import KEPT, empty_images


@pytest.fixture(autouse=True)
def own_memory(monkeypatch):
    monkeypatch.setattr(memory, "_memory", type(memory._memory)(maxlen=KEPT))


def address(tensor):
    return tensor.untyped_storage().data_ptr()


def test_memory_that_nobody_holds_is_used_again():
    first = empty_images(2, 3, 8, 8)
    where = address(first)
    assert (first.shape, first.dtype, first.is_contiguous()) == ((2, 3, 8, 8), torch.uint8, True)
    del first
    assert address(empty_images(2, 3, 8, 8)) == where
    assert address(empty_images(1, 3, 5, 8)) == where  # a smaller one fits too


@pytest.mark.parametrize(
    "hold",
    [lambda t: t, lambda t: t[1:], lambda t: t.numpy(), lambda t: t.numpy()[1, 0, 2:], lambda t: memoryview(t.numpy())],
    ids=["tensor", "part", "array", "part of the array", "memoryview"],
)
def test_memory_that_somebody_holds_is_left_alone(hold):
    kept = hold(empty_images(2, 3, 8, 8).fill_(7))
    for value in range(2 * KEPT):
        empty_images(2, 3, 8, 8).fill_(value)
    assert np.all(np.asarray(kept) == 7)


def test_more_is_kept_than_lent_out_only_up_to_a_number():
    batches = [empty_images(1, 1, 4, 4).fill_(i) for i in range(3 * KEPT)]
    assert [int(batch.unique()) for batch in batches] == list(range(3 * KEPT))
    assert len(memory._memory) == KEPT
    del batches
    for size in (8, 16, 4):  # memory that is too small makes room
        assert empty_images(1, 1, size, size).shape == (1, 1, size, size)


def test_a_batch_that_a_worker_sends_is_not_written_to_while_it_is_on_its_way():
    loader = torch.utils.data.DataLoader(_Numbers(), batch_size=None, num_workers=1, prefetch_factor=4)
    assert [batch.unique().tolist() for batch in loader] == [[i] for i in range(12)]


class _Numbers(torch.utils.data.Dataset):
    def __len__(self):
        return 12

    def __getitem__(self, i):
        return empty_images(2, 3, 64, 64).fill_(i)


def test_threads_never_share_memory():
    wrong = []

    def work(value):
        for _ in range(200):
            batch = empty_images(1, 3, 16, 16).fill_(value)
            if not bool((batch == value).all()):
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(value,)) for value in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not wrong
