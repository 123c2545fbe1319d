"""Cells of a grid in processes of their own, several at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Generic, TypeVar

Task = TypeVar("Task")

PATIENCE = 60.0
"""Seconds that a process has to end after it was interrupted, to save what it has, before it is killed."""


@dataclass(frozen=True)
class Place(Generic[Task]):
    """Where a task runs.

    Attributes:
        task: What is done.
        device: The device of its training, or None for what the recipe says.
        log: The file that takes what it prints.
        threads: How many threads it computes with on the CPU.
    """

    task: Task
    device: str | None
    log: Path
    threads: int


def threads_each(jobs: int) -> int:
    """Return how many threads each of some processes gets: all cores but one, shared out, and at least 1."""
    return max(1, ((os.cpu_count() or 1) - 1) // jobs)


def run_all(
    tasks: Sequence[Task],
    work: Callable[[Place[Task]], None],
    jobs: int,
    devices: Sequence[str] = (),
    *,
    log_of: Callable[[Task], Path],
    changed: Callable[[Sequence[Task]], None],
    died: Callable[[Task, str], None],
) -> None:
    """Do every task in a process of its own, `jobs` of them at once.

    Processes are spawned, so that each begins as a fresh interpreter does, and one that dies costs its task alone.

    Args:
        tasks: In the order in which they begin.
        work: A function of a module, called in the process.
        jobs: How many processes there are at a time, 1 or more.
        devices: Devices that are shared out, the least busy first; empty for what each recipe says.
        log_of: The file that takes what a task prints.
        changed: Called whenever a process began or ended, with the tasks that run.
        died: Called with a task whose process ended otherwise than by returning, and how.

    Raises:
        KeyboardInterrupt: As it comes, once every process has ended.
    """
    context, waiting = get_context("spawn"), list(tasks)
    running: dict[BaseProcess, Place[Task]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                busy = [place.device for place in running.values()]
                device = min(devices, key=busy.count) if devices else None
                place = Place(waiting[0], device, log_of(waiting.pop(0)), threads_each(jobs))
                process: BaseProcess = context.Process(target=_work, args=(work, place))
                process.start()
                running[process] = place
                changed([own.task for own in running.values()])
            ended = connection.wait([process.sentinel for process in running])
            for process in [own for own in running if own.sentinel in ended]:
                process.join()
                place = running.pop(process)
                if process.exitcode:
                    died(place.task, _how(process.exitcode))
                changed([own.task for own in running.values()])
    finally:
        _interrupt(list(running))


def _work(work: Callable[[Place[Task]], None], place: Place[Task]) -> None:
    """Do a task, in its process."""
    threading.Thread(target=_follow_parent, daemon=True).start()
    with printing_to(place.log):
        work(place)


def _follow_parent() -> None:
    """Interrupt this process when the one that spawned it is gone, even if it was killed."""
    parent: Any = parent_process()
    connection.wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGINT)


@contextmanager
def printing_to(log: Path) -> Iterator[None]:
    """Append what this process and its own children print to a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    with log.open("a", encoding="utf-8") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
        try:
            yield
        finally:  # a process of Ray ends without
            sys.stdout.flush()
            sys.stderr.flush()


def _interrupt(processes: Sequence[BaseProcess]) -> None:
    """End processes: as Ctrl-C would at first, so that they save what they have."""
    for process in processes:
        if process.is_alive() and process.pid is not None:
            os.kill(process.pid, signal.SIGINT)
    deadline = time.monotonic() + PATIENCE
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()


def _how(code: int) -> str:
    if code > 0:
        return f"its process ended with exit status {code}"
    return f"its process was ended by {signal.Signals(-code).name}" + " (out of memory?)" * (code == -signal.SIGKILL)
