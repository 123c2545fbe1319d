"""How much does each severity of a degradation change an image, and how much of it saturates?

    python benchmarks/severities.py FOLDER --sensor thermal [--images 40]

FOLDER holds images of one modality, at any depth. Prints for every degradation that suits the sensor: the peak
signal-to-noise ratio of the degraded image in dB, and the share of pixels at the upper end of the range in per cent,
both as the median over the images; above the table, the share without degradation. The cost for a detector is measured
by `mwam-det robustness WEIGHTS RECIPE degradations=true`.
"""

from __future__ import annotations

import statistics
from pathlib import Path

import torch
from machine import argument_parser, show
from rich.table import Table
from torch import Tensor

from mwam_det.data.inspection.sampling import evenly
from mwam_det.data.modality import Modality
from mwam_det.data.pairing import list_images
from mwam_det.data.reading import read_image
from mwam_det.robustness.degradation import DEGRADATIONS, SEVERITIES, SUITS, degradations_for, degrade

FULL = 254 / 255
"""Pixels of 8 bits are saturated from this value: JPEG shifts the end of the range by a level."""


def psnr(images: Tensor, others: Tensor) -> float:
    """Return the peak signal-to-noise ratio of two images in [0, 1], in dB."""
    return -10 * (images - others).square().mean().clamp(min=1e-10).log10().item()


def saturated(images: Tensor) -> float:
    """Return the share of pixels at the upper end of the range, in per cent."""
    return 100 * (images.mean(1) >= FULL).float().mean().item()


def main() -> None:
    """Measure and print."""
    parser = argument_parser(__doc__, images=40)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sensor", choices=SUITS, default="thermal")
    args = parser.parse_args()
    files = list_images(args.folder)
    pixels = [read_image(files[i], Modality("image")) for i in evenly(len(files), args.images)]
    images = [torch.from_numpy(image).permute(2, 0, 1)[None] / 255 for image in pixels]
    table = Table("degradation", "level", "", *(f"severity {severity}" for severity in SEVERITIES))
    for name in degradations_for(args.sensor):
        ratios, shares = [], []
        for severity in SEVERITIES:
            found = []
            for number, image in enumerate(images):
                other = images[number - 1] if DEGRADATIONS[name].needs == "other" else None
                if other is not None and other.shape != image.shape:
                    continue
                left = degrade(image, name, severity, keys=[number], other=other)
                found.append((psnr(image, left), saturated(left)))
            ratios.append(f"{statistics.median(ratio for ratio, _ in found):.1f}")
            shares.append(f"{statistics.median(share for _, share in found):.2f}")
        table.add_row(name, DEGRADATIONS[name].parameter, "PSNR, dB", *ratios)
        table.add_row("", ", ".join(f"{level:g}" for level in DEGRADATIONS[name].levels), "saturated, %", *shares)
    before = statistics.median(map(saturated, images))
    show(f"{len(images)} images of {args.folder}, {before:.2f} % of the pixels saturated", table, width=140)


if __name__ == "__main__":
    main()
