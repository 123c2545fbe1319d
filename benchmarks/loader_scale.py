"""What does a dataset of DroneVehicle's size cost to scan, hold and load, compared with Ultralytics' own dataset?

    python benchmarks/loader_scale.py [--pairs 18000] [--size 512 640] [--rounds 3] [--epoch 512] [--only scan memory …]

The files are hard links to a few generated JPEGs and label files, which are written in seconds. The pairs are compared
with Ultralytics' `YOLODataset` of the RGB folder or, as "two folders", of the RGB folder and then of the infrared one.
All is measured in this process and in turn, so that each ratio is of neighbours in time, as wall time and as processor
time, worker processes included:

- scan: building the dataset without a cache.
- memory: memory of a dataset with a cached scan, by `tracemalloc`, and the size of its pickle, which is sent to a
  spawned worker process.
- first batch: building the dataset and the first augmented batch, with a cached scan.
- epoch: all augmented batches of the first `--epoch` pairs, the start of the workers included.
"""

from __future__ import annotations

import argparse
import gc
import io
import os
import pickle
import random
import shutil
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import cv2
import torch
from machine import Spread, argument_parser, show
from material import pictures
from rich.table import Table
from ultralytics.cfg import get_cfg
from ultralytics.data.build import build_dataloader
from ultralytics.data.dataset import YOLODataset
from ultralytics.utils import LOGGER

from mwam_det.data import dataset
from mwam_det.data.build import build_paired_dataset
from mwam_det.data.section import resolve_dataset

FOLDERS = {"rgb": "images", "ir": "infrared/images"}  # "images" and "labels" are where Ultralytics looks
LABELS = ("labels", "infrared/labels")
PARTS = ("scan", "memory", "first batch", "epoch")
NAMES = {0: "car", 1: "truck", 2: "bus", 3: "van", 4: "freight car"}
DIFFERENT = 16
"""Number of different pictures per modality, and of label files."""
BOXES = 17
"""Mean number of boxes per image, about that of DroneVehicle."""


def write_set(root: Path, count: int, size: tuple[int, int]) -> None:
    """Write `count` pairs with labels, as links to a few files."""
    kinds = [*FOLDERS.values(), *LABELS]
    for folder in kinds:
        (root / "different" / folder).mkdir(parents=True)
        (root / folder / "train").mkdir(parents=True)
    draw = random.Random(0)
    for number in range(DIFFERENT):
        for seed, folder in enumerate(FOLDERS.values()):
            picture = pictures((1, 3, *size), seed=2 * number + seed)[0].permute(1, 2, 0).numpy()
            cv2.imwrite(f"{root}/different/{folder}/{number}.jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])
        boxes = [
            [draw.uniform(0.1, 0.9), draw.uniform(0.1, 0.9), 0.05, 0.07] for _ in range(draw.randint(1, 2 * BOXES))
        ]
        lines = [f"{draw.randrange(len(NAMES))} {' '.join(f'{value:.6f}' for value in box)}\n" for box in boxes]
        for folder in LABELS:
            (root / "different" / folder / f"{number}.txt").write_text("".join(lines))
    for i in range(count):
        for folder in kinds:
            suffix = ".txt" if folder in LABELS else ".jpg"
            os.link(f"{root}/different/{folder}/{i % DIFFERENT}{suffix}", f"{root}/{folder}/train/{i:05d}{suffix}")


class Sets:
    """Builds the datasets of one folder, stock and paired.

    Args:
        root: Folder written by `write_set`.
        imgsz: The training size.
        batch: The batch size.
    """

    def __init__(self, root: Path, imgsz: int, batch: int):
        self.root, self.batch = root, batch
        self.hyp = get_cfg(overrides={"imgsz": imgsz, "deterministic": False})
        dataset.SCANS = root / "scans"  # leave nothing in the user's cache

    def forget(self) -> None:
        """Delete cached scans."""
        shutil.rmtree(dataset.SCANS, ignore_errors=True)
        for folder in LABELS:
            (self.root / folder / "train.cache").unlink(missing_ok=True)

    def pairs(self, fraction: float = 1.0) -> Any:
        """Build the dataset of pairs, starting from the data section."""
        section = {
            "path": str(self.root), "modalities": FOLDERS, "labels": LABELS[0], "train": "train", "val": "train",
            "names": NAMES,
        }  # fmt: skip
        data = resolve_dataset(section).as_dict()
        self.hyp.fraction = fraction
        return build_paired_dataset(self.hyp, data["train"], self.batch, data, "train", rect=False, stride=32)

    def stock(self, folder: str = FOLDERS["rgb"], fraction: float = 1.0) -> Any:
        """Build Ultralytics' dataset of one folder."""
        return YOLODataset(
            img_path=str(self.root / folder / "train"), imgsz=self.hyp.imgsz, batch_size=self.batch, augment=True,
            hyp=self.hyp, data={"names": NAMES, "channels": 3}, fraction=fraction,
        )  # fmt: skip

    def stock_twice(self) -> None:
        """Build Ultralytics' dataset of the RGB folder and of the infrared one."""
        for folder in FOLDERS.values():
            self.stock(folder)

    def load(self, built: Any, workers: int, batches: int | None = None) -> None:
        """Load the first batches of a dataset, or all of them."""
        loader = build_dataloader(built, self.batch, workers=workers, shuffle=True, device="cpu")
        for number, _ in enumerate(loader, 1):
            if number == batches:
                break
        loader.close()


def costs(way: Callable[[], object], before: Callable[[], object] | None) -> tuple[float, float]:
    """Return the wall time and the processor time of a callable in seconds, ended children included."""
    if before:
        before()
    gc.collect()
    start, spent = time.perf_counter(), sum(os.times()[:4])
    way()
    return time.perf_counter() - start, sum(os.times()[:4]) - spent


def costs_in_turn(
    ways: dict[str, Callable[[], object]], rounds: int, before: Callable[[], object] | None = None
) -> dict[str, tuple[Spread, Spread]]:
    """Measure the `costs` of callables in turn, after one warm-up round."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for run in range(rounds + 1):
        for name, way in ways.items():
            cost = costs(way, before)
            if run:
                found[name].append(cost)
    return {name: tuple(map(Spread, zip(*values, strict=True))) for name, values in found.items()}


def memory(build: Callable[[], Any]) -> tuple[float, float]:
    """Return the memory of a dataset and the size of its pickle, in megabytes."""
    build()  # one-time memory of the process does not count
    gc.collect()
    tracemalloc.start()
    built = build()
    gc.collect()
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return held / 1e6, len(pickle.dumps(built)) / 1e6


def add_rows(table: Table, what: str, found: dict[str, tuple[Spread, Spread]]) -> None:
    """Add the measurements of one quantity; the last entry is the reference of the others."""
    *_, reference = found.values()
    for name, (wall, spent) in found.items():
        ratios = () if wall is reference[0] else (f"{wall.over(reference[0]):.2f}", f"{spent.over(reference[1]):.2f}")
        table.add_row(what, name, f"{wall:.2f} s", f"{spent:.2f} s", *ratios)


def measure(sets: Sets, args: argparse.Namespace, table: Table) -> None:
    """Measure the requested quantities, and add them to the table."""
    if "scan" in args.only:
        ways = {"pairs": sets.pairs, "Ultralytics, two folders": sets.stock_twice}
        add_rows(table, "scan", costs_in_turn(ways, args.rounds, sets.forget))
    if "memory" in args.only:
        (held, pickled), stock = memory(sets.pairs), memory(sets.stock)
        table.add_row("memory", "pairs", f"{held:.1f} MB", "", f"{held / stock[0]:.2f}")
        table.add_row("memory", "Ultralytics, one folder", f"{stock[0]:.1f} MB", "")
        table.add_row("pickle", "pairs", f"{pickled:.1f} MB", "", f"{pickled / stock[1]:.2f}")
        table.add_row("pickle", "Ultralytics, one folder", f"{stock[1]:.1f} MB", "")
    if "first batch" in args.only:
        builds = {"pairs": sets.pairs, "Ultralytics, one folder": sets.stock}
        ways = {name: lambda build=build: sets.load(build(), 0, 1) for name, build in builds.items()}
        add_rows(table, "first batch", costs_in_turn(ways, args.rounds))
    if "epoch" in args.only:
        share = min(args.epoch / args.pairs, 1.0)
        built = {"pairs": sets.pairs(share), "Ultralytics, one folder": sets.stock(fraction=share)}
        for workers in (0, 2):
            ways = {name: lambda each=each, workers=workers: sets.load(each, workers) for name, each in built.items()}
            add_rows(table, f"epoch, {workers} workers", costs_in_turn(ways, args.rounds))


def main() -> None:
    """Measure and print."""
    parser = argument_parser(__doc__, pairs=18000, imgsz=640, batch=16, rounds=3, epoch=512)
    parser.add_argument("--size", type=int, nargs=2, default=(512, 640), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    args = parser.parse_args()
    LOGGER.setLevel("ERROR")
    torch.set_num_threads(1)  # as in a worker process
    table = Table("", "of", "median (IQR)", "processors", "/ Ultralytics", "/ Ultralytics, processors")
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):  # progress bars
        write_set(Path(folder), args.pairs, tuple(args.size))
        size = sum(file.stat().st_size for file in Path(folder, "different").rglob("*.jpg")) / 2 / DIFFERENT / 1024
        measure(Sets(Path(folder), args.imgsz, args.batch), args, table)
    show(
        f"{args.pairs} pairs of {args.size[1]}×{args.size[0]}, {size:.0f} KB per file, at {args.imgsz}, batch "
        f"{args.batch}, {args.rounds} rounds in turn; an epoch of {min(args.epoch, args.pairs)} pairs",
        table,
    )


if __name__ == "__main__":
    main()
