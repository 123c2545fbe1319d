"""How exact is the frequency ratio metric, and what does it cost?

    python benchmarks/frm_precision.py RGB_FOLDER IR_FOLDER

Reads all pairs of two folders with images of one size, and prints the FRM of each modality in float64 on every patch,
by the package, and by a plain float32 convolution; the share of RGB with and without a letterbox to a square; and the
time of each way for the whole stack, median and interquartile range of 15 runs in turn.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from machine import argument_parser, show, time_in_turn
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F
from ultralytics.utils.patches import imread

from mwam_det import MWAM, MWAMConfig, frequency_ratio_metric
from mwam_det.core.dct import block_dct_corners, corner_basis, split_patches

RUNS = 15


def load(folder: Path) -> Tensor:
    """Return all images of a folder, shape (B, 3, H, W), uint8, RGB."""
    images = [imread(file)[..., ::-1] for file in sorted(folder.iterdir())]
    return torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy())


def float64(images: Tensor) -> float:
    """Eq. 4 with every patch in double precision."""
    corners = torch.einsum("...xy,kxy->...k", split_patches(images, 8).double(), corner_basis(8, 2) / 255)
    low, high = corners.chunk(2, dim=-1)
    return ((low / (high + 1e-6)).abs().sum() / images[:, :, 0, 0].numel()).item()


def float32(images: Tensor) -> float:
    """Eq. 4 by one float32 convolution of pixels in [0, 1]."""
    low, high = block_dct_corners(images.float() / 255, 8, 2)
    return ((low / (high + 1e-6)).abs().sum() / images[:, :, 0, 0].numel()).item()


def package(images: Tensor) -> float:
    """Eq. 4 as the package computes it."""
    return frequency_ratio_metric(images).item()


def share_of_rgb(rgb: Tensor, ir: Tensor, config: MWAMConfig) -> float:
    """Return T of RGB, Eq. 6."""
    mwam = MWAM(["rgb", "ir"], config)
    mwam.observe({"rgb": rgb, "ir": ir})
    return mwam.last.share["rgb"]


def main() -> None:
    """Measure and print."""
    parser = argument_parser(__doc__)
    parser.add_argument("rgb", type=Path)
    parser.add_argument("ir", type=Path)
    folders = parser.parse_args()
    rgb, ir = load(folders.rgb), load(folders.ir)
    ways = {"float64": float64, "package": package, "plain float32": float32}
    times = time_in_turn({name: lambda way=way: (way(rgb), way(ir)) for name, way in ways.items()}, RUNS)
    table = Table("way", "FRM rgb", "FRM ir", "error rgb", "error ir", "ms, median (IQR)", "time / float64")
    exact = float64(rgb), float64(ir)
    for name, way in ways.items():
        values = way(rgb), way(ir)
        errors = [f"{value / true - 1:+.1e}" for value, true in zip(values, exact, strict=True)]
        ratio = f"{times[name].median / times['float64'].median:.2f}"
        table.add_row(name, *(f"{value:.4e}" for value in values), *errors, f"{times[name]:.0f}", ratio)
    border = (rgb.shape[3] - rgb.shape[2]) // 2
    square = [F.pad(images, (0, 0, border, border), value=114) for images in (rgb, ir)]
    show(
        f"{tuple(rgb.shape)} uint8 per modality",
        table,
        f"T of RGB: {share_of_rgb(rgb, ir, MWAMConfig()):.3f} content only,",
        f"          {share_of_rgb(*square, MWAMConfig()):.3f} letterboxed,",
        f"          {share_of_rgb(*square, MWAMConfig(ignore=None)):.3f} letterboxed, padding counted",
        f"FRM of RGB with its padding counted, over without: {package(square[0]) / package(rgb):.0f}",
    )


if __name__ == "__main__":
    main()
