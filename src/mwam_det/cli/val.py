"""`mwam-det val`."""

from __future__ import annotations

import argparse
from typing import Any

from mwam_det.cli.checks import check_order, check_weights, command_arguments
from mwam_det.cli.parser import OVERRIDES_HELP, add_command, add_overrides, add_weights, split_words
from mwam_det.experiments import load
from mwam_det.files.runs import runs_folder
from mwam_det.recipe import HOST_TASKS, RecipeError

KEYS = (
    "missing", "split", "imgsz", "batch", "device", "workers", "conf", "iou", "max_det", "classes", "agnostic_nms",
    "rect", "plots", "save_json", "save_txt", "project", "name", "exist_ok",
)  # fmt: skip
"""The command's keys, Ultralytics' and ours."""

EXAMPLES = (
    "mwam-det val runs/demo/weights/best.pt cfg/demo.yaml",
    "mwam-det val runs/demo/weights/best.pt cfg/demo.yaml missing=ir split=val imgsz=320",
)


def add(commands: Any) -> None:
    """Add the command."""
    text = "validate weights with all modalities, or with some missing"
    command = add_command(commands, "val", run, text, EXAMPLES)
    add_weights(command)
    command.add_argument("recipe", help="YAML file whose data section is validated on")
    add_overrides(command, f"missing=ir, split=test, imgsz=320, … of {', '.join(KEYS)}, or {OVERRIDES_HELP}", KEYS)


def run(options: argparse.Namespace) -> int:
    """Validate; Ultralytics prints the metrics."""
    check_order("val", options.weights, options.recipe)
    own_words, overrides = split_words(options.overrides, KEYS)
    experiment: Any = load(options.recipe, overrides)
    recipe = experiment.recipe
    arguments = command_arguments(own_words, KEYS)
    if recipe.task in HOST_TASKS:
        raise RecipeError(f"val is for models of Ultralytics, not for task={recipe.task}: use `mwam-det robustness`")
    check_weights(options.weights)
    from mwam_det.data.paired_data import check_split
    from mwam_det.engine.experiment import check_device, damage_in_words, load_model

    check_device(arguments.get("device"), "device")
    check_split(experiment.dataset, arguments.get("split", "val"))
    arguments = {"name": f"{recipe.name}-val", **arguments, "project": str(runs_folder(arguments.get("project")))}
    try:
        with damage_in_words():
            load_model(options.weights).val(data=recipe.data, **arguments)
    except ValueError as error:  # an unknown modality, or all are missing
        raise RecipeError(str(error)) from None
    return 0
