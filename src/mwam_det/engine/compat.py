"""Workarounds for the behaviour of stock Ultralytics, each with its reason."""

from __future__ import annotations

import atexit
import logging
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from ultralytics import __version__
from ultralytics.utils import LOGGER, remove_colorstr, torch_utils
from ultralytics.utils.torch_utils import autocast

from mwam_det.models.stock import StockModel

TESTED = (8, 4)
"""The newest tested series of Ultralytics. Its internals, which this package relies on, change between series; changes
within one are detected by tests/contract."""


CHATTER = (
    r"engine/trainer: ",  # every argument, in one line of 3,000 characters: args.yaml in the run folder holds them
    r"Overriding model\.yaml nc=",  # the dataset's classes always take precedence
    r"Freezing layer 'model\.(0\.conv|\d+\.dfl)\.",  # always frozen; layers frozen by the user are still logged
    r"Optimizer stripped from ",  # names a folder that no longer exists
)
"""Beginnings of uninformative lines that Ultralytics logs in every training, as regular expressions."""


@contextmanager
def without_chatter() -> Iterator[None]:
    """Drop the lines of `CHATTER` from Ultralytics' log. Warnings and errors are always shown."""
    pattern = re.compile("|".join(CHATTER))

    def keep(record: logging.LogRecord) -> bool:
        return record.levelno > logging.INFO or not pattern.match(remove_colorstr(str(record.msg)))

    LOGGER.addFilter(keep)
    try:
        yield
    finally:
        LOGGER.removeFilter(keep)


@lru_cache(maxsize=1)
def warn_of_untested_release() -> None:
    """Warn, once per process, if Ultralytics is from a newer series than `TESTED`."""
    series = tuple(int(part) for part in __version__.split(".")[:2])
    if series > TESTED:
        tested = ".".join(map(str, TESTED))
        LOGGER.warning(
            f"mwam_det is tested with Ultralytics {tested}, not with {__version__}: if something fails that should "
            f'not, pip install "ultralytics=={tested}.*", or look for a newer mwam_det'
        )


@contextmanager
def _changed(holder: Any, **values: Any) -> Iterator[None]:
    """Change attributes temporarily."""
    before = {name: getattr(holder, name) for name in values}
    vars(holder).update(values)
    try:
        yield
    finally:
        vars(holder).update(before)


def compute_with_at_most(threads: int) -> None:
    """Limit the CPU threads that Ultralytics sets whenever it selects a device, for the lifetime of the process."""
    torch_utils.NUM_THREADS = min(threads, torch_utils.NUM_THREADS)


def without_precision_check(args: Any):
    """Let Ultralytics set up a training in float32, so that it does not download a model to test mixed precision.

    Args:
        args: The arguments of the training.
    """
    return _changed(args, amp=False)


def without_gpu_names(trainer: Any):
    """Let Ultralytics set up a training of several processes on the CPU without naming a GPU for each of them.

    Args:
        trainer: The trainer; its world size is 0 meanwhile.
    """
    return _changed(trainer, world_size=0)


def without_task(args: Any):
    """Let Ultralytics look for a dataset's file: for the task "classify" it expects one folder per split.

    Args:
        args: The arguments of the validation; its loader may set the task earlier.
    """
    return _changed(args, task=None)


@lru_cache(maxsize=1)
def use_bundled_font() -> None:
    """Let Ultralytics find "Arial.ttf" on this machine, so that it does not download it to draw a label.

    It searches matplotlib's list of fonts before it downloads. A copy of DejaVu Sans, which matplotlib ships, is
    appended to that list under this name, after any real Arial. Non-ASCII class names need another file and are left to
    Ultralytics, as DejaVu cannot draw most of them.
    """
    from matplotlib import font_manager, get_data_path

    shipped = Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    folder = tempfile.mkdtemp(prefix="mwam_det_font_")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    font_manager.fontManager.addfont(shutil.copy(shipped, Path(folder) / "Arial.ttf"))


@torch.no_grad()
def half_precision_works(model: StockModel, channels: int) -> bool:
    """Return whether mixed precision approximates the float32 outputs of a model on its device.

    Ultralytics checks this with a single-stream model that it downloads, and falls back to float32 on GPUs that give
    NaN. This check uses the given model, without a download. It compares what reaches the head: some heads put out
    objects in the order of their scores, where the smallest difference exchanges two of them.

    Args:
        model: The detector, on the device in question. Its mode and statistics are unchanged.
        channels: Channels of the stacked image.

    Returns:
        False if an output is NaN or Inf, or what reaches the head is far off.
    """
    device = next(model.parameters()).device
    images = torch.rand(2, channels, 256, 256, generator=torch.Generator().manual_seed(0)).to(device)
    training, seen = model.training, []
    hook = model.model[-1].register_forward_pre_hook(lambda _, inputs: seen.append([*_tensors(inputs)]))
    model.eval()
    try:
        model(images)
        with autocast(torch.float16, device=device.type):
            outputs = [*_tensors(model(images))]
    finally:
        hook.remove()
        model.train(training)
    least = torch.finfo(torch.float16).tiny  # what reaches the head of an untrained model is even smaller
    near = all((e - r.float()).abs().max() < 0.1 * e.abs().max() + least for e, r in zip(*seen, strict=True))
    return near and all(bool(output.isfinite().all()) for output in outputs)


def _tensors(nested: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested lists, tuples and dictionaries."""
    if isinstance(nested, Tensor):
        yield nested
    elif isinstance(nested, Mapping | list | tuple):
        for each in nested.values() if isinstance(nested, Mapping) else nested:
            yield from _tensors(each)


def spread_on_cpu(model: nn.Module, compiled: bool) -> DistributedDataParallel:
    """Wrap a model on the CPU so that its gradients are averaged over all processes.

    Ultralytics does this only for GPUs: it names a device, which torch refuses for a model on the CPU. The options are
    the same; each process keeps its own normalisation statistics.

    Args:
        model: The model, on the CPU.
        compiled: Whether it is compiled.
    """
    known = signature(DistributedDataParallel).parameters
    sync = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    options: dict[str, Any] = {"find_unused_parameters": not compiled, "static_graph": compiled, sync: False}
    return DistributedDataParallel(model, **options)
