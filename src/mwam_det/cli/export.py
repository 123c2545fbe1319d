"""`mwam-det export`."""

from __future__ import annotations

import argparse
from typing import Any

from mwam_det.cli.checks import check_weights, command_arguments
from mwam_det.cli.parser import add_command, add_overrides
from mwam_det.recipe import RecipeError

KEYS = (
    "format", "inputs", "imgsz", "batch", "dynamic", "simplify", "opset", "quantize", "workspace", "nms", "conf", "iou",
    "max_det", "agnostic_nms", "device", "data", "split", "fraction", "name",
)  # fmt: skip
"""The command's keys, Ultralytics' and ours."""

EXAMPLES = (
    "mwam-det export runs/demo/weights/best.pt format=onnx inputs=separate",
    "mwam-det export runs/demo/weights/best.pt format=openvino quantize=8 data=cfg/demo.yaml",
)


def add(commands: Any) -> None:
    """Add the command."""
    text = "export weights to a format for deployment, like ONNX or OpenVINO"
    command = add_command(commands, "export", run, text, EXAMPLES)
    command.add_argument("weights", help="checkpoint of a two-stream model, like runs/demo/weights/best.pt")
    add_overrides(
        command,
        "format=onnx, inputs=separate (one input per modality, with its name; ONNX only), imgsz=640, "
        f"dynamic=true, quantize=16, … of {', '.join(KEYS)}",
        KEYS,
        of_recipe=False,
    )


def run(options: argparse.Namespace) -> int:
    """Export, and print the path of the file."""
    arguments, weights = command_arguments(options.overrides, KEYS), options.weights
    check_weights(weights)
    if not weights.endswith(".pt"):
        raise RecipeError(f"weights={weights} is already exported: give the checkpoint, like best.pt")
    from ultralytics.engine.exporter import export_formats

    from mwam_det.engine.experiment import check_device, load_model

    formats = export_formats()["Argument"][1:]
    if "format" in arguments and arguments["format"] not in formats:
        raise RecipeError(f"format={arguments['format']} is unknown: choose from {', '.join(formats)}")
    check_device(arguments.get("device"), "device")
    try:
        file = load_model(weights).export(**arguments)
    except (AssertionError, ValueError) as error:  # the former are Ultralytics' checks of what a format takes
        raise RecipeError(str(error).splitlines()[0].removeprefix("ERROR ❌️ ")) from None
    print(file)
    return 0
