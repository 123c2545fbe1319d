"""What the hosts' encoders are made of: torchvision's ResNets, squeeze-and-excitation, pretrained weights."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import resnet

PREFIX = "encoder."
"""Prefix of an encoder's weights in the checkpoints of ESANet's pretraining."""

STEM = 7
"""Side of the kernels of the first convolution of torchvision's ResNets."""

REDUCTION = 16
"""Factor by which squeeze-and-excitation reduces the channels."""


class SqueezeExcitation(nn.Module):
    """Weigh the channels of a feature map by what they hold on average (arXiv 1709.01507).

    Args:
        channels: Number of channels.
    """

    def __init__(self, channels: int):
        super().__init__()
        squeezed = max(channels // REDUCTION, 1)
        self.weights = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            nn.ReLU(),
            nn.Conv2d(squeezed, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return the weighted features, in the shape given, (B, C, H, W)."""
        return features * self.weights(features)


def resnet_encoder(
    block: type[nn.Module], layers: list[int], channels: int = 3, stages: int = 4, stem: int = STEM
) -> resnet.ResNet:
    """Build a ResNet of torchvision without its classifier and its later stages.

    Args:
        block: Class of its blocks.
        layers: Number of blocks of each of the four stages.
        channels: Channels of its input.
        stages: How many stages are kept.
        stem: Side of the kernels of the first convolution, odd.

    Returns:
        The network, with torchvision's names of parameters; what is left out is replaced by identities.
    """
    encoder = resnet.ResNet(block, layers)
    if (channels, stem) != (3, STEM):
        encoder.conv1 = nn.Conv2d(channels, 64, stem, stride=2, padding=stem // 2, bias=False)
        nn.init.kaiming_normal_(encoder.conv1.weight, mode="fan_out", nonlinearity="relu")
    for stage in range(stages + 1, 5):
        setattr(encoder, f"layer{stage}", nn.Identity())
    encoder.avgpool = encoder.fc = nn.Identity()
    return encoder


def load_encoders(encoders: Mapping[str, nn.Module], pretrained: str | Mapping[str, str]) -> None:
    """Fill encoders with weights from local files, such as torchvision's or ESANet's of ImageNet.

    A file holds a state dict, or a checkpoint with one under the key "state_dict". Where names begin with "encoder.",
    as in the files of ESANet's pretraining, only those are the encoder's; "module." in front of names is passed over.
    A classifier in a file is left out, as are stages that an encoder lacks. Counters of batch normalisation
    (num_batches_tracked), which torchvision's older files lack, may be missing. The first convolution of an encoder
    with one input channel gets the sum of the file's over its three.

    Args:
        encoders: The encoders by modality.
        pretrained: A file with a state dict for all of them, or one by modality; those not named stay as they are.

    Raises:
        ValueError: If a modality is unknown, a file is missing or is not a state dict, lacks weights of the encoder, or
            has weights that are not finite numbers.
    """
    files = pretrained if isinstance(pretrained, Mapping) else dict.fromkeys(encoders, pretrained)
    for name, file in files.items():
        if name not in encoders:
            raise ValueError(f"pretrained names '{name}': choose from {', '.join(encoders)}")
        if not isinstance(file, str | Path) or not os.path.isfile(file):
            raise ValueError(f"pretrained={file} is not a file; weights are not downloaded")
        _load(encoders[name], Path(file))


def _load(encoder: nn.Module, file: Path) -> None:
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # of a damaged archive or pickle, of many kinds
        raise ValueError(f"pretrained={file} cannot be read as weights: {' '.join(str(error).split())}") from None
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    named = isinstance(content, Mapping) and all(isinstance(key, str) for key in content)
    if not named or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"pretrained={file} holds no state dict")
    if wrong := next((key for key, value in content.items() if not value.isfinite().all()), None):
        raise ValueError(f"pretrained={file} has weights that are not finite numbers, such as {wrong}")
    wanted = encoder.state_dict()
    given = {key.removeprefix("module."): value for key, value in content.items()}
    if any(key.startswith(PREFIX) for key in given):
        given = {key.removeprefix(PREFIX): value for key, value in given.items() if key.startswith(PREFIX)}
    given = {key: value for key, value in wanted.items() if key.endswith(".num_batches_tracked")} | given
    first = given.get("conv1.weight")
    if first is not None and first.ndim == 4 and first.shape[1] == 3 and wanted["conv1.weight"].shape[1] == 1:
        given["conv1.weight"] = first.sum(1, keepdim=True)
    if unfit := [key for key, value in wanted.items() if key not in given or given[key].shape != value.shape]:
        raise ValueError(
            f"pretrained={file} does not fit: it lacks {len(unfit)} of {len(wanted)} weights of the encoder, such as "
            f"{unfit[0]} of shape {tuple(wanted[unfit[0]].shape)}"
        )
    encoder.load_state_dict({key: given[key] for key in wanted})
