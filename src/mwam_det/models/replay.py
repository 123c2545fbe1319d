"""Running a model once more with another input for some streams, at the cost of these streams, neck and head alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from mwam_det.models.stock import StockModel
from mwam_det.training.measuring import evaluating


def levels_of(model: StockModel) -> dict[str, list[int]]:
    """Return the layers that put out what is fused of each modality, by modality, ascending.

    Args:
        model: A model that `build_two_stream` built.
    """
    return model.yaml.get("levels") or {name: _outputs_of_stream(model, name) for name in model.yaml["streams"]}


def _outputs_of_stream(model: StockModel, name: str) -> list[int]:
    """Return the layers of a stream that later ones read, ascending: its levels, unless the backbone is shared.

    The levels of a shared backbone lie behind it, where the mini-batch is taken apart again.
    """
    first, end = model.yaml["streams"][name]
    later = model.model[_end_of_streams(model) :]
    read = {source for layer in later for source in ([layer.f] if isinstance(layer.f, int) else layer.f)}
    return sorted(read & set(range(first, end)))


def _end_of_streams(model: StockModel) -> int:
    return max(end for _, end in model.yaml["streams"].values())


class FeatureTap:
    """Keep what the levels of every stream put out in a forward pass. Hooks sit on the model until `remove`.

    Args:
        model: A model that `build_two_stream` built.
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
        """Return the levels of the last forward pass by modality, and let go of them."""
        taken = {name: [self._features[index] for index in levels] for name, levels in self._levels.items()}
        self._features.clear()
        return taken

    def remove(self) -> None:
        """Take the hooks off the model."""
        for handle in self._handles:
            handle.remove()

    def __enter__(self) -> FeatureTap:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()


def run_stream(model: StockModel, name: str, images: Tensor) -> list[Tensor]:
    """Run the backbone of one modality.

    Args:
        model: A model that `build_two_stream` built.
        name: The modality.
        images: Its images, shape (B, C_m, H, W), in the range and dtype that the model takes.

    Returns:
        Its levels, as `FeatureTap.take` returns them.
    """
    first, end = model.yaml["streams"][name]
    outputs = _run(model, range(first + 1, end), images, {})  # the first layer picks the modality from the stack
    return [outputs[index] for index in _outputs_of_stream(model, name)]


@torch.no_grad()
def run_stream_on_zeros(model: StockModel, name: str, images: Tensor) -> list[Tensor]:
    """Return what inference sees of a modality that is missing: the levels of its stream for one image of zeros.

    Batch norms and all else are as in evaluation, whatever the mode of the model, which stays as it is.

    Args:
        model: A model that `build_two_stream` built.
        name: The modality.
        images: Stacked modalities whose size, dtype and device the zeros get, shape (B, ΣC_m, H, W).

    Returns:
        Its levels, shapes (1, C_l, H_l, W_l), without gradient.
    """
    first, end = model.yaml["streams"][name]
    with evaluating(module for layer in model.model[first:end] for module in layer.modules()), _uncached(images):
        return run_stream(model, name, images.new_zeros(1, model.yaml["modalities"][name], *images.shape[2:]))


def _uncached(images: Tensor) -> AbstractContextManager:
    """Switch the cache of autocast off: a weight that is cast without gradient would have none in the step itself."""
    device = images.device.type
    return torch.autocast(
        device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device), cache_enabled=False
    )


def run_from_levels(model: StockModel, features: Mapping[str, Sequence[Tensor]]) -> Any:
    """Run fusion, neck and head on the levels of all streams, and return what the model returns.

    Args:
        model: A model that `build_two_stream` built.
        features: Levels by modality, as `FeatureTap.take` returns them.
    """
    levels = levels_of(model)
    known = {level: f for name in levels for level, f in zip(levels[name], features[name], strict=True)}
    last = len(model.model) - 1
    first = 1 + max(known) if model.yaml.get("share_backbone") else _end_of_streams(model)
    return _run(model, range(first, last + 1), None, known)[last]


def _run(model: StockModel, layers: range, x: Any, known: Mapping[int, Any]) -> dict[int, Any]:
    """Run some layers as `ultralytics.nn.tasks.BaseModel._predict_once` runs all, and return what others read."""
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
