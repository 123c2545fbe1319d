"""Does MWAM cost anything at inference?

    python benchmarks/inference_cost.py [--imgsz 640]

Trains two-stream YOLOv8n briefly with and without MWAM, loads both checkpoints, and prints Ultralytics' `model_info` of
them as trained and fused for inference, beside that of stock single-stream YOLOv8n with the same classes. It also
checks that the tensors of the two checkpoints have the same names and shapes.
"""

from __future__ import annotations

import tempfile
from copy import deepcopy
from pathlib import Path

from machine import argument_parser, show
from material import demo_data
from rich.table import Table
from torch import nn
from ultralytics import YOLO
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import LOGGER
from ultralytics.utils.torch_utils import model_info

from mwam_det import MWAMTrainer
from mwam_det.data.synthetic import CLASS_NAMES


def trained(data: dict, folder: Path, mwam: bool) -> nn.Module:
    """Train for one epoch and return the model of the checkpoint."""
    arguments = {"model": "yolov8n.yaml", "data": data, "epochs": 1, "imgsz": 64, "batch": 4, "optimizer": "SGD"}
    quiet = {"device": "cpu", "workers": 0, "plots": False, "verbose": False, "project": str(folder)}
    trainer = MWAMTrainer(overrides={**arguments, **quiet, "mwam": mwam})
    trainer.train()
    return YOLO(trainer.last).model


def main() -> None:
    """Measure and print."""
    parser = argument_parser(__doc__, imgsz=640)
    args = parser.parse_args()
    LOGGER.setLevel("ERROR")
    with tempfile.TemporaryDirectory() as folder:
        data = demo_data(Path(folder))
        models = {
            "single-stream YOLOv8n, stock": DetectionModel("yolov8n.yaml", ch=3, nc=len(CLASS_NAMES), verbose=False),
            "two-stream YOLOv8n, without MWAM": trained(data, Path(folder), mwam=False),
            "two-stream YOLOv8n, with MWAM": trained(data, Path(folder), mwam=True),
        }
    table = Table("model", "layers", "parameters", "GFLOPs", "fused: layers", "parameters", "GFLOPs")
    for name, model in models.items():
        cells = []
        for variant in (deepcopy(model), deepcopy(model).fuse(verbose=False)):
            layers, parameters, _, gflops = model_info(variant, imgsz=args.imgsz)
            cells += [f"{layers}", f"{parameters:,}", f"{gflops:.3f}"]
        table.add_row(name, *cells)
    _, without, with_mwam = ({k: v.shape for k, v in m.state_dict().items()} for m in models.values())
    same = "the same" if without == with_mwam else "NOT the same"
    show(
        f"{args.imgsz} px, {len(CLASS_NAMES)} classes, by Ultralytics' model_info",
        table,
        f"Tensors of the two-stream checkpoints: {len(without)}, {same} names and shapes with and without MWAM.",
    )


if __name__ == "__main__":
    main()
