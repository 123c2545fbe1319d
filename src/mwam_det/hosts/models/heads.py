"""Auxiliary heads: a classifier on each stream, in training alone."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class ClassifierHeads(nn.Module):
    """A linear classifier on what each stream puts out, for the losses L(y, y_m) of Eq. 7.

    The heads are not part of the model: its parameters and checkpoints stay as they are. Forward hooks on the streams
    keep their output until the losses are computed.

    Args:
        model: The host; it runs once on `inputs`.
        streams: Its streams by modality.
        inputs: Inputs of one sample by modality, which the sizes of the heads are found from.
        classes: Number of classes.

    Raises:
        ValueError: If the host does not call a stream as a module, so that it has no output of its own.
    """

    def __init__(self, model: nn.Module, streams: Mapping[str, nn.Module], inputs: Mapping[str, Tensor], classes: int):
        super().__init__()
        self._features: dict[str, Tensor] = {}
        self._handles = [
            stream.register_forward_hook(lambda module, args, output, name=name: self._keep(name, output))
            for name, stream in streams.items()
        ]
        was_training = model.training
        with torch.no_grad():
            model.eval()(inputs)
        model.train(was_training)
        if lacking := [name for name in streams if not isinstance(self._features.get(name), Tensor)]:
            self.remove()
            raise ValueError(
                f"mwam.mode=loss and hybrid need what each stream puts out by itself, but {type(model).__name__} fuses "
                f"inside its streams ({', '.join(lacking)}): use gradient, update or auto"
            )
        widths = {name: features.shape[1] for name, features in self._features.items()}
        self.heads = nn.ModuleDict({name: nn.Linear(width, classes) for name, width in widths.items()})
        self._features.clear()

    def _keep(self, name: str, output: Tensor) -> None:
        self._features[name] = output

    def forward(self) -> dict[str, Tensor]:
        """Classify by each stream's output of the last forward pass: logits of shape (B, classes) by modality."""
        features = {name: kept.mean((2, 3)) if kept.ndim == 4 else kept for name, kept in self._features.items()}
        self._features.clear()
        return {name: head(features[name]) for name, head in self.heads.items()}

    def remove(self) -> None:
        """Remove the hooks from the streams."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
