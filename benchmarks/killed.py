"""Does a run recover from being killed at critical moments?

    python benchmarks/killed.py [--only PART ...]

At each moment a command in its own process is killed by SIGKILL, on a small generated dataset; then the same command,
or the one that resumes, must finish. Prints for each whether it did, the epochs in the record, which should each appear
once, and leftover files.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import yaml
from machine import argument_parser, show
from material import demo_data
from rich.progress import track
from rich.table import Table

PRELUDE = """
import os, pathlib, sys

def die(*args, **kwargs):
    os.kill(os.getpid(), 9)

def before(owner, name, when=lambda *args: True):
    original = getattr(owner, name)
    def changed(*args, **kwargs):
        if when(*args):
            die()
        return original(*args, **kwargs)
    setattr(owner, name, changed)

def after(owner, name, when=lambda *args: True):
    original = getattr(owner, name)
    def changed(*args, **kwargs):
        result = original(*args, **kwargs)
        if when(*args):
            die()
        return result
    setattr(owner, name, changed)

def half(name, times):
    original, seen = pathlib.Path.write_bytes, []
    def changed(self, data):
        if self.name == name:
            seen.append(1)
            if len(seen) == times:
                with open(self, "wb") as stream:
                    stream.write(bytes(data)[: len(data) // 2])
                die()
        return original(self, data)
    pathlib.Path.write_bytes = changed

def nth(number):
    seen = []
    def when(*args):
        seen.append(1)
        return len(seen) == number
    return when

from mwam_det.cli import main
"""


@dataclass(frozen=True)
class Moment:
    """A moment at which a command is killed.

    Attributes:
        part: The command, a key of `COMMANDS`.
        what: Description of the moment.
        code: Code that kills it there, run before the command.
    """

    part: str
    what: str
    code: str


IMPORTS = """
import cv2
import mwam_det.hosts.experiment as experiment, mwam_det.hosts.loop as loop
import mwam_det.study.files as studies, mwam_det.engine.facade as facade, mwam_det.engine.saving as saving
import mwam_det.engine.trainer as trainer, mwam_det.robustness.files as files

Trainer, Host = trainer.PairTrainer, loop.HostTrainer
second = lambda own, *args: own.epoch == 1
"""

MOMENTS = (
    Moment("train", "in the second epoch", "before(Trainer, 'preprocess_batch', second)"),
    Moment("train", "in its validation", "before(Trainer, 'validate', second)"),
    Moment("train", "between results.csv and last.pt", "before(Trainer, 'save_model', second)"),
    Moment("train", "the first last.pt half written", "half('last.pt', 1)"),
    Moment("train", "a later last.pt half written", "half('last.pt', 2)"),
    Moment("train", "best.pt half written, behind last.pt", "half('best.pt', 2)"),
    Moment("train", "behind the checkpoint", "after(Trainer, 'save_model', second)"),
    Moment("train", "before the final validation", "before(Trainer, 'final_eval')"),
    Moment("train", "last.pt finished, best.pt not", "before(saving, 'strip_whole', nth(2))"),
    Moment("train", "best.pt finished beside its place", "before(os, 'replace', nth(8))"),
    Moment("train", "in the final validation", "after(trainer, 'finish_checkpoints')"),
    Moment("train", "in the curves", "before(Trainer, 'plot_metrics')"),
    Moment("train", "in the validation of the report", "before(facade.MultimodalYOLO, 'robustness')"),
    Moment("train", "in the pictures of the report", "before(files, 'draw_figures')"),
    Moment("train", "between files of the report", "before(os, 'replace', lambda a, b: str(b).endswith('.tex'))"),
    Moment("host", "in the second epoch", "before(Host, '_step', second)"),
    Moment("host", "in its validation", "before(Host, '_validate', lambda own: own.epoch == 2)"),
    Moment("host", "behind best.pt, before last.pt", "before(loop, 'save_whole', nth(4))"),
    Moment("host", "between history.csv and mwam.csv", "after(loop.History, 'append', nth(2))"),
    Moment("host", "in the evaluation", "before(experiment, 'draw_history')"),
    Moment("convert", "while the first marker is written", "before(os, 'replace', nth(1))"),
    Moment("convert", "among the images", "before(os, 'replace', nth(4))"),
    Moment("crops", "among the pictures", "before(cv2, 'imencode', nth(5))"),
    Moment("crops", "before they are put in their place", "before(pathlib.Path, 'rename')"),
    Moment("compare", "in the second epoch of a run", "before(Trainer, 'preprocess_batch', second)"),
    Moment("compare", "between two runs", "before(studies, 'save_comparison')"),
)

SHORT = ["train.epochs=3", "train.device=cpu", "train.batch=4", "train.imgsz=64"]
COMMANDS = {
    "train": (["train", "night.yaml"], ["train", "night.yaml", "train.resume=true"], "runs/night/robustness.json"),
    "host": (["train", "crops.yaml", *SHORT], ["train", "crops.yaml", *SHORT, "train.resume=true"],
             "runs/crops/robustness.json"),
    "convert": (["convert", "coco", "source", "made"],) * 2 + ("made/conversion.json",),
    "crops": (["crops", "night.yaml", "cut", "smallest=2"],) * 2 + ("cut/recipe.yaml",),
    "compare": (["compare", "night.yaml", "--arms", "baseline,views", "--seeds", "1"],) * 2
    + ("runs/night-compare/views/seed0/robustness.json",),
}  # fmt: skip
"""The command, the one that must finish it, and a file that must exist then."""


def prepare(folder: Path) -> None:
    """Write the input of the commands."""
    data = demo_data(folder / "demo", train=8)
    train = {"epochs": 3, "imgsz": 64, "batch": 4, "nbs": 4, "optimizer": "SGD", "workers": 0, "device": "cpu"}
    (folder / "night.yaml").write_text(yaml.safe_dump({"data": data, "train": train}, sort_keys=False))
    for split, count in (("train", 8), ("val", 4)):
        for modality in ("rgb", "ir"):
            for kind in ("a", "b"):
                images = folder / "crops" / split / modality / kind
                images.mkdir(parents=True)
                for number in range(count):
                    pixels = np.random.default_rng(number).integers(0, 255, (32, 32, 3), dtype=np.uint8)
                    cv2.imwrite(str(images / f"{number}.png"), pixels)
    modalities = {name: f"{{split}}/{name}" for name in ("rgb", "ir")}
    section = {"path": str(folder / "crops"), "modalities": modalities, "train": "train", "val": "val"}
    host = {"task": "multimodal-classification", "data": section}
    (folder / "crops.yaml").write_text(yaml.safe_dump(host, sort_keys=False))
    source = folder / "source"
    for name, kind in (("rgb", "visible"), ("ir", "infrared")):
        (source / name).mkdir(parents=True)
        for file in sorted((folder / "demo/set" / kind / "train").iterdir()):
            (source / name / file.name).write_bytes(file.read_bytes())
    names = sorted(file.name for file in (source / "rgb").iterdir())
    (source / "annotations").mkdir()
    for split, files in (("train", names[:6]), ("val", names[6:])):
        content = {
            "images": [{"id": number, "file_name": name} for number, name in enumerate(files)],
            "annotations": [
                {"id": number, "image_id": number, "category_id": 1, "bbox": [4, 4, 30, 30]}
                for number in range(len(files))
            ],
            "categories": [{"id": 1, "name": "car"}],
        }
        (source / "annotations" / f"{split}.json").write_text(json.dumps(content))


def run(folder: Path, words: list[str], code: str = "") -> int:
    """Run a command in its own process and return its exit status."""
    script = "\n".join([PRELUDE, *([IMPORTS, code] if code else []), "sys.exit(main(sys.argv[1:]))"])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "YOLO_AUTOINSTALL": "false", "MPLBACKEND": "Agg"}
    with (folder / "log").open("w") as log:
        return subprocess.run(
            [sys.executable, "-c", script, *words], cwd=folder, env=environment, stdout=log, stderr=log
        ).returncode


def epochs(folder: Path) -> str:
    """Return the epochs in the run's record."""
    for name in ("results.csv", "history.csv"):
        for file in (folder / "runs").rglob(name):
            with file.open(newline="") as stream:
                return " ".join(row["epoch"] for row in csv.DictReader(stream))
    return ""


def main() -> None:
    """Kill, resume and print."""
    parser = argument_parser(__doc__)
    parser.add_argument("--only", nargs="+", choices=sorted(COMMANDS), default=list(COMMANDS), metavar="PART")
    args = parser.parse_args()
    table = Table("command", "killed", "then", "finished", "epochs in the record", "left over")
    failed = 0
    moments = [moment for moment in MOMENTS if moment.part in args.only]
    for moment in track(moments, description="killing"):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            prepare(folder)
            first, second, file = COMMANDS[moment.part]
            killed = run(folder, first, moment.code)
            # before its first checkpoint a training starts again
            again = second if any(folder.rglob("weights/last.pt")) or moment.part not in ("train", "host") else first
            status = run(folder, again)
            finished = status == 0 and killed == -9 and any(folder.glob(file.replace("runs/night/", "runs/night*/")))
            left = sorted({leftover.name for leftover in folder.rglob("*unfinished*")})
            failed += not finished
            how = "resumed" if again is second and second != first else "the same command"
            outcome = "yes" if finished else f"NO ({killed}, {status})"
            table.add_row(moment.part, moment.what, how, outcome, epochs(folder), ", ".join(left))
            if not finished:
                print((folder / "log").read_text()[-1500:])
    show(table, width=140)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
