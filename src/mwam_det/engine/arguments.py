"""Our arguments beside Ultralytics', and their checks. The only file that knows `get_cfg`'s rules."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from ultralytics.cfg import cfg2dict, get_cfg
from ultralytics.utils import DEFAULT_CFG_DICT

from mwam_det.core.balancing.methods import METHODS, balancing_config
from mwam_det.core.config import refuse_unknown_keys
from mwam_det.models.views import NO_DISTILLATION
from mwam_det.training.config import RunConfig

OWN_ARGUMENTS: dict[str, Any] = {
    "mwam": True,  # True: the paper's MWAM; False: none; a mapping: values of MWAMConfig
    "fusion": "concat",  # see models.two_stream.FUSIONS
    "share_backbone": False,  # one backbone for all modalities
    "incomplete": False,  # missing modalities in training: True, False, or values of IncompleteConfig
    "balancing": False,  # False, or a mapping with a method that balances the modalities and its settings
    "select": {},  # how the best checkpoint is chosen, see training.selection.selection_of
    "run_state": None,  # state of the ModalityRun in a checkpoint; never set by hand
}
"""Our arguments of the trainer, with the defaults."""

LARGEST_SEED = 2**32 - 2**16
"""Ultralytics adds the rank to the seed, and NumPy's seeds have 32 bits."""

MOST_LAYERS = 1000
"""No model has more layers."""

OPTIMIZERS = ("auto", "SGD", "MuSGD", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop")
"""Ultralytics' optimizers, whose names it checks only once the data are read."""

AT_LEAST_0 = ("workers", "warmup_epochs", "close_mosaic")
"""Numbers whose sign Ultralytics does not check."""

NOT_FOR_RECIPES = {"task", "mode", "model", "data", "cfg", "split", "pretrained"}
"""Ultralytics arguments that other keys of a recipe set, so that its train section may not hold them."""

OF_OTHER_COMMANDS = {
    "dnn", "dynamic", "embed", "format", "line_width", "opset", "optimize", "retina_masks", "save_crop", "save_frames",
    "show", "show_boxes", "simplify", "source", "stream_buffer", "tracker", "vid_stride", "workspace",
}  # fmt: skip
"""Ultralytics arguments that nothing reads in a training, but only in a prediction, tracking or export."""


def with_own_arguments(cfg: Any) -> dict[str, Any]:
    """Return Ultralytics' base configuration with our arguments added, so that `get_cfg` accepts overrides of both."""
    return {**OWN_ARGUMENTS, **cfg2dict(cfg)}


def without_own_arguments(args: SimpleNamespace | dict[str, Any]) -> dict[str, Any]:
    """Return the arguments that Ultralytics' own classes accept."""
    return {key: value for key, value in cfg2dict(args).items() if key not in OWN_ARGUMENTS}


def refuse_unsupported(arguments: Mapping[str, Any]) -> None:
    """Refuse arguments with which Ultralytics would bypass the streams or our part of the training.

    Raises:
        NotImplementedError: With the reason and what to do instead.
    """
    if arguments.get("distill_model"):
        raise NotImplementedError("distill_model wraps the model, which hides its streams: leave it out")
    config = balancing_config(arguments.get("balancing"))
    if not arguments.get("compile"):
        return
    outside = "compile computes the loss outside of the model"
    if arguments.get("incomplete") not in (None, False):
        raise NotImplementedError(f"{outside}, without incomplete views: set compile=false or incomplete=false")
    if config is not None and METHODS[config.method][1].needs_views:
        raise NotImplementedError(
            f"{outside}, where balancing.method={config.method} cannot change it: set compile=false or balancing=false"
        )


def check_train_arguments(arguments: Mapping[str, Any]) -> None:
    """Check names, types and ranges of the Ultralytics arguments in a recipe's train section.

    Raises:
        ValueError: If a key is unknown (the nearest known one is named) or not allowed, or a value is invalid.
    """
    known = [key for key in DEFAULT_CFG_DICT if key not in NOT_FOR_RECIPES | OF_OTHER_COMMANDS]
    for key in arguments:
        if key in NOT_FOR_RECIPES:
            raise ValueError(f"'{key}' does not belong in the train section: see the recipe's other keys")
        if key in OF_OTHER_COMMANDS:
            raise ValueError(f"'{key}' does nothing in a training: it belongs to predict or export")
    refuse_unknown_keys(arguments, known)
    freeze_with(0, arguments.get("freeze"))
    check_values(arguments)


def check_values(arguments: Mapping[str, Any]) -> None:
    """Check types and ranges of Ultralytics arguments.

    Raises:
        ValueError: If a value is invalid; the message names key, value and choices.
    """
    sides = arguments.get("imgsz", 640)
    for side in sides if isinstance(sides, list) and len(sides) in (1, 2) else [sides]:
        if isinstance(side, bool) or not isinstance(side, int) or side < 1:
            raise ValueError(f"imgsz={sides!r} must be a number of pixels, or a list of height and width")
    seed = arguments.get("seed", 0)
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= LARGEST_SEED:
        raise ValueError(f"seed={seed!r} must be a whole number from 0 to {LARGEST_SEED}")
    if (cache := arguments.get("cache")) not in (None, True, False, "ram", "disk"):
        raise ValueError(f"cache={cache!r} must be true, false, ram or disk")
    if str(optimizer := arguments.get("optimizer", "auto")).lower() not in map(str.lower, OPTIMIZERS):
        raise ValueError(f"optimizer={optimizer!r} must be one of {', '.join(OPTIMIZERS)}")
    for key in AT_LEAST_0:
        if isinstance(value := arguments.get(key, 0), int | float) and value < 0:
            raise ValueError(f"{key}={value} must be at least 0")
    classes = arguments.get("classes")
    for number in [] if classes is None else classes if isinstance(classes, list) else [classes]:
        if type(number) is not int or number < 0:
            raise ValueError(f"classes={classes!r} must be the number of a class, counted from 0, or a list of them")
    if isinstance(project := arguments.get("project"), str) and os.path.isfile(project):
        raise ValueError(f"project={project} is a file: name a folder")
    try:
        refuse_unsupported(arguments)
        get_cfg(overrides=dict(arguments))
    except (TypeError, ValueError, NotImplementedError) as error:  # of a wrong type, a wrong value, or unsupported
        raise ValueError(" ".join(str(error).split())) from None


def check_selected(classes: Any, count: int) -> None:
    """Check that Ultralytics' argument `classes`, a number or a list of them, selects classes that exist.

    Raises:
        ValueError: If there are fewer; Ultralytics would train on nothing, and find nothing.
    """
    if classes is None:
        return
    selected = classes if isinstance(classes, list | tuple) else [classes]
    if not selected:
        raise ValueError(f"classes={classes!r} selects no class: choose from 0 to {count - 1}, or leave it out")
    for number in selected:
        if number >= count:
            raise ValueError(f"classes={classes!r} selects class {number}: choose from 0 to {count - 1}")


def check_batch(arguments: Mapping[str, Any]) -> None:
    """Check the mini-batch of a validation, prediction or export: only training finds a size by itself.

    Raises:
        ValueError: If it is not a whole number, at least 1.
    """
    if type(batch := arguments.get("batch", 1)) is not int or batch < 1:
        raise ValueError(f"batch={batch!r} must be a whole number, at least 1")


def freeze_with(
    layer: int, freeze: Any, streams: Mapping[str, Sequence[int]] | Iterable[str] | None = None
) -> list[int | str]:
    """Add a layer to Ultralytics' argument `freeze`, and replace streams by their layers.

    Args:
        layer: Index of the layer that must stay frozen. The trainer makes it trainable unless it is named.
        freeze: None, a number n (the first n layers), or a list of indices, of Ultralytics' names, which begin with an
            index ("23.cv2"), and of streams.
        streams: The half-open range [first, end) of layers of each stream by modality, or only the modalities, to check
            names. If left out, every name is taken for Ultralytics'.

    Returns:
        The list, which Ultralytics accepts if ranges were given.

    Raises:
        ValueError: If `freeze` is none of these, or names neither a stream nor a layer.
    """
    if isinstance(freeze, bool) or not (freeze is None or isinstance(freeze, int | list | tuple)):
        raise ValueError(f"freeze={freeze!r} must be a number of layers or a list of layer indices and names")
    if isinstance(freeze, int) and freeze > MOST_LAYERS:
        raise ValueError(f"freeze={freeze} is more than the layers of any model")
    layers: list[int | str] = []
    for item in range(freeze) if isinstance(freeze, int) else freeze or []:
        if isinstance(item, str) and streams is not None and not item[:1].isdigit():
            if item not in streams:
                raise ValueError(f"freeze names '{item}': choose from {', '.join(streams)}, or name layers by index")
            if isinstance(streams, Mapping):
                layers += range(*streams[item])
                continue
        layers.append(item)
    return layers if layer in layers else [layer, *layers]


def check_run(
    config: RunConfig,
    arguments: Mapping[str, Any],
    task: str,
    stretched: bool,
    modalities: Sequence[str] = (),
    classes: int = 0,
) -> None:
    """Check that the settings of a run fit the model, the data and the other arguments.

    Args:
        config: The settings of the run.
        arguments: `share_backbone`, `val`, `compile` and `classes`, if given.
        task: Task of the model.
        stretched: Whether the model is RT-DETR, whose images are stretched.
        modalities: All modalities; empty if not known yet.
        classes: Number of classes; 0 if not known yet.

    Raises:
        ValueError: If the settings contradict each other, see `RunConfig.check`, need a backbone for each modality
            where all share one, or select classes that do not exist.
        NotImplementedError: If the model has no heads for `mwam.mode`, compiled ones included, or no outputs for
            `incomplete.distill`.
    """
    check_shared_backbone(arguments.get("share_backbone", False), config)
    if classes:
        check_selected(arguments.get("classes"), classes)
    scores = task == "classify" or (task == "semantic" and classes > 1)
    config.check(modalities, classes=scores, validates=arguments.get("val", True))
    if stretched and config.incomplete is not None and config.incomplete.distill:
        raise NotImplementedError(NO_DISTILLATION)
    if config.mwam is None or config.mwam.mode not in ("loss", "hybrid"):
        return
    if arguments.get("compile"):
        raise NotImplementedError("mwam.mode=loss and hybrid train without compile")
    if stretched:
        raise NotImplementedError(
            f"mwam.mode={config.mwam.mode} puts a YOLO head on each backbone, which does not take RT-DETR's labels: "
            "choose gradient, update or auto"
        )
    if task != "detect":
        raise NotImplementedError(
            f"mwam.mode={config.mwam.mode} puts a detection head on each backbone, which task={task} has no labels "
            "for: choose gradient, update or auto"
        )


def check_shared_backbone(share_backbone: Any, config: RunConfig) -> None:
    """Check that MWAM or a balancing method has a backbone for each modality.

    Raises:
        ValueError: If all modalities share one backbone.
    """
    if not isinstance(share_backbone, bool):
        raise ValueError(f"share_backbone={share_backbone!r} must be true or false")
    if share_backbone and config.mwam is not None:
        raise ValueError(
            "share_backbone=true leaves MWAM nothing to weigh: it scales the gradients of a backbone for each "
            "modality, and here all have the same one; set mwam=false"
        )
    if share_backbone and config.balancing is not None:
        raise ValueError(
            "share_backbone=true leaves nothing to balance: balancing acts on a backbone for each modality, and here "
            "all have the same one; set balancing=false"
        )


def check_precision(amp: Any, device: Any) -> None:
    """Check that a device can train in the requested precision.

    Args:
        amp: Ultralytics' argument.
        device: Ultralytics' argument; its existence is checked elsewhere.

    Raises:
        ValueError: If it is bf16 on a CPU, which Ultralytics' loop does not support.
    """
    named = str(device if device is not None else "").strip("[]()").lower()
    on_cpu = named == "cpu" or not named and not torch.cuda.is_available()
    if amp == "bf16" and on_cpu:
        raise ValueError("amp=bf16 needs a GPU, and this run is on the CPU: use amp=false")


def check_coco(coco: bool, task: str) -> None:
    """Check that the COCO protocol applies to a task.

    Raises:
        NotImplementedError: If the task is not "detect".
    """
    if coco and task != "detect":
        raise NotImplementedError(f"coco=true measures upright boxes, and the task is '{task}': leave it out")
