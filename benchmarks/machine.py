"""Shared by all benchmarks: their options, a description of the machine, and timing in turn. Nothing to run here."""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version

import torch
from rich.console import Console
from ultralytics.utils.torch_utils import get_cpu_info, get_gpu_info


@dataclass(frozen=True)
class Spread:
    """Repeated measurements of a quantity; formats as "median (lower quartile–upper quartile)".

    Attributes:
        values: The measurements, in the order of the rounds.
    """

    values: tuple[float, ...]

    @property
    def quartiles(self) -> tuple[float, float, float]:
        """Lower quartile, median and upper quartile."""
        low, median, high = statistics.quantiles(self.values, n=4)
        return low, median, high

    @property
    def median(self) -> float:
        """The median."""
        return self.quartiles[1]

    def over(self, other: Spread) -> Spread:
        """Return the ratio to another quantity, round by round."""
        return Spread(tuple(a / b for a, b in zip(self.values, other.values, strict=True)))

    def __format__(self, spec: str) -> str:
        low, median, high = self.quartiles
        return f"{median:{spec}} ({low:{spec}}–{high:{spec}})"


def argument_parser(description: str | None, **integers: int) -> argparse.ArgumentParser:
    """Return a parser with a script's docstring as its help, and integer options with these defaults."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in integers.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    return parser


def show(*results: object, width: int = 120) -> None:
    """Print the machine and the results, in at least `width` columns."""
    console = Console(width=max(width, Console().width))
    for result in (machine(), *results):
        console.print(result)


def machine() -> str:
    """Describe processor, threads, versions and GPU in one line, without a host name.

    Call it last: Ultralytics changes the number of threads when it selects the CPU (to one less than cores).
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = torch.get_num_threads()
    gpu = get_gpu_info(0) if torch.cuda.is_available() else "no GPU"
    return (
        f"{get_cpu_info()} ({platform.machine()}), {cores} cores, {threads} thread{'s'[: threads != 1]}, {gpu}, "
        f"torch {torch.__version__}, Ultralytics {version('ultralytics')}, Python {platform.python_version()}"
    )


def time_in_turn(
    ways: Mapping[str, Callable[[], object]], rounds: int, *, warmup: int = 1, device: str = "cpu"
) -> dict[str, Spread]:
    """Time callables in turn (A B C A B C …), so that a drift of the machine's speed affects all equally.

    Args:
        ways: The callables by name.
        rounds: How often each is timed, at least 2.
        warmup: Untimed rounds before these.
        device: Where they run. On "cuda", time is measured by CUDA events on the current stream.

    Returns:
        Milliseconds of each callable.
    """
    times: dict[str, list[float]] = {name: [] for name in ways}
    for run in range(-warmup, rounds):
        for name, way in ways.items():
            elapsed = _milliseconds_cuda(way) if device.startswith("cuda") else _milliseconds(way)
            if run >= 0:
                times[name].append(elapsed)
    return {name: Spread(tuple(values)) for name, values in times.items()}


def _milliseconds(way: Callable[[], object]) -> float:
    start = time.perf_counter()
    way()
    return (time.perf_counter() - start) * 1e3


def _milliseconds_cuda(way: Callable[[], object]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    way()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)
