"""`mwam-det predict`."""

from __future__ import annotations

import argparse
from difflib import get_close_matches
from typing import Any

from mwam_det.cli.checks import check_weights, command_arguments
from mwam_det.cli.parser import add_command, add_overrides, add_weights
from mwam_det.files.runs import runs_folder
from mwam_det.recipe import RecipeError

KEYS = (
    "imgsz", "batch", "device", "quantize", "conf", "iou", "max_det", "classes", "agnostic_nms", "nms", "augment",
    "rect", "vid_stride", "missing", "partners", "data", "save", "save_txt", "save_conf", "save_crop", "save_frames",
    "show", "show_labels", "show_conf", "show_boxes", "line_width", "project", "name", "exist_ok", "verbose",
)  # fmt: skip
"""The command's keys, Ultralytics' and ours."""

EXAMPLES = (
    "mwam-det predict best.pt --source rgb=visible ir=infrared conf=0.4",
    "mwam-det predict best.onnx --source ir=night.mp4 save_txt=true",
)


def add(commands: Any) -> None:
    """Add the command."""
    text = "find objects in pairs of images or videos, and draw them"
    command = add_command(commands, "predict", run, text, EXAMPLES)
    add_weights(command)
    command.add_argument(
        "--source",
        nargs="+",
        required=True,
        metavar="MODALITY=PATH",
        help="a folder, file, pattern or video per modality, like rgb=visible ir=infrared; any left out is missing",
    )
    text = f"imgsz=320, conf=0.4, missing=ir, save_txt=true, … of {', '.join(KEYS)}; may follow the sources"
    add_overrides(command, text, KEYS, of_recipe=False)


def run(options: argparse.Namespace) -> int:
    """Predict, and print how much was found and where it was saved."""
    check_weights(options.weights)
    arguments = command_arguments(options.overrides, KEYS)  # as much as can be checked before the weights are read
    from mwam_det.engine.deployment import modalities_of_model
    from mwam_det.engine.experiment import check_device, load_model
    from mwam_det.engine.measures import PARTS

    model = load_model(options.weights)
    names = [modality.name for modality in modalities_of_model(model.model)]
    source, rest = {}, []
    for word in options.source:
        name, equals, path = word.partition("=")
        if not equals or not path:
            raise RecipeError(f"--source {word} must be MODALITY=PATH: the model takes {', '.join(names)}")
        if name in source:
            raise RecipeError(f"--source names {name} twice: give a folder or a pattern for several images")
        if name in names:
            source[name] = path
        elif get_close_matches(name, [*KEYS, *names], 1):
            rest.append(word)
        else:
            raise RecipeError(f"--source {word}: the model takes {', '.join(names)}")
    arguments |= command_arguments(rest, [*KEYS, *names])
    if not isinstance(arguments.get("missing", []), str | list):
        raise RecipeError(f"missing={arguments['missing']!r} must name modalities: choose from {', '.join(names)}")
    check_device(arguments.get("device"), "device")
    arguments = {"name": "predict", "save": True, **arguments, "project": str(runs_folder(arguments.get("project")))}
    pairs = objects = 0
    try:
        for result in model.predict(source, stream=True, **arguments):
            pairs, objects = pairs + 1, objects + len(result)
    except ValueError as error:
        raise RecipeError(str(error)) from None
    saved = any(arguments.get(key) for key in ("save", "save_txt", "save_crop", "save_frames"))
    found = f"{objects} objects in" if model.task in PARTS else "Predicted on"
    print(f"{found} {pairs} pairs" + (f": {model.predictor.save_dir}" if saved else ""))
    return 0
