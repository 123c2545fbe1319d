"""Cells of a grid in separate processes, several at once."""

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
"""Seconds that an interrupted process has to save its state before it is killed."""


@dataclass(frozen=True)
class Assignment(Generic[Task]):
    """A task and what it runs with.

    Attributes:
        task: The task.
        device: The device of its training, or None for the recipe's.
        log: The file for its output.
        threads: Number of CPU threads.
    """

    task: Task
    device: str | None
    log: Path
    threads: int


def threads_each(jobs: int) -> int:
    """Return the number of threads per process: all cores but one, divided among them, and at least 1."""
    return max(1, ((os.cpu_count() or 1) - 1) // jobs)


def run_all(
    tasks: Sequence[Task],
    work: Callable[[Assignment[Task]], None],
    jobs: int,
    devices: Sequence[str] = (),
    *,
    log_of: Callable[[Task], Path],
    changed: Callable[[Sequence[Task]], None],
    died: Callable[[Task, str], None],
) -> None:
    """Run every task in its own process, `jobs` of them at once.

    Processes are spawned: each starts with a fresh interpreter, and one that dies only loses its own task.

    Args:
        tasks: The tasks, in the order in which they start.
        work: A module-level function, called in the process.
        jobs: Number of processes at a time, at least 1.
        devices: Devices to assign, the least busy first; empty for that of each recipe.
        log_of: Returns the file for the output of a task.
        changed: Called whenever a process has started or ended, with the running tasks.
        died: Called with a task whose process did not end normally, and how it ended.

    Raises:
        KeyboardInterrupt: If interrupted, once every process has ended.
    """
    context, waiting = get_context("spawn"), list(tasks)
    running: dict[BaseProcess, Assignment[Task]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                busy = [assignment.device for assignment in running.values()]
                device = min(devices, key=busy.count) if devices else None
                assignment = Assignment(waiting[0], device, log_of(waiting.pop(0)), threads_each(jobs))
                process: BaseProcess = context.Process(target=_work, args=(work, assignment))
                process.start()
                running[process] = assignment
                changed([other.task for other in running.values()])
            ended = connection.wait([process.sentinel for process in running])
            for process in [process for process in running if process.sentinel in ended]:
                process.join()
                assignment = running.pop(process)
                if process.exitcode:
                    died(assignment.task, _how(process.exitcode))
                changed([other.task for other in running.values()])
    finally:
        _interrupt(list(running))


def _work(work: Callable[[Assignment[Task]], None], assignment: Assignment[Task]) -> None:
    """Run a task in its process."""
    was_ignored = signal.signal(signal.SIGINT, signal.default_int_handler) is signal.SIG_IGN
    if was_ignored and hasattr(os, "setpgrp"):  # a shell's & in a script: Ctrl-C there is still not meant for it
        os.setpgrp()
    threading.Thread(target=_follow_parent, daemon=True).start()
    with printing_to(assignment.log):
        work(assignment)


def _follow_parent() -> None:
    """Interrupt this process when the one that spawned it is gone, even if it was killed; end it if it goes on."""
    parent: Any = parent_process()
    connection.wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(PATIENCE)
    os._exit(1)


@contextmanager
def printing_to(log: Path) -> Iterator[None]:
    """Append the output of this process and its children to a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    with log.open("a", encoding="utf-8") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
        try:
            yield
        finally:  # a process of Ray ends without flushing
            sys.stdout.flush()
            sys.stderr.flush()


def _interrupt(processes: Sequence[BaseProcess]) -> None:
    """End processes, first as Ctrl-C would, so that they save their state."""
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
