"""Training in several processes: checks and settings before Ultralytics starts."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import distributed as dist
from torch.distributed.elastic.multiprocessing.errors import get_error_handler
from ultralytics.cfg import get_save_dir
from ultralytics.utils import RANK, WORLD_SIZE


def number_of_processes(device: Any) -> int:
    """Return the number of training processes: those of a launcher, otherwise one for each named device."""
    if RANK != -1:
        return WORLD_SIZE
    return len(device) if isinstance(device, list | tuple) else str(device).count(",") + 1


def device_of_worker(device: Any) -> Any:
    """Return the devices of this machine for a process that torchrun started, or `device` for any other process.

    Args:
        device: Ultralytics' argument; None or "" for the first GPUs of the machine, or the CPU if it has none.
    """
    if RANK == -1 or device not in (None, ""):
        return device
    return ",".join(map(str, range(_local_processes()))) if torch.cuda.is_available() else "cpu"


def _local_processes() -> int:
    """Return the number of training processes on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", WORLD_SIZE))


def check_processes(arguments: Mapping[str, Any]) -> None:
    """Check that a run can be distributed over its processes; one process can do everything.

    Args:
        arguments: The given arguments of Ultralytics.

    Raises:
        ValueError: If the batch is left to AutoBatch, a worker has no device or uses rectangular batches, or
            Ultralytics would delete an earlier run, see `refuse_to_delete`.
    """
    processes = number_of_processes(device_of_worker(arguments.get("device")))
    if processes == 1:
        return
    batch = arguments.get("batch")
    if batch is not None and batch < 1:
        raise ValueError(f"batch={batch} only works on one device: give the total batch of all {processes}")
    if RANK == -1:
        if arguments.get("exist_ok") and not arguments.get("resume") and (folder := shared_folder(arguments)):
            refuse_to_delete(folder)
        return
    if arguments.get("rect"):
        raise ValueError("rect=true gives each process a different shape and number of batches: leave it out")
    devices, local = str(device_of_worker(arguments.get("device"))).strip("[]()"), _local_processes()
    if devices != "cpu" and devices.count(",") + 1 < local:
        raise ValueError(f"device={devices} must name a device for each of the {local} processes of this machine")


def shared_folder(arguments: Mapping[str, Any]) -> Path | None:
    """Return the folder that a run will share with an earlier one; None if it gets a new one.

    Args:
        arguments: The given arguments of Ultralytics.
    """
    if isinstance(resume := arguments.get("resume"), str | Path):
        return Path(resume).resolve().parent.parent
    if not arguments.get("exist_ok") and not arguments.get("save_dir"):
        return None
    defaults = {"project": None, "name": None, "task": "detect", "mode": "train", "save_dir": None}
    return Path(
        get_save_dir(SimpleNamespace(**{key: arguments.get(key, d) for key, d in defaults.items()}, exist_ok=True))
    )


def refuse_to_delete(folder: Path) -> None:
    """Protect a run folder: before workers start, Ultralytics deletes the folder of a run that is not resumed.

    Raises:
        ValueError: If there are weights in it.
    """
    if weights := sorted(folder.glob("weights/*.pt")):
        raise ValueError(
            f"exist_ok=true: on several devices Ultralytics would first delete {folder} with {weights[-1].name} in it: "
            "give the run another name, resume it, or move the folder"
        )


@contextmanager
def failures_in_words(folder: Path) -> Iterator[None]:
    """Report the premature end of a process of this training in a sentence, with how to continue.

    The launcher ends the other processes and prints the first error of a process, which is recorded where torchrun
    looks for it. In the other processes, backends raise a network error, often before the launcher ends them.

    Args:
        folder: The run folder.

    Raises:
        ChildProcessError: In the process that started the workers, if one of them failed.
        ConnectionError: In a worker, if another one cannot be reached any more.
    """
    try:
        yield
    except subprocess.CalledProcessError as error:
        raise ChildProcessError(
            "a process of this training failed, and the launcher ended the others (exit status "
            f"{error.returncode}): its report above says which process, and why. {_how_to_continue(folder)}"
        ) from None
    except Exception as error:
        if RANK == -1:
            raise
        if _is_network_error(error):
            first_line = str(error).strip().partition("\n")[0]
            raise ConnectionError(
                f"rank {RANK}: another process of this training cannot be reached any more ({first_line}): look at "
                f"what that process printed last. {_how_to_continue(folder)}"
            ) from error
        get_error_handler().record_exception(error)
        raise


def _is_network_error(error: Exception) -> bool:
    if dist.is_available() and isinstance(error, dist.DistBackendError | dist.DistNetworkError):
        return True
    return isinstance(error, RuntimeError) and "gloo/transport" in str(error)  # gloo has no error class of its own


def _how_to_continue(folder: Path) -> str:
    last = folder / "weights" / "last.pt"
    return f"Continue with resume={last}" if last.is_file() else "There is no checkpoint yet: start again"
