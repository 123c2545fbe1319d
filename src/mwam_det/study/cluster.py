"""Cells of a grid on the nodes of a Ray cluster."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mwam_det.study.workers import PATIENCE, Assignment, Task, printing_to

RETRIES = 3
"""How often a task is restarted after its node or process is lost; a training resumes from its last checkpoint."""


def run_on_cluster(
    tasks: Sequence[Task],
    work: Callable[[Assignment[Task]], None],
    address: str,
    jobs: int,
    folder: Path,
    *,
    log_of: Callable[[Task], Path],
    changed: Callable[[Sequence[Task]], None],
    died: Callable[[Task, str], None],
) -> None:
    """Run every task in its own process on some node, `jobs` of them at once on each.

    Tasks on a lost node are restarted elsewhere; they lose the time since their last checkpoint.

    Args:
        tasks: The tasks, in the order in which they start.
        work: As in `run_all`.
        address: Address of the cluster: "auto" for the one that this machine belongs to, or "ray://HOST:PORT".
        jobs: Number of tasks per node at a time; they share its CPUs, except one, and its GPUs. Where some nodes have
            GPUs, tasks run on those alone, each on one GPU.
        folder: A folder that every node must see under this path.
        log_of: As in `run_all`.
        changed: Called whenever a task ends; Ray does not say which are running.
        died: As in `run_all`.

    Raises:
        ImportError: If Ray is not installed.
        ConnectionError: If there is no such cluster.
        KeyboardInterrupt: If interrupted, once the tasks have ended.
    """
    try:
        import ray
    except ImportError:
        raise ImportError('cluster needs Ray: pip install "mwam-det[cluster]"') from None

    if begun := not ray.is_initialized():
        try:
            ray.init(address=address, log_to_driver=False)
        except ValueError as error:
            raise ConnectionError(f"cluster={address} must be auto or ray://HOST:PORT: {error}") from None
    cpus, gpus = _shares(ray.nodes(), jobs)
    remote: Any = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES, max_calls=1)(_work_on_node)
    device = "0" if gpus else None  # Ray shows a task only its own GPUs, counted from 0
    waiting = {remote.remote(work, Assignment(task, device, log_of(task), int(cpus)), folder): task for task in tasks}
    try:
        changed([])
        while waiting:
            (ended, *_), _ = ray.wait([*waiting], num_returns=1)
            task = waiting.pop(ended)
            try:
                ray.get(ended)
            except ray.exceptions.RayTaskError as error:
                died(task, " ".join(str(error.cause).split()))
            except ray.exceptions.RayError as error:
                died(task, f"its node or process was lost {RETRIES + 1} times ({type(error).__name__})")
            changed([])
    finally:
        for reference in waiting:
            ray.cancel(reference)  # like Ctrl-C, so that it saves its state
        if waiting:
            ray.wait([*waiting], num_returns=len(waiting), timeout=PATIENCE)
        if begun:
            ray.shutdown()


def _shares(nodes: Sequence[Mapping[str, Any]], jobs: int) -> tuple[int, float]:
    """Return the number of CPUs and GPUs of a task if `jobs` of them share the smallest node, of those with a GPU.

    A task trains on one GPU or on a part of one, 1 / n, as Ray takes whole numbers and parts alone; it counts parts in
    0.0001 and rounds.

    Args:
        nodes: As `ray.nodes` lists them; dead ones and those without CPUs are ignored.
        jobs: Number of tasks per node at a time.

    Raises:
        ConnectionError: If no node has a CPU.
    """
    usable = [node["Resources"] for node in nodes if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
    if not usable:
        raise ConnectionError("no node of the cluster has a CPU to give: start them with --num-cpus")
    usable = [node for node in usable if node.get("GPU", 0) >= 1] or usable
    cpus = max(1, int(min(node["CPU"] for node in usable) - 1) // jobs)
    gpus = int(min(node.get("GPU", 0) for node in usable))
    return cpus, math.floor(1e4 / math.ceil(jobs / gpus)) / 1e4 if gpus else 0


def _work_on_node(work: Callable[[Assignment[Task]], None], assignment: Assignment[Task], folder: Path) -> None:
    """Run a task in a process of a node."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f"the node {platform.node()} does not see {folder}: the nodes of a cluster need a shared folder, see "
            "train.project"
        )
    with printing_to(assignment.log):
        work(assignment)
