"""A stock single-stream model description → one with a backbone a modality, made of stock layers alone.

Because no layer is ours, a checkpoint of such a model loads with plain Ultralytics where this package is not installed,
also with the restricted unpickler, and fuses and exports like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn
from ultralytics.nn.tasks import DetectionModel, yaml_model_load
from ultralytics.utils.torch_utils import unwrap_model

SPLIT_LAYER = 0
"""Index of the layer that splits the stacked image. It is the identity and must stay frozen."""

FUSIONS = ("concat",)
HEADS = ("Detect", "v10Detect")


def two_stream_cfg(
    cfg: Mapping[str, Any] | str | Path, modalities: Mapping[str, int] | None = None, fusion: str = "concat"
) -> dict[str, Any]:
    """Turn a stock Ultralytics model YAML into the description of a model with one stream a modality.

    The stacked image is split into modalities, each passes a backbone of its own, and at every level that the head
    reads the features are concatenated and brought back to the stock width by a 1×1 convolution. Neck and head are
    stock. Layers, in this order: split, a stream for each modality (its first layer picks the modality), the fusions,
    neck and head.

    Args:
        cfg: A stock description ("yolov8n.yaml", or what `yaml_model_load` returns). It is not changed.
        modalities: Channels of each modality by name, in the order in which they are stacked; {"rgb": 3, "ir": 3} if
            left out.
        fusion: How levels are fused: "concat".

    Returns:
        The description, with four more keys: "modalities" (as given), "fusion", "streams", the half-open range
        [first, end) of layer indices that belongs to each modality, and "levels", the layers of each stream that are
        fused.

    Raises:
        ValueError: If `cfg` is no single-stream description of a detector, a channel count is not positive, or `fusion`
            is unknown.
    """
    modalities = dict(modalities or {"rgb": 3, "ir": 3})
    stock = yaml_model_load(cfg) if isinstance(cfg, str | Path) else deepcopy(dict(cfg))
    source = stock.get("yaml_file", "the model description")
    if not stock.get("backbone") or not stock.get("head"):
        raise ValueError(f"{source} needs a 'backbone' and a 'head' to be split into streams")
    if "streams" in stock:
        raise ValueError(f"{source} already has streams: {', '.join(stock['streams'])}")
    if (head := stock["head"][-1][2]) not in HEADS:
        raise ValueError(f"{source} ends in {head}: only detection models do ({', '.join(HEADS)})")
    if fusion not in FUSIONS:
        raise ValueError(f"fusion='{fusion}' is unknown: choose from {', '.join(FUSIONS)}")
    if not modalities or any(not isinstance(c, int) or c < 1 for c in modalities.values()):
        raise ValueError(f"modalities={modalities} must give every modality at least one channel")

    depth = len(stock["backbone"])
    layers = [[-1, 1, "CBLinear", [list(modalities.values())]]]
    streams = {}
    for place, (name, channels) in enumerate(modalities.items()):
        first = len(layers)
        layers.append([SPLIT_LAYER, 1, "Index", [channels, place]])
        layers += [_shift(layer, first + 1) for layer in deepcopy(stock["backbone"])]
        streams[name] = [first, len(layers)]
    backbone = layers.copy()

    fused, levels = {}, {name: [] for name in modalities}
    for level in _levels_read(stock):
        for name, (first, _) in streams.items():
            levels[name].append(first + 1 + level)
        layers.append([[first + 1 + level for first, _ in streams.values()], 1, "Concat", [1]])
        layers.append([-1, 1, "Conv", [stock["backbone"][level][3][0], 1, 1]])
        fused[level] = len(layers) - 1
    offset = len(layers) - depth
    for index, (sources, *rest) in enumerate(stock["head"], start=depth):
        sources = sources if isinstance(sources, list) else [sources]
        absolute = [source if source >= 0 else index + source for source in sources]
        moved = [fused[source] if source < depth else source + offset for source in absolute]
        # "-1" spares Ultralytics from keeping the previous output alive until the end of the forward pass.
        moved = [-1 if source == index + offset - 1 else source for source in moved]
        layers.append([moved[0] if len(moved) == 1 else moved, *rest])

    stock["backbone"], stock["head"] = backbone, layers[len(backbone) :]
    return {**stock, "modalities": modalities, "fusion": fusion, "streams": streams, "levels": levels}


def _shift(layer: list, by: int) -> list:
    """Move the absolute sources of a layer by `by`; relative ones (negative) stay."""
    sources, *rest = layer
    if isinstance(sources, list):
        return [[source if source < 0 else source + by for source in sources], *rest]
    return [sources if sources < 0 else sources + by, *rest]


def _levels_read(stock: Mapping[str, Any]) -> list[int]:
    """List the backbone layers whose output neck or head read, ascending."""
    depth = len(stock["backbone"])
    levels = set()
    for index, (sources, *_) in enumerate(stock["head"], start=depth):
        for source in sources if isinstance(sources, list) else [sources]:
            levels.add(source if source >= 0 else index + source)
    return sorted(level for level in levels if level < depth)


def build_two_stream(cfg: Mapping[str, Any], nc: int | None = None, verbose: bool = False) -> DetectionModel:
    """Build the detector that `two_stream_cfg` describes, its split set to the identity.

    Args:
        cfg: What `two_stream_cfg` returned.
        nc: Number of classes, or None for the number in `cfg`.
        verbose: Whether Ultralytics lists the layers.

    Returns:
        An untrained stock model whose input is the stacked image, shape (B, ΣC_m, H, W).
    """
    model = DetectionModel(deepcopy(dict(cfg)), ch=sum(cfg["modalities"].values()), nc=nc, verbose=verbose)
    split = model.model[SPLIT_LAYER].conv
    with torch.no_grad():
        split.weight.copy_(torch.eye(split.in_channels)[..., None, None])
        split.bias.zero_()
    split.requires_grad_(False)
    return model


def streams_of(model: nn.Module) -> dict[str, nn.Sequential]:
    """Return the backbone of each modality of a model that `build_two_stream` built, by name, sharing its parameters.

    Raises:
        ValueError: If the model has no streams.
    """
    model = unwrap_model(model)
    ranges = getattr(model, "yaml", {}).get("streams")
    if not ranges:
        raise ValueError("the model has no streams: build it with two_stream_cfg")
    return {name: model.model[first:end] for name, (first, end) in ranges.items()}
