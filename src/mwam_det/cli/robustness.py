"""`mwam-det robustness`."""

from __future__ import annotations

import argparse
from typing import Any

from mwam_det.cli.checks import check_order, check_weights
from mwam_det.cli.next_steps import shown
from mwam_det.cli.parser import OVERRIDES_HELP, add_command, add_overrides, add_weights
from mwam_det.experiments import load
from mwam_det.recipe import REPORT_KEYS

EXAMPLES = (
    "mwam-det robustness runs/demo/weights/best.pt cfg/demo.yaml",
    "mwam-det robustness best.onnx cfg/detect/llvip.yaml split=test degradations=true",
)


def add(commands: Any) -> None:
    """Add the command."""
    text = "evaluate weights with every combination of modalities"
    command = add_command(commands, "robustness", run, text, EXAMPLES)
    add_weights(command)
    command.add_argument("recipe", help="YAML file whose data section is evaluated")
    add_overrides(command, f"split=test, imgsz=320, fill=mean, degradations=true, or {OVERRIDES_HELP}", REPORT_KEYS)
    command.add_argument("--coco", action="store_true", help="measure with pycocotools too, and save its files")


def run(options: argparse.Namespace) -> int:
    """Evaluate, and show the report."""
    check_order("robustness", options.weights, options.recipe)
    overrides = [f"report.{word}" if word.partition("=")[0] in REPORT_KEYS else word for word in options.overrides]
    experiment = load(options.recipe, overrides + ["report.coco=true"] * options.coco)
    check_weights(options.weights)
    report, folder = experiment.evaluate(options.weights)
    report.show()
    print(f"Report: {shown(folder / 'report.html')}")
    return 0
