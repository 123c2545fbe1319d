"""What does the loader of pairs cost compared with decoding the files, and with Ultralytics' loader of single images?

    python benchmarks/loader.py [--size 512 640] [--imgsz 640] [--pairs 24] [--batch 8] [--rounds 9] [--quality 90]
    python benchmarks/loader.py --from VISIBLE INFRARED [--grey]        # real pairs of two folders, which are copied

Times the loader of training and validation, by Ultralytics' `build_dataloader`, over all pairs in this process (a
worker would read ahead between the rounds): from files, from disk cache and from RAM cache without augmentation, and
from RAM with Ultralytics' default augmentation (mosaic, warp, HSV, flip). For comparison, it times decoding both files
in full and resizing them to the training size; and Ultralytics' own `YOLODataset` of the first modality, with the same
images and settings, but without a disk cache, which would write beside them. All are timed in turn, so that each ratio
is of neighbours in time. After the first round, files are in the system's file cache.
"""

from __future__ import annotations

import argparse
import io
import shutil
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from machine import Spread, argument_parser, show, time_in_turn
from material import pictures
from rich.table import Table
from ultralytics.cfg import get_cfg
from ultralytics.data.build import build_dataloader
from ultralytics.data.dataset import YOLODataset
from ultralytics.utils import LOGGER

from mwam_det.data import dataset
from mwam_det.data.build import build_paired_dataset
from mwam_det.data.section import resolve_dataset

FOLDERS = {"rgb": "images", "ir": "infrared"}  # "images" and "labels" are where Ultralytics' own dataset looks
LABELS = "".join(f"0 {0.1 + 0.09 * i:.2f} {0.9 - 0.08 * i:.2f} 0.1 0.12\n" for i in range(10))
STOCK = "one modality, Ultralytics"
SETTINGS = (  # suffix of the name, cache, whether to augment, whether to compare with Ultralytics
    (", files", False, False, True),
    (", disk cache", "disk", False, False),
    (", RAM cache", "ram", False, True),
    (", RAM cache, augmented", "ram", True, True),
)
BARE = "decode and resize both files"


def write_pairs(root: Path, count: int, size: tuple[int, int], quality: int, source: list[Path] | None) -> None:
    """Write `count` pairs of JPEG with labels, generated or copied from two folders (repeatedly if too few)."""
    for name, folder in FOLDERS.items():
        (root / folder / "train").mkdir(parents=True)
        files = sorted(f for f in source[list(FOLDERS).index(name)].iterdir() if f.is_file()) if source else []
        for i in range(count):
            target = root / folder / "train" / f"{i:04d}"
            if files:
                shutil.copy(files[i % len(files)], target.with_suffix(files[i % len(files)].suffix))
                continue
            picture = pictures((1, 3, *size), seed=2 * i + (name == "ir"))[0].permute(1, 2, 0).numpy()
            cv2.imwrite(f"{target}.jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    (root / "labels/train").mkdir(parents=True)
    for i in range(count):
        (root / "labels/train" / f"{i:04d}.txt").write_text(LABELS)


def bare(data: dict[str, Any], imgsz: int) -> Callable[[], object]:
    """Return a function that decodes both files of every pair and resizes them to the training size."""
    folders = (Path(data["splits"]["train"][name]) for name in FOLDERS)
    files = [str(file) for folder in folders for file in sorted(folder.iterdir())]

    def run() -> None:
        for file in files:
            image = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_COLOR)
            ratio = imgsz / max(image.shape[:2])
            if ratio != 1:
                cv2.resize(image, None, fx=ratio, fy=ratio, interpolation=cv2.INTER_LINEAR)

    return run


def loader(data: dict[str, Any], args: argparse.Namespace, cache: str | bool, augment: bool, single: bool):
    """Return a function that iterates once over all batches of a loader."""
    hyp = get_cfg(overrides={"imgsz": args.imgsz, "cache": cache, "deterministic": False})
    if single:
        built = YOLODataset(
            img_path=data["train"], imgsz=args.imgsz, batch_size=args.batch, augment=augment, hyp=hyp, cache=cache,
            data={"names": data["names"], "channels": 3},
        )  # fmt: skip
    else:
        mode = "train" if augment else "val"
        built = build_paired_dataset(hyp, data["train"], args.batch, data, mode, rect=False, stride=32)
    batches = build_dataloader(built, args.batch, workers=0, shuffle=False)

    def run() -> None:
        for _ in batches:
            pass

    return run


def main() -> None:
    """Measure and print."""
    parser = argument_parser(__doc__, imgsz=640, pairs=24, batch=8, rounds=9, quality=90)
    parser.add_argument("--size", type=int, nargs=2, default=(512, 640), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--from", dest="source", type=Path, nargs=2, metavar=("VISIBLE", "INFRARED"))
    parser.add_argument("--grey", action="store_true", help="read infrared as one channel")
    args = parser.parse_args()
    LOGGER.setLevel("ERROR")
    torch.set_num_threads(1)  # as in a worker process
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        dataset.SCANS = root / "scans"  # leave nothing in the user's cache
        write_pairs(root, args.pairs, tuple(args.size), args.quality, args.source)
        section = {
            "path": str(root), "modalities": FOLDERS, "labels": "labels", "train": "train", "val": "train",
            "names": ["thing"], "channels": {"ir": 1} if args.grey else None,
        }  # fmt: skip
        data = resolve_dataset(section).as_dict()
        first = cv2.imread(str(next((root / "images/train").iterdir())))
        sizes = [np.mean([f.stat().st_size for f in (root / f / "train").iterdir()]) / 1024 for f in FOLDERS.values()]
        ways = {BARE: bare(data, args.imgsz)}
        with redirect_stdout(io.StringIO()):  # progress bars
            for how, cache, augment, compare in SETTINGS:
                for name in ("pairs", STOCK) if compare else ("pairs",):
                    ways[f"{name}{how}"] = loader(data, args, cache, augment, single=name == STOCK)
        times = time_in_turn(ways, args.rounds, warmup=2)
    table = Table("loader", "ms per pair, median (IQR)", "/ decode and resize", "/ Ultralytics, likewise")
    for name, spread in times.items():
        likewise = times.get(name.replace("pairs", STOCK)) if name.startswith("pairs") else None
        per_pair = Spread(tuple(ms / args.pairs for ms in spread.values))
        ratio = f"{spread.over(likewise):.2f}" if likewise else ""
        table.add_row(name, f"{per_pair:.2f}", f"{spread.over(times[BARE]):.2f}", ratio)
    height, width = first.shape[:2]
    show(
        f"{args.pairs} pairs of {width}×{height}, {' + '.join(f'{size:.0f} KB' for size in sizes)} per file, at "
        f"{args.imgsz}, batch {args.batch}, {args.rounds} rounds in turn",
        table,
    )


if __name__ == "__main__":
    main()
