"""Cells of a grid on the nodes of a Ray cluster."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mwam_det.study.workers import PATIENCE, Place, Task, printing_to

RETRIES = 3
"""How often a task begins again after its node or process was lost; a training resumes from its last checkpoint."""


def run_on_cluster(
    tasks: Sequence[Task],
    work: Callable[[Place[Task]], None],
    address: str,
    jobs: int,
    folder: Path,
    *,
    log_of: Callable[[Task], Path],
    changed: Callable[[Sequence[Task]], None],
    died: Callable[[Task, str], None],
) -> None:
    """Do every task in a process of its own on some node, `jobs` of them at once on each.

    A node that is lost costs the tasks that ran there the time since their last checkpoint: they begin again elsewhere.

    Args:
        tasks: In the order in which they begin.
        work: As in `run_all`.
        address: Of the cluster: "auto" for the one that this machine belongs to, or "ray://HOST:PORT".
        jobs: How many tasks a node has at a time; they share its CPUs, all but one, and its GPUs.
        folder: A folder that every node must see under this path.
        log_of: As in `run_all`.
        changed: Called whenever a task ended; Ray does not say which are running.
        died: As in `run_all`.

    Raises:
        ImportError: If Ray is not installed.
        ConnectionError: If there is no such cluster.
        KeyboardInterrupt: As it comes, once the tasks have ended.
    """
    try:
        import ray
    except ImportError:
        raise ImportError('cluster needs Ray: pip install "mwam-det[cluster]"') from None

    if not ray.is_initialized():
        ray.init(address=address, log_to_driver=False)
    cpus, gpus = _shares(ray.nodes(), jobs)
    remote: Any = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES, max_calls=1)(_work_on_node)
    device = "0" if gpus else None  # Ray shows a task the GPUs that it has, counted from 0
    waiting = {remote.remote(work, Place(task, device, log_of(task), int(cpus)), folder): task for task in tasks}
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
            ray.cancel(reference)  # as Ctrl-C would, so that it saves what it has
        if waiting:
            ray.wait([*waiting], num_returns=len(waiting), timeout=PATIENCE)
        ray.shutdown()


def _shares(nodes: Sequence[Mapping[str, Any]], jobs: int) -> tuple[int, float]:
    """Return how many CPUs and GPUs a task gets where `jobs` of them share the smallest node.

    Args:
        nodes: As `ray.nodes` lists them; those that died or have no CPUs to give do not count.
        jobs: How many tasks a node has at a time.

    Raises:
        ConnectionError: If no node has a CPU to give.
    """
    own = [node["Resources"] for node in nodes if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
    if not own:
        raise ConnectionError("no node of the cluster has a CPU to give: start them with --num-cpus")
    cpus = max(1, int(min(node["CPU"] for node in own) - 1) // jobs)
    return cpus, min(node.get("GPU", 0) for node in own) / jobs


def _work_on_node(work: Callable[[Place[Task]], None], place: Place[Task], folder: Path) -> None:
    """Do a task, in a process of a node."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f"the node {platform.node()} does not see {folder}: a cluster needs a folder that its nodes share, see "
            "train.project"
        )
    with printing_to(place.log):
        work(place)
