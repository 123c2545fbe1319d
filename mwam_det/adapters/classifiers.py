"""Multimodal classifiers: ResNet-18 with concatenation, and SF-MD."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from mwam_det.adapters.access import modality_access
from mwam_det.adapters.encoders import SqueezeExcitation, resnet_encoder

RESNET18 = [2, 2, 2, 2]


class ResNet18Concat(nn.Module):
    """A ResNet-18 for each modality; their features, averaged over the image, are concatenated and classified.

    What the paper calls vanilla ResNet-18 with fusion by concatenation (Tables 13, 14 and 22), for two or more
    modalities. The features of a missing modality are 0.

    Args:
        channels: Channels of each modality by name.
        classes: Number of classes.

    Attributes:
        streams: The encoder of each modality.
    """

    def __init__(self, channels: Mapping[str, int], classes: int):
        super().__init__()
        self.streams = nn.ModuleDict(
            {
                name: nn.Sequential(_trunk(own, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
                for name, own in channels.items()
            }
        )
        self.head = nn.Linear(512 * len(channels), classes)

    @property
    def encoders(self) -> dict[str, nn.Module]:
        """What pretrained weights go to."""
        return {name: stream[0].resnet for name, stream in self.streams.items()}

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Classify normalised images, shape (B, C_m, H_m, W_m) by modality: logits of shape (B, classes)."""
        access = modality_access(inputs)
        features = [stream(inputs[name]) * access[name].flatten(1) for name, stream in self.streams.items()]
        return self.head(torch.cat(features, 1))


class SFMD(nn.Module):
    """The baseline of CASIA-SURF (arXiv 1812.00408) with modality access factors, which the paper calls SF-MD.

    A ResNet-18 for each modality up to its third stage, whose channels are weighed by squeeze-and-excitation; these are
    concatenated, and the fourth stage and the classifier see all modalities together. The features of a missing
    modality are 0 behind its stream.

    Args:
        channels: Channels of each modality by name.
        classes: Number of classes.

    Attributes:
        streams: The encoder of each modality, up to the fusion.
    """

    def __init__(self, channels: Mapping[str, int], classes: int):
        super().__init__()
        self.streams = nn.ModuleDict(
            {name: nn.Sequential(_trunk(own, 3), SqueezeExcitation(256)) for name, own in channels.items()}
        )
        width = 256 * len(channels)
        shortcut = nn.Sequential(nn.Conv2d(width, 512, 1, stride=2, bias=False), nn.BatchNorm2d(512))
        self.fused = nn.Sequential(BasicBlock(width, 512, 2, shortcut), BasicBlock(512, 512))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, classes))

    @property
    def encoders(self) -> dict[str, nn.Module]:
        """What pretrained weights go to."""
        return {name: stream[0].resnet for name, stream in self.streams.items()}

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Classify normalised images, shape (B, C_m, H, W) by modality: logits of shape (B, classes)."""
        access = modality_access(inputs)
        features = [stream(inputs[name]) * access[name] for name, stream in self.streams.items()]
        return self.head(self.fused(torch.cat(features, 1)))


class _Trunk(nn.Module):
    """The stages of a ResNet, without pooling and classifier, which torchvision's own forward has."""

    def __init__(self, resnet: nn.Module):
        super().__init__()
        self.resnet = resnet

    def forward(self, images: Tensor) -> Tensor:
        net = self.resnet
        features = net.maxpool(net.relu(net.bn1(net.conv1(images))))
        return net.layer4(net.layer3(net.layer2(net.layer1(features))))


def _trunk(channels: int, stages: int) -> _Trunk:
    return _Trunk(resnet_encoder(BasicBlock, RESNET18, channels, stages))
