"""Running a model again with different input for some streams, at the cost of only these streams, neck and head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from mwam_det.models.stock import StockModel
from mwam_det.training.measuring import evaluating


def levels_of(model: StockModel) -> dict[str, list[int]]:
    """Return the layers of each modality whose outputs are fused, by modality, ascending.

    Args:
        model: A model from `build_two_stream`.
    """
    return model.yaml.get("levels") or {name: _outputs_of_stream(model, name) for name in model.yaml["streams"]}


def _outputs_of_stream(model: StockModel, name: str) -> list[int]:
    """Return the layers of a stream that later ones read, ascending: its levels, unless the backbone is shared.

    The levels of a shared backbone come after it, where the mini-batch is split into modalities again.
    """
    first, end = model.yaml["streams"][name]
    later = model.model[_end_of_streams(model) :]
    read = {source for layer in later for source in ([layer.f] if isinstance(layer.f, int) else layer.f)}
    return sorted(read & set(range(first, end)))


def _end_of_streams(model: StockModel) -> int:
    return max(end for _, end in model.yaml["streams"].values())


class FeatureTap:
    """Keep the outputs of every stream's levels in a forward pass, by hooks until `remove`.

    Args:
        model: A model from `build_two_stream`.
    """

    def __init__(self, model: StockModel):
        self._features: dict[int, Tensor] = {}
        self._levels = levels_of(model)
        self._handles = [
            model.model[index].register_forward_hook(
                lambda module, inputs, output, index=index: self._features.__setitem__(index, output)
            )
            for levels in self._levels.values()
            for index in levels
        ]

    def take(self) -> dict[str, list[Tensor]]:
        """Return the levels of the last forward pass by modality, and release them."""
        taken = {name: [self._features[index] for index in levels] for name, levels in self._levels.items()}
        self._features.clear()
        return taken

    def remove(self) -> None:
        """Remove the hooks from the model."""
        for handle in self._handles:
            handle.remove()

    def __enter__(self) -> FeatureTap:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()


def run_stream(model: StockModel, name: str, images: Tensor) -> list[Tensor]:
    """Run the backbone of one modality.

    Args:
        model: A model from `build_two_stream`.
        name: The modality.
        images: Its images, shape (B, C_m, H, W), in the model's range and dtype.

    Returns:
        Its levels, as `FeatureTap.take` returns them.
    """
    first, end = model.yaml["streams"][name]
    outputs = _run(model, range(first + 1, end), images, {})  # the first layer picks the modality from the stack
    return [outputs[index] for index in _outputs_of_stream(model, name)]


@torch.no_grad()
def run_stream_on_zeros(model: StockModel, name: str, images: Tensor) -> list[Tensor]:
    """Return the levels of a missing modality's stream in inference: those for one image of zeros.

    All layers run in evaluation mode; the mode of the model is restored.

    Args:
        model: A model from `build_two_stream`.
        name: The modality.
        images: Stacked modalities, shape (B, ΣC_m, H, W); determine size, dtype and device.

    Returns:
        Its levels, shapes (1, C_l, H_l, W_l), without gradient.
    """
    first, end = model.yaml["streams"][name]
    with evaluating(module for layer in model.model[first:end] for module in layer.modules()), _uncached(images):
        return run_stream(model, name, images.new_zeros(1, model.yaml["modalities"][name], *images.shape[2:]))


def _uncached(images: Tensor) -> AbstractContextManager:
    """Disable autocast's cache: a weight cast here without gradient would have none in the step itself."""
    device = images.device.type
    return torch.autocast(
        device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device), cache_enabled=False
    )


def run_from_levels(model: StockModel, features: Mapping[str, Sequence[Tensor]]) -> Any:
    """Run fusion, neck and head on the levels of all streams, and return the model's output.

    Args:
        model: A model from `build_two_stream`.
        features: Levels by modality, as `FeatureTap.take` returns them.
    """
    levels = levels_of(model)
    known = {level: f for name in levels for level, f in zip(levels[name], features[name], strict=True)}
    last = len(model.model) - 1
    first = 1 + max(known) if model.yaml.get("share_backbone") else _end_of_streams(model)
    return _run(model, range(first, last + 1), None, known)[last]


def _run(model: StockModel, layers: range, x: Any, known: Mapping[int, Any]) -> dict[int, Any]:
    """Run some layers as `ultralytics.nn.tasks.BaseModel._predict_once` runs all; return the outputs that are read."""
    outputs = dict(known)
    for index in layers:
        layer = model.model[index]
        if layer.f != -1:
            sources = [layer.f] if isinstance(layer.f, int) else layer.f
            read = [x if source == -1 else outputs[source] for source in sources]
            x = read[0] if isinstance(layer.f, int) else read
        x = layer(x)
        if index in model.save or index == layers[-1]:
            outputs[index] = x
    return outputs
