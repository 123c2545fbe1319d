"""A stock single-stream model description → one with a stream per modality, made of stock layers alone.

As no layer is ours, a checkpoint of such a model loads with plain Ultralytics where this package is not installed, also
with the restricted unpickler, and fuses and exports like any other.

Ultralytics' `parse_model` counts channels by rules that do not cover PyTorch's own layers. Where such a layer changes
the number, an `Index` with the index "()" follows it, which passes its input through and declares its channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.nn.modules import CBLinear
from ultralytics.nn.tasks import (
    BaseModel,
    ClassificationModel,
    DetectionModel,
    OBBModel,
    PoseModel,
    RTDETRDetectionModel,
    SegmentationModel,
    SemanticSegmentationModel,
    parse_model,
    yaml_model_load,
)
from ultralytics.utils.ops import make_divisible
from ultralytics.utils.torch_utils import unwrap_model

from mwam_det.models.stock import StockModel

SPLIT_LAYER = 0
"""Index of the layer that splits the stacked image. It is an identity and must stay frozen."""

FUSIONS = ("concat", "add", "attention", "p3", "late")

MODEL_CLASSES: dict[str, type[BaseModel]] = {
    "Detect": DetectionModel,
    "v10Detect": DetectionModel,
    "RTDETRDecoder": RTDETRDetectionModel,
    "OBB": OBBModel,
    "OBB26": OBBModel,
    "Segment": SegmentationModel,
    "Segment26": SegmentationModel,
    "Pose": PoseModel,
    "Pose26": PoseModel,
    "SemanticSegment": SemanticSegmentationModel,
    "Classify": ClassificationModel,
}
"""The model class by its head; models with other heads are refused."""

TASK_OF_MODEL: dict[type[BaseModel], str] = {
    DetectionModel: "detect",
    RTDETRDetectionModel: "detect",
    OBBModel: "obb",
    SegmentationModel: "segment",
    PoseModel: "pose",
    SemanticSegmentationModel: "semantic",
    ClassificationModel: "classify",
}
"""Ultralytics' name of the task, by model class."""

REFUSED_HEADS = {
    "WorldDetect": "YOLO-World compares features with text embeddings of the class names, which its neck reads too, so "
    "its layers cannot be split into streams",
    "Depth": "it estimates depth from one camera; with several modalities depth is an input here",
    **dict.fromkeys(
        ("YOLOEDetect", "YOLOESegment", "YOLOESegment26"),
        "YOLOE detects what a prompt names and has trainers of its own: take the YOLO of the same number, whose "
        "backbone and neck are the same",
    ),
}
"""Heads of stock models that are not supported, and why."""

WHOLE_BACKBONE = "TorchVision"
"""The layer that is a whole torchvision backbone. Its arguments: width, name, weights ("DEFAULT" if left out), …"""

NO_WEIGHTS = (None, False, "None", "False")
"""Values of the weights argument, as read by YAML and `parse_model`, for a backbone without weights."""

STRETCHED_HEAD = "RTDETRDecoder"
"""The head whose boxes are relative to an image stretched to a square."""

IMAGE_CHANNELS = 3
PROBE_SIZE = 256
"""Side of the image that determines the widths of a stock model, in pixels. Nothing is computed on it."""


def two_stream_cfg(
    cfg: Mapping[str, Any] | str | Path,
    modalities: Mapping[str, int] | None = None,
    fusion: str = "concat",
    share_backbone: bool = False,
) -> dict[str, Any]:
    """Turn a stock Ultralytics model YAML into the description of a model with one stream per modality.

    The stacked image is split into modalities, each passes its own stream, and every level that later layers read is
    fused to its width in the stock model; the rest is stock. Layers, in this order: split, a stream for each modality
    (its first layer selects the modality), the fusions, the rest. The kinds of fusion:

    - concat: Streams are backbones. Levels are concatenated and reduced to the stock width by a 1×1 convolution with
      norm and activation.
    - add: Streams are backbones. A level is the sum of the streams' features, each multiplied by a matrix (a 1×1
      convolution over all of them, without norm and activation), initially 1/M of the identity: the mean.
    - attention: Streams are backbones. A level is the sum of the streams' features, each multiplied by gates between 0
      and 1 per position and channel, which a 1×1 convolution computes from all streams. Initially each gate is 1/M.
    - p3: Streams end at the first level that the neck reads (P3 in most models), which is fused as in concat; the rest
      of the backbone exists once.
    - late: Streams are backbones with necks. The inputs of the head are fused as in concat.

    Args:
        cfg: A stock description ("yolov8n.yaml", or what `yaml_model_load` returns). It is not changed.
        modalities: Channels of each modality by name, in the order in which they are stacked; {"rgb": 3, "ir": 3} if
            left out.
        fusion: Where and how levels are fused, see above.
        share_backbone: Whether all modalities pass one stream, as images of one mini-batch, also in its batch norms.
            They need the same number of channels.

    Returns:
        The description, with more keys: "modalities" (as given), "fusion", "share_backbone", "streams", the half-open
        range [first, end) of layer indices of each modality (the same for all if shared), "levels", the layers of each
        modality that are fused, and "fusions", the range [first, end) of layers that fuse them.

    Raises:
        ValueError: If `cfg` does not describe a single-stream model, its head is not supported (see `REFUSED_HEADS`), a
            torchvision backbone would download weights or get images of other than three channels, a channel count is
            not positive, or `fusion` is unknown or not possible.
    """
    modalities = dict(modalities or {"rgb": 3, "ir": 3})
    stock = yaml_model_load(cfg) if isinstance(cfg, str | Path) else deepcopy(dict(cfg))
    source = stock.get("yaml_file", "the model description")
    _check(stock, source, modalities, fusion)
    for arguments in _whole_backbones(stock):
        arguments[2] = None  # torchvision warns of the other values
    if share_backbone and len(set(modalities.values())) > 1:
        raise ValueError(
            f"share_backbone needs the same number of channels in every modality, but these differ: {modalities}; "
            "give them the same number (data.channels), or set share_backbone=false"
        )

    layers = stock["backbone"] + stock["head"]
    cut = _cut(stock, fusion)
    read = sorted({layer for sources in _absolute_sources(layers)[cut:] for layer in sources if layer < cut})
    widths = _widths(stock, cut)
    if odd := [level for level in read if level not in widths]:
        raise ValueError(
            f"fusion='{fusion}' would fuse layer {odd[0]} of {source}, which outputs several maps: "
            f"choose from {', '.join(name for name in FUSIONS if name not in (fusion, 'p3'))}"
        )

    new = [[-1, 1, "CBLinear", [list(modalities.values())]]]
    build = _shared_streams if share_backbone else _own_streams
    streams, levels = build(new, layers[:cut], read, [widths[level] for level in read], modalities)
    fused, first_fusion = {}, len(new)
    for index, level in enumerate(read):
        new += _fusion(fusion, [levels[name][index] for name in modalities], widths[level], stock, len(new))
        fused[level] = len(new) - 1
    first_of_rest = len(new)
    for index, (sources, *rest) in enumerate(layers[cut:], start=cut):
        absolute = [layer if layer >= 0 else index + layer for layer in _as_list(sources)]
        moved = [fused[layer] if layer < cut else layer + first_of_rest - cut for layer in absolute]
        if index < len(layers) - 1:  # RT-DETR's head finds its inputs only by their index
            # With "-1", Ultralytics need not keep the previous output until the end of the forward pass.
            moved = [-1 if layer == len(new) - 1 else layer for layer in moved]
        new.append([moved if isinstance(sources, list) else moved[0], *rest])

    stock["backbone"], stock["head"] = new[:first_fusion], new[first_fusion:]
    return {
        **stock,
        "modalities": modalities,
        "fusion": fusion,
        "share_backbone": share_backbone,
        "streams": streams,
        "levels": levels,
        "fusions": [first_fusion, first_of_rest],
    }


def _check(stock: Mapping[str, Any], source: str, modalities: Mapping[str, int], fusion: str) -> None:
    if not stock.get("backbone") or not stock.get("head"):
        raise ValueError(f"{source} needs a 'backbone' and a 'head' to be split into streams")
    if "streams" in stock:
        raise ValueError(f"{source} already has streams: {', '.join(stock['streams'])}")
    head = stock["head"][-1][2]
    if head in REFUSED_HEADS:
        raise ValueError(f"{source} ends in {head}: {REFUSED_HEADS[head]}")
    if head not in MODEL_CLASSES:
        raise ValueError(f"{source} ends in {head}: choose a model that ends in one of {', '.join(MODEL_CLASSES)}")
    if fusion not in FUSIONS:
        raise ValueError(f"fusion='{fusion}' is unknown: choose from {', '.join(FUSIONS)}")
    if not modalities or any(not isinstance(c, int) or c < 1 for c in modalities.values()):
        raise ValueError(f"modalities={modalities} must give every modality at least one channel")
    if fusion == "attention" and len(modalities) < 2:
        raise ValueError(f"fusion='attention' weighs modalities against each other, but {', '.join(modalities)} is one")
    for arguments in _whole_backbones(stock):
        if len(arguments) < 3 or arguments[2] not in NO_WEIGHTS:
            weights = arguments[2] if len(arguments) > 2 else "DEFAULT"
            raise ValueError(
                f"{source} has a layer {WHOLE_BACKBONE} with the weights {weights}, which would be downloaded whenever "
                f"the model is built: copy the file and replace them by null, as in {[*arguments[:2], None]}"
            )
        if odd := [name for name, channels in modalities.items() if channels != IMAGE_CHANNELS]:
            raise ValueError(
                f"{source} has a layer {WHOLE_BACKBONE}, which takes images of {IMAGE_CHANNELS} channels, but "
                f"{odd[0]} has {modalities[odd[0]]}: leave it out of 'channels' to repeat grey"
            )


def _whole_backbones(stock: Mapping[str, Any]) -> list[list]:
    """Return the arguments of each layer that is a whole torchvision backbone."""
    return [arguments for _, _, layer, arguments in stock["backbone"] + stock["head"] if layer == WHOLE_BACKBONE]


def task_of(cfg: Mapping[str, Any]) -> str:
    """Return Ultralytics' name of a model's task.

    Args:
        cfg: A description, stock or with streams, whose head is one of `MODEL_CLASSES`.
    """
    return TASK_OF_MODEL[MODEL_CLASSES[cfg["head"][-1][2]]]


def takes_stretched(cfg: Mapping[str, Any]) -> bool:
    """Return whether a model takes images stretched to a square, without a border: RT-DETR does.

    Args:
        cfg: A description, stock or with streams.
    """
    return bool(cfg["head"][-1][2] == STRETCHED_HEAD)


def _as_list(sources: int | list[int]) -> list[int]:
    return sources if isinstance(sources, list) else [sources]


def _absolute_sources(layers: Sequence[list]) -> list[list[int]]:
    """List the inputs of each layer, as indices from the start; the image is -1."""
    return [
        [layer if layer >= 0 else index + layer for layer in _as_list(sources)]
        for index, (sources, *_) in enumerate(layers)
    ]


def _cut(stock: Mapping[str, Any], fusion: str) -> int:
    """Return how many stock layers each stream has."""
    layers, depth = stock["backbone"] + stock["head"], len(stock["backbone"])
    if fusion == "late":
        return len(layers) - 1
    if fusion == "p3":
        return 1 + min(layer for sources in _absolute_sources(layers)[depth:] for layer in sources if layer < depth)
    return depth


def _widths(stock: Mapping[str, Any], count: int) -> dict[int, int]:
    """Return the output channels of the first layers of a stock model, by index, if the output is one map.

    The layers are built without memory, instead of interpreting their arguments.
    """
    part = {**deepcopy(dict(stock)), "head": []}
    part["backbone"] = deepcopy((stock["backbone"] + stock["head"])[:count])
    if part.get("scales"):
        part["scale"] = _scale_name(part)
    outputs: list[Any] = []
    with torch.device("meta"), torch.no_grad():
        x: Any = torch.zeros(1, IMAGE_CHANNELS, PROBE_SIZE, PROBE_SIZE)
        for layer in parse_model(part, ch=IMAGE_CHANNELS, verbose=False)[0].eval():
            read = [x if source == -1 else outputs[source] for source in _as_list(layer.f)]
            x = layer(read if isinstance(layer.f, list) else read[0])
            outputs.append(x)
    return {index: output.shape[1] for index, output in enumerate(outputs) if isinstance(output, Tensor)}


def _scale_name(stock: Mapping[str, Any]) -> str:
    """Return the scale that Ultralytics builds, by default the first one."""
    return stock.get("scale") or next(iter(stock["scales"]))


def _own_streams(
    new: list[list], prefix: list[list], read: list[int], widths: list[int], modalities: Mapping[str, int]
) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """Append a stream for each modality; return their ranges and levels."""
    streams, levels = {}, {}
    for index, (name, channels) in enumerate(modalities.items()):
        first = len(new)
        new.append([SPLIT_LAYER, 1, "Index", [channels, index]])
        new += _moved(prefix, first + 1, channels)
        streams[name] = [first, len(new)]
        levels[name] = [first + 1 + level for level in read]
    return streams, levels


def _shared_streams(
    new: list[list], prefix: list[list], read: list[int], widths: list[int], modalities: Mapping[str, int]
) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """Append one stream that all modalities pass, one after the other in the mini-batch; return range and levels."""
    count, channels = len(modalities), next(iter(modalities.values()))
    new += [[SPLIT_LAYER, 1, "Index", [channels, index]] for index in range(count)]
    new.append([list(range(1, 1 + count)), 1, "Concat", [0]])
    first = len(new)
    new.append([-1, 1, "Index", [channels, "()"]])
    new += _moved(prefix, first + 1, channels)
    end = len(new)
    levels: dict[str, list[int]] = {name: [] for name in modalities}
    for level, width in zip(read, widths, strict=True):
        unstacked = len(new)
        new.append([first + 1 + level, 1, "nn.Unflatten", [0, [count, -1]]])
        for index, name in enumerate(modalities):
            levels[name].append(len(new))
            new.append([unstacked, 1, "Index", [width, index]])
    return {name: [first, end] for name in modalities}, levels


def _moved(prefix: list[list], by: int, channels: int) -> list[list]:
    """Copy the first layers of a stock model to another position, for images with another number of channels."""
    moved = []
    for sources, number, kind, arguments in deepcopy(prefix):
        if kind == "ResNetLayer" and arguments[3]:  # the only stock layer that states its input channels
            arguments[0] = channels
        inputs = [layer if layer < 0 else layer + by for layer in _as_list(sources)]
        moved.append([inputs if isinstance(sources, list) else inputs[0], number, kind, arguments])
    return moved


def _fusion(fusion: str, sources: list[int], width: int, stock: Mapping[str, Any], first: int) -> list[list]:
    """Return the layers that fuse a level of all streams, starting at index `first`."""
    count = len(sources)
    together = [sources, 1, "Concat", [1]]
    linear = [[-1, 1, "CBLinear", [[width]]], [-1, 1, "Index", [width, 0]]]
    if fusion == "add":
        return [together, *linear]
    if fusion == "attention":
        gates = first + 1
        layers = [together, [-1, 1, "CBLinear", [[width] * count]]]
        gated = []
        for index, source in enumerate(sources):
            layers += [
                [gates, 1, "Index", [width, index]],
                [[source, -1], 1, "Concat", [1]],
                [-1, 1, "nn.GLU", [1]],
                [-1, 1, "Index", [width, "()"]],
            ]
            gated.append(first + len(layers) - 1)
        # CBFuse adds its last input and an item of each other one: the item "()" of a map is the map itself.
        return [*layers, [gated, 1, "CBFuse", [str([()] * (count - 1))]]]
    argument = _argument_for(width, stock)
    if argument is not None:
        return [together, [-1, 1, "Conv", [argument, 1, 1]]]
    return [together, *linear, [-1, 1, "nn.BatchNorm2d", []], [-1, 1, "nn.SiLU", []]]  # no Conv can have this width


def _argument_for(width: int, stock: Mapping[str, Any]) -> int | None:
    """Return the argument of a Conv that is `width` wide after scaling, None if there is none."""
    multiple, most = stock.get("width_multiple", 1.0), math.inf
    if stock.get("scales"):
        _, multiple, most = stock["scales"][_scale_name(stock)]
    argument = int(width / multiple + 1e-6)
    return argument if make_divisible(min(argument, most) * multiple, 8) == width else None


def build_two_stream(cfg: Mapping[str, Any], nc: int | None = None, verbose: bool = False) -> StockModel:
    """Build the model that `two_stream_cfg` describes, with its split set to the identity.

    Args:
        cfg: The result of `two_stream_cfg`.
        nc: Number of classes, or None for the number in `cfg`.
        verbose: Whether Ultralytics lists the layers.

    Returns:
        An untrained stock model whose input is the stacked image, shape (B, ΣC_m, H, W). The fusions "add" and
        "attention" start as the mean over streams.
    """
    model_class: Any = MODEL_CLASSES[cfg["head"][-1][2]]
    model: StockModel = model_class(deepcopy(dict(cfg)), ch=sum(cfg["modalities"].values()), nc=nc, verbose=verbose)
    split = model.model[SPLIT_LAYER].conv
    with torch.no_grad():
        split.weight.copy_(torch.eye(split.in_channels)[..., None, None])
        split.bias.zero_()
    split.requires_grad_(False)
    if cfg["fusion"] in ("add", "attention"):
        start_as_mean(model)
    return model


@torch.no_grad()
def drop_split_convolution(model: nn.Module) -> None:
    """Remove the identity convolution from the split of a model that will not be trained or saved, in place.

    The outputs of the model stay the same bit for bit. The convolution is there because Ultralytics' `parse_model` must
    be able to build a checkpoint, and costs a pass over the image at full resolution. A split that is not an identity,
    and a model without streams, are unchanged.

    Args:
        model: A detector.
    """
    if not isinstance(model, StockModel) or "streams" not in getattr(model, "yaml", {}):
        return
    split = model.model[SPLIT_LAYER]
    if not isinstance(convolution := split.conv, nn.Conv2d):
        return
    identity = torch.eye(convolution.in_channels).to(convolution.weight)[..., None, None]
    if torch.equal(convolution.weight, identity) and (convolution.bias is None or not convolution.bias.any()):
        split.conv = nn.Identity()


@torch.no_grad()
def start_as_mean(model: StockModel) -> None:
    """Initialise the fusions of a model to the mean over its streams.

    That is exact for "add" and "attention". For the others the mean is followed by a neutral norm, with running mean 0
    and variance 1, and an activation, so the result is a function of the mean alone.

    Args:
        model: A model from `build_two_stream`.
    """
    count = len(model.yaml["modalities"])
    first, end = model.yaml["fusions"]
    for layer in model.model[first:end]:
        if model.yaml["fusion"] == "attention":
            if isinstance(layer, CBLinear) and (bias := layer.conv.bias) is not None:
                layer.conv.weight.zero_()
                bias.fill_(-math.log(count - 1))  # the sigmoid of it is 1 / count
            continue
        if (convolution := getattr(layer, "conv", None)) is not None:
            width = convolution.out_channels
            convolution.weight.copy_((torch.eye(width) / count).repeat(1, count)[..., None, None])
            if convolution.bias is not None:
                convolution.bias.zero_()
        norm = layer if isinstance(layer, nn.BatchNorm2d) else getattr(layer, "bn", None)
        if norm is not None:
            norm.reset_running_stats()
            norm.weight.fill_(math.sqrt(1 + norm.eps))  # compensates for eps in the variance
            norm.bias.zero_()


def streams_of(model: nn.Module) -> dict[str, nn.Sequential]:
    """Return the stream of each modality of a model from `build_two_stream`, sharing its parameters.

    With a shared backbone all are the same.

    Raises:
        ValueError: If the model has no streams.
    """
    bare = unwrap_model(model)
    ranges = getattr(bare, "yaml", {}).get("streams")
    if not isinstance(bare, StockModel) or not ranges:
        raise ValueError("the model has no streams: build it with two_stream_cfg")
    return {name: bare.model[first:end] for name, (first, end) in ranges.items()}
