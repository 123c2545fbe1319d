"""What does the metric cost compared with reading its input, and with a full DCT?

    pip install torch-dct
    python benchmarks/metric_cost.py [--batch 16] [--imgsz 640] [--rounds 15] [--device cuda]

Two modalities of generated images, as uint8 and as float32 in [0, 1]: `frequency_ratio_metric` on both, `MWAM.observe`
on both, the sum of both (each pixel is read once), and the same metric by torch-dct's transform of every 8×8 patch in
float32. On a GPU, time is measured by CUDA events, and "read" reduces the bytes as 4-byte integers for any dtype.

Peak extra memory is the increase of PyTorch's allocated memory during a call, over the bytes of both inputs: on a CPU
from the allocations that torch.profiler records, on a GPU from torch.cuda.max_memory_allocated.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from machine import argument_parser, show, time_in_turn
from material import pictures
from rich.table import Table
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from mwam_det import MWAM, frequency_ratio_metric
from mwam_det.core.dct import pixel_scale, split_patches

try:
    import torch_dct
except ImportError:
    raise SystemExit("this benchmark compares with torch-dct: pip install torch-dct") from None


def by_torch_dct(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Eq. 4 from all coefficients of all patches."""
    patches = split_patches(images, 8).to(dtype) * pixel_scale(images)
    spectrum = torch_dct.dct_2d(patches, norm="ortho")
    low, high = spectrum[..., :2, :2], spectrum[..., -2:, -2:].flip(-2, -1)
    return (low / (high + 1e-6)).abs().sum() / (images.shape[0] * images.shape[1])


def ways(a: Tensor, b: Tensor) -> dict[str, Callable[[], object]]:
    """Return the callables to time."""
    mwam = MWAM(["rgb", "ir"])
    both = {
        "frequency_ratio_metric": lambda: (frequency_ratio_metric(a), frequency_ratio_metric(b)),
        "MWAM.observe": lambda: mwam.observe({"rgb": a, "ir": b}),
        "torch_dct, float32": lambda: (by_torch_dct(a), by_torch_dct(b)),
        "sum": lambda: (a.sum(), b.sum()),
    }
    if a.is_cuda:
        both["read"] = lambda: (a.view(torch.int32).amax(), b.view(torch.int32).amax())
    return both


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress the output of the profiler's C++ part."""
    screen, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(screen, 2)
        os.close(screen)
        os.close(nowhere)


def peak_bytes(way: Callable[[], object], device: str) -> int:
    """Return the maximum increase of PyTorch's allocated memory during a call, in bytes."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        way()
        return torch.cuda.max_memory_allocated() - before
    with quiet(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        way()
    with tempfile.TemporaryDirectory() as folder:
        profiled.export_chrome_trace(str(file := Path(folder) / "trace.json"))
        events = [e for e in json.loads(file.read_text())["traceEvents"] if e["name"] == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda e: e["ts"]):
        held += event["args"]["Bytes"]
        peak = max(peak, held)
    return peak


def main() -> None:
    """Measure and print."""
    parser = argument_parser(__doc__, batch=16, imgsz=640, rounds=15)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    shape = (args.batch, 3, args.imgsz, args.imgsz)
    batches = [pictures(shape, seed).to(args.device) for seed in (0, 1)]
    for part in (images[:1] for images in batches):  # both ways compute the same
        torch.testing.assert_close(
            by_torch_dct(part, torch.float64).float(), frequency_ratio_metric(part), rtol=1e-5, atol=0
        )

    table = Table("input", "way", "ms, median (IQR)", "/ sum", "/ torch_dct", "peak memory / input")
    for dtype, pair in (("uint8", batches), ("float32", [images.float() / 255 for images in batches])):
        compared = ways(*pair)
        times = time_in_turn(compared, args.rounds, warmup=2, device=args.device)
        size = sum(images.nbytes for images in pair)
        for name, way in compared.items():
            ratios = [f"{times[name].over(times[other]).median:.3g}" for other in ("sum", "torch_dct, float32")]
            table.add_row(dtype, name, f"{times[name]:.1f}", *ratios, f"{peak_bytes(way, args.device) / size:.1%}")
        table.add_section()
    show(f"2 × {shape}, {args.device}, {args.rounds} rounds in turn", table)


if __name__ == "__main__":
    main()
