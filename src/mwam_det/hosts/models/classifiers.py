"""Multimodal classifiers: ResNet-18 with concatenation, and SF-MD."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from mwam_det.hosts.models.access import modality_access
from mwam_det.hosts.models.encoders import STEM, SqueezeExcitation, resnet_encoder
from mwam_det.training.incomplete import Views

RESNET18 = [2, 2, 2, 2]

STREAM_WIDTH = 128
"""Channels of what a stream of SF-MD puts out."""


class StreamClassifier(nn.Module):
    """A classifier with a stream for each modality, which begins with a ResNet of torchvision's.

    Args:
        streams: The encoder of each modality, up to the fusion.

    Attributes:
        streams: As given.
    """

    def __init__(self, streams: Mapping[str, nn.Sequential]):
        super().__init__()
        self.streams = nn.ModuleDict(streams)

    @property
    def encoders(self) -> dict[str, nn.Module]:
        """The networks that pretrained weights are loaded into, by modality."""
        streams: dict[str, Any] = dict(self.streams)
        return {name: stream[0].resnet for name, stream in streams.items()}

    def concatenated(self, inputs: Mapping[str, Tensor], views: Views | None) -> Tensor:
        """Return the features of all streams, concatenated, those of missing modalities 0; see `modality_access`."""
        access = modality_access(inputs, views)
        return torch.cat([access(name, stream(inputs[name])) for name, stream in self.streams.items()], 1)


class ResNet18Concat(StreamClassifier):
    """A ResNet-18 for each modality; their features, averaged over the image, are concatenated and classified.

    What the paper calls vanilla ResNet-18 with fusion by concatenation (Tables 13, 14 and 22), for two or more
    modalities; of one it is a plain ResNet-18. The features of a missing modality are 0.

    Args:
        channels: Channels of each modality by name.
        classes: Number of classes.

    Attributes:
        streams: The encoder of each modality.
    """

    def __init__(self, channels: Mapping[str, int], classes: int):
        super().__init__(
            {
                name: nn.Sequential(_trunk(count, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
                for name, count in channels.items()
            }
        )
        self.head = nn.Linear(512 * len(channels), classes)

    def forward(self, inputs: Mapping[str, Tensor], views: Views | None = None) -> Tensor:
        """Classify normalised images, shape (B, C_m, H_m, W_m) by modality: logits of shape (B, classes).

        With `views`, a training step's, of shape (V·B, classes).
        """
        return self.head(self.concatenated(inputs, views))


class SFMD(StreamClassifier):
    """The baseline of CASIA-SURF (arXiv 1812.00408) with modality access factors, which the paper calls SF-MD.

    A ResNet-18 for each modality up to its third stage ("res3", after the first convolution and a stage of 64 channels:
    torchvision's layer2), whose channels are weighed by squeeze-and-excitation; these are concatenated, and the last
    two stages and the classifier see all modalities together. The features of a missing modality are 0 behind its
    stream.

    The paper counts 13.18 M parameters for three modalities and two classes, which is what `stem=3` has, the first
    convolutions of the authors. With torchvision's of 7×7, which take its ImageNet weights, it is 13.21 M.

    Args:
        channels: Channels of each modality by name.
        classes: Number of classes.
        stem: Side of the kernels of the first convolutions, odd.

    Attributes:
        streams: The encoder of each modality, up to the fusion.
        fused: What sees all modalities; puts out features of shape (B, 512, h, w).
        head: The classifier.
    """

    def __init__(self, channels: Mapping[str, int], classes: int, stem: int = STEM):
        super().__init__(
            {
                name: nn.Sequential(_trunk(count, 2, stem), SqueezeExcitation(STREAM_WIDTH))
                for name, count in channels.items()
            }
        )
        self.fused, self.head = fused_stages(STREAM_WIDTH * len(channels)), classifier(classes)

    def forward(self, inputs: Mapping[str, Tensor], views: Views | None = None) -> Tensor:
        """Classify normalised images, shape (B, C_m, H, W) by modality: logits of shape (B, classes).

        With `views`, a training step's, of shape (V·B, classes).
        """
        return self.head(self.fused(self.concatenated(inputs, views)))


def fused_stages(channels: int) -> nn.Sequential:
    """Build the last two stages of a ResNet-18, from `channels` to 512, initialised as torchvision's are."""

    def stage(before: int, after: int) -> list[BasicBlock]:
        shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride=2, bias=False), nn.BatchNorm2d(after))
        return [BasicBlock(before, after, 2, shortcut), BasicBlock(after, after)]

    stages = nn.Sequential(*stage(channels, 256), *stage(256, 512))
    for module in stages.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return stages


def classifier(classes: int) -> nn.Sequential:
    """Build the classifier of the features of `fused_stages`."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, classes))


class _Trunk(nn.Module):
    """The stages of a ResNet, without pooling and classifier, which torchvision's own forward has."""

    def __init__(self, resnet: nn.Module):
        super().__init__()
        self.resnet = resnet

    def forward(self, images: Tensor) -> Tensor:
        net: Any = self.resnet
        features = net.maxpool(net.relu(net.bn1(net.conv1(images))))
        return net.layer4(net.layer3(net.layer2(net.layer1(features))))


def _trunk(channels: int, stages: int, stem: int = STEM) -> _Trunk:
    return _Trunk(resnet_encoder(BasicBlock, RESNET18, channels, stages, stem))
