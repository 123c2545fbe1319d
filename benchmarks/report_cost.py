"""How much longer does the report of every combination of modalities take on an exported file than on its .pt?

    python benchmarks/report_cost.py [--weights best.pt] [--imgsz 320] [--rounds 5]

Runs `MultimodalYOLO.robustness` in turn on a checkpoint and on its exports to ONNX Runtime and TorchScript, on the
dataset that it was trained on. Without a checkpoint, a two-stream YOLOv8n is trained for one epoch on generated pairs,
so that images and model dominate the time rather than metrics. ONNX Runtime uses every core; PyTorch, one less, as set
by Ultralytics.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from machine import argument_parser, show, time_in_turn
from material import demo_data
from rich.table import Table
from ultralytics.utils import LOGGER

from mwam_det import MultimodalYOLO


def checkpoint_on_generated_pairs(folder: Path, images: int, imgsz: int) -> str:
    """Train an epoch and return the checkpoint."""
    data = demo_data(folder, val=images, size=(imgsz * 4 // 5, imgsz))
    model = MultimodalYOLO("yolov8n.yaml")
    arguments = {"epochs": 1, "imgsz": 64, "device": "cpu", "workers": 0, "plots": False, "project": str(folder)}
    model.train(data=data, robustness=False, **arguments)
    return str(model.trainer.last)


def main() -> None:
    """Measure and print."""
    parser = argument_parser(__doc__, imgsz=320, rounds=5)
    parser.add_argument("--weights", help="a checkpoint whose dataset is at hand")
    parser.add_argument("--images", type=int, default=64, help="generated pairs, without --weights")
    args = parser.parse_args()
    LOGGER.setLevel("ERROR")
    with tempfile.TemporaryDirectory() as folder:
        # a copy, so that no exported files are written beside the user's weights
        weights = args.weights and shutil.copy(args.weights, folder)
        weights = weights or checkpoint_on_generated_pairs(Path(folder), args.images, args.imgsz)
        files = {".pt": weights}
        for name, format_ in {"ONNX Runtime": "onnx", "TorchScript": "torchscript"}.items():
            if format_ == "torchscript" or find_spec("onnxruntime"):
                files[name] = MultimodalYOLO(weights).export(format=format_, imgsz=args.imgsz, dynamic=True)

        data = MultimodalYOLO(weights).ckpt["train_args"]["data"]
        arguments = {"imgsz": args.imgsz, "workers": 0, "device": "cpu", "plots": False, "project": folder}

        def report(file: str) -> Callable[[], object]:
            return lambda: MultimodalYOLO(file).robustness(data, **arguments)

        times = time_in_turn({name: report(file) for name, file in files.items()}, args.rounds)
    table = Table("", *files, title="seconds of a report: median (quartiles); ratio to the .pt")
    table.add_row("seconds", *(f"{value.median / 1e3:.1f}" for value in times.values()))
    table.add_row("ratio", *(f"{value.over(times['.pt']):.2f}" for value in times.values()))
    show(table, width=80)


if __name__ == "__main__":
    main()
