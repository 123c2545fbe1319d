"""What the processes of a test that trains on several ranks have in common."""

import gc
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import distributed as dist


@contextmanager
def one_of_two(rank, folder):
    """Be rank `rank` of two that meet in `folder`, on one thread."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{Path(folder) / 'store'}", rank=rank, world_size=2)
    yield
    # A DistributedDataParallel lies in a reference cycle and keeps gloo's threads: one that outlives the group aborts
    # the process, now and then, when the interpreter ends.
    gc.collect()
    dist.destroy_process_group()
