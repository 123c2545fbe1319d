"""How much faster is a grid of trainings with several processes (`compare … jobs=N`)?

    python benchmarks/jobs.py [--jobs 2] [--rounds 2] [--epochs 8]

Trains a grid of two arms and two seeds on a generated dataset with `jobs=1` and with `--jobs`, in turn, each in a fresh
folder, and prints the ratio of their times in each round and whether all figures of the two grids are the same. On two
cores, Ultralytics gives a training one thread either way, so two trainings can use what one leaves idle.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml
from machine import argument_parser, machine
from material import demo_data

ARMS, SEEDS = "baseline,mwam", 2


def main() -> None:
    """Time the two ways and print them."""
    parser = argument_parser(__doc__, jobs=2, rounds=2, epochs=8, imgsz=160)
    options = parser.parse_args()
    seconds: dict[int, list[float]] = {1: [], options.jobs: []}
    scores: dict[int, list[object]] = {1: [], options.jobs: []}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        train = {"epochs": options.epochs, "imgsz": options.imgsz, "batch": 8, "plots": False, "project": str(root)}
        data = demo_data(root, train=96, val=16, size=(options.imgsz, options.imgsz))
        recipe = root / "recipe.yaml"
        recipe.write_text(yaml.safe_dump({"task": "detect", "model": "yolov8n.yaml", "data": data, "train": train}))
        for round_ in range(options.rounds):
            for jobs in (1, options.jobs):
                name = f"jobs{jobs}-{round_}"
                start = time.perf_counter()
                _compare(recipe, name, jobs)
                seconds[jobs].append(time.perf_counter() - start)
                scores[jobs].append(_scores(root / f"{name}-compare"))
                print(f"jobs={jobs}: {seconds[jobs][-1]:.0f} s", flush=True)
    ratios = [alone / together for alone, together in zip(seconds[1], seconds[options.jobs], strict=True)]
    print(f"\none after the other / {options.jobs} at a time: {', '.join(f'{ratio:.2f}' for ratio in ratios)}")
    print(f"every figure the same: {scores[1] == scores[options.jobs]}")
    print(machine())


def _compare(recipe: Path, name: str, jobs: int) -> None:
    """Run the grid in its own process."""
    command = [sys.executable, "-m", "mwam_det", "compare", str(recipe), "--arms", ARMS, "--seeds", str(SEEDS)]
    done = subprocess.run([*command, f"train.name={name}", f"jobs={jobs}"], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"The grid with jobs={jobs} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")


def _scores(folder: Path) -> dict[str, object]:
    """Return the scores of every cell of a grid, by its name."""
    reports = sorted(folder.glob("*/seed*/robustness.json"))
    return {str(path.relative_to(folder)): json.loads(path.read_text())["combinations"] for path in reports}


if __name__ == "__main__":
    main()
