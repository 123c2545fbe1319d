"""Which stock models become two-stream models, and what the second stream costs.

    python benchmarks/families.py [--small] [--tasks obb pose] [--imgsz 640] [--fusion concat] [--share-backbone]

For every model that the installed Ultralytics describes, at its smallest scale: can it be built for RGB and infrared,
does a training step (loss, backward, SGD) move parameters of both streams, does Ultralytics export it to TorchScript
with the same output; its parameters and GFLOPs beside those of the stock single-stream model. Refused models are listed
below with the reason. With --small, one model per family; with --tasks, only some tasks.
"""

from __future__ import annotations

import tempfile
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import ultralytics
from machine import argument_parser, show
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional
from ultralytics import YOLO
from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import yaml_model_load
from ultralytics.utils import LOGGER
from ultralytics.utils.torch_utils import get_flops

from mwam_det.models.two_stream import (
    FUSIONS,
    MODEL_CLASSES,
    TASK_OF_MODEL,
    build_two_stream,
    streams_of,
    task_of,
    two_stream_cfg,
)

SIDE = 64
"""Side of the images of the training step and the export, in pixels."""

TOLERANCE = 1e-3
"""Maximum difference of the exported model, relative to the largest value of the output."""


def descriptions() -> dict[str, dict[str, Any]]:
    """Return the models of the installed version by name, at their smallest scales."""
    found = {}
    for file in sorted((Path(ultralytics.__file__).parent / "cfg" / "models").rglob("*.yaml")):
        cfg = yaml_model_load(file)
        scale = next(iter(cfg.get("scales", {})), "")
        found[f"{file.stem}{f' ({scale})' if scale else ''}"] = {**cfg, "scale": scale, "yaml_file": file.name}
    return found


def makes_a_step(model: nn.Module) -> bool:
    """Train a model for one step; return whether the loss is finite and both streams have moved."""
    model.args, model.nc = get_cfg(), 2
    before = {name: [p.detach().clone() for p in stream.parameters()] for name, stream in streams_of(model).items()}
    loss = model.train()({"img": torch.rand(2, 6, SIDE, SIDE), **labels(task_of(model.yaml))})[0].sum()
    loss.backward()
    torch.optim.SGD(model.parameters(), 0.01).step()
    moved = all(
        any(not torch.equal(p, old) for p, old in zip(stream.parameters(), before[name], strict=True))
        for name, stream in streams_of(model).items()
    )
    return bool(loss.isfinite()) and moved


def labels(task: str) -> dict[str, Tensor]:
    """Return Ultralytics' labels for a task, with one object in each of two images."""
    boxes, masks = torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.4, 0.6, 0.3, 0.5]]), torch.zeros(2, SIDE // 4, SIDE // 4)
    masks[:, SIDE // 16 : SIDE // 8, SIDE // 16 : SIDE // 8] = 1
    return {
        "batch_idx": torch.tensor([0.0, 1.0]),
        "cls": torch.tensor([0, 1]) if task == "classify" else torch.tensor([[0.0], [1.0]]),
        "bboxes": torch.cat([boxes, torch.tensor([[0.3], [0.6]])], 1) if task == "obb" else boxes,
        "masks": masks,
        "sem_masks": masks,
        "keypoints": torch.cat([torch.rand(2, 17, 2), torch.full((2, 17, 1), 2.0)], 2),
        "semantic_mask": torch.randint(0, 2, (2, SIDE, SIDE)),
    }


@torch.no_grad()
def exports(model: nn.Module, folder: Path) -> bool:
    """Export a model to TorchScript; return whether the outputs agree.

    The values of detections are compared in ascending order: heads without NMS sort detections by score, and the scores
    of an untrained model are so close that rounding changes the order.
    """
    checkpoint = folder / "model.pt"
    torch.save({"model": deepcopy(model), "train_args": {}}, checkpoint)
    file = YOLO(checkpoint).export(format="torchscript", imgsz=SIDE, device="cpu", verbose=False)
    images = torch.rand(1, 6, SIDE, SIDE)
    outputs = [first_map(model.eval()(images)), first_map(torch.jit.load(file)(images))]
    if task_of(model.yaml) == "semantic":  # exported files scale the scores of classes up to the image
        outputs[0] = functional.interpolate(outputs[0], (SIDE, SIDE), mode="bilinear")
    expected, found = (output.sort(dim=output.shape.index(max(output.shape))).values for output in outputs)
    return bool((expected - found).abs().max() <= TOLERANCE * expected.abs().max())


def first_map(output: Any) -> Tensor:
    """Return the first map in the output of a model."""
    return output if isinstance(output, Tensor) else first_map(output[0])


def tried(check: Any, *arguments: Any) -> str:
    """Return "yes" or "no", or the error's type and first line."""
    try:
        return "yes" if check(*arguments) else "no"
    except Exception as error:  # shown in the table
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"


def cost(model: nn.Module, imgsz: int) -> tuple[float, float]:
    """Return millions of parameters and GFLOPs."""
    return sum(p.numel() for p in model.parameters()) / 1e6, get_flops(model, imgsz)


def main() -> None:
    """Build, train, export, measure and print."""
    parser = argument_parser(__doc__, imgsz=640)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--tasks", nargs="+", choices=dict.fromkeys(TASK_OF_MODEL.values()), metavar="TASK")
    parser.add_argument("--fusion", choices=FUSIONS, default="concat")
    parser.add_argument("--share-backbone", action="store_true")
    args = parser.parse_args()
    LOGGER.setLevel("ERROR")
    torch.manual_seed(0)
    table = Table(
        "model", "built", "a step", "exported", "M parameters", "single", "ratio", "GFLOPs", "single", "ratio"
    )
    refused, shown = {}, set()
    for name, cfg in descriptions().items():
        family = name[:6]
        head = cfg["head"][-1][2]
        other = args.tasks and (head not in MODEL_CLASSES or task_of(cfg) not in args.tasks)
        if (args.small and family in shown) or other:
            continue
        try:
            two = two_stream_cfg(cfg, {"rgb": 3, "ir": 3}, args.fusion, args.share_backbone)
        except ValueError as error:
            refused[name] = str(error)
            continue
        shown.add(family)
        single, model = MODEL_CLASSES[head](deepcopy(cfg), nc=2, verbose=False), build_two_stream(two, nc=2)
        (parameters, flops), (of_single, flops_of_single) = cost(model, args.imgsz), cost(single, args.imgsz)
        del single
        with tempfile.TemporaryDirectory() as folder:
            exported = tried(exports, model.eval(), Path(folder))
        step = tried(makes_a_step, model)
        table.add_row(
            *(name, "yes", step, exported),
            *(f"{parameters:.2f}", f"{of_single:.2f}", f"{parameters / of_single:.2f}"),
            *(f"{flops:.1f}", f"{flops_of_single:.1f}", f"{flops / flops_of_single:.2f}"),
        )
    shared = ", one backbone for both" if args.share_backbone else ""
    title = f"fusion={args.fusion}{shared}, 2 classes, GFLOPs at {args.imgsz} px by Ultralytics' get_flops"
    show(title, table, *(f"refused: {name}: {reason}." for name, reason in refused.items()), width=140)


if __name__ == "__main__":
    main()
