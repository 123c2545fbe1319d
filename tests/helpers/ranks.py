"""What the processes of a test that trains on several ranks have in common."""

import gc
import os
import socket
import subprocess
import sys
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


def free_port():
    """Return a port of this machine that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def start_two(script, folder, *arguments):
    """Start a script of this folder in two processes, with the environment that torchrun gives them.

    Their output is in `folder`, as 0.log and 1.log.
    """
    launched = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    processes = []
    for rank in ("0", "1"):
        environment = {**os.environ, **launched, "RANK": rank, "LOCAL_RANK": rank, "OMP_NUM_THREADS": "1"}
        with (folder / f"{rank}.log").open("w") as log:
            command = [sys.executable, str(Path(__file__).with_name(script)), *map(str, arguments)]
            processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
    return processes


def run_two(script, folder, *arguments):
    """Run a script of this folder in two processes to its end, see `start_two`."""
    processes = start_two(script, folder, *arguments)
    try:
        codes = [process.wait(timeout=240) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert codes == [0, 0], "".join((folder / f"{rank}.log").read_text()[-3000:] for rank in range(2))
