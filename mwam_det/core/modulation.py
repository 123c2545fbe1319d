"""How the weights reach the training of a host model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from mwam_det.core.mwam import MWAM


class GradientModulator:
    """Multiply every gradient that reaches a stream's parameters by the weight of its modality.

    The hooks sit on the leaf parameters, so that each backward pass is scaled by the weights of *its own* mini-batch,
    and gradients accumulated over several mini-batches are the sum of separately scaled ones. Fusion, neck and head
    are not named in `streams` and keep their gradient. Scaling is exact for SGD with or without momentum; optimizers
    that normalise the gradient (Adam, AdamW, Muon) undo a constant factor in part or in whole.

    Attach it once the model is final, and call `MWAM.observe` before each backward pass. Hooks live in this process
    alone: copies and checkpoints of the model have none.

    Args:
        mwam: Source of the weights.
        streams: The parameters of each modality's backbone: a module or an iterable of parameters, by modality.
            Parameters that need no gradient are passed over.

    Raises:
        ValueError: If the names are not the modalities of `mwam`, a stream has no parameters, or a parameter belongs
            to two streams.
    """

    def __init__(self, mwam: MWAM, streams: Mapping[str, nn.Module | Iterable[nn.Parameter]]):
        if set(streams) != set(mwam.modalities):
            raise ValueError(f"streams name {sorted(streams)}, but the modalities are {sorted(mwam.modalities)}")
        self._mwam = mwam
        parameters = {
            name: list(stream.parameters() if isinstance(stream, nn.Module) else stream)
            for name, stream in streams.items()
        }
        owner: dict[nn.Parameter, str] = {}
        for name, stream in parameters.items():
            if not stream:
                raise ValueError(f"the stream of '{name}' has no parameters")
            for parameter in stream:
                if owner.setdefault(parameter, name) != name:
                    raise ValueError(f"a parameter belongs to the streams of both '{owner[parameter]}' and '{name}'")
        self._handles = [
            parameter.register_hook(lambda gradient, name=name: self._scale(gradient, name))
            for parameter, name in owner.items()
            if parameter.requires_grad
        ]

    def _scale(self, gradient: Tensor, name: str) -> Tensor:
        return gradient * self._mwam.weights[name].to(gradient.device)

    def remove(self) -> None:
        """Take all hooks off: gradients are left alone from now on."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
