"""ESANet-MD: RGB-D segmentation that fuses during extraction (arXiv 2011.06961), with modality access factors."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from operator import add
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import Bottleneck

from mwam_det.hosts.models.access import Access, modality_access
from mwam_det.hosts.models.encoders import SqueezeExcitation, resnet_encoder
from mwam_det.training.incomplete import Views

STRIDE = 32
"""Height and width of an input must be multiples of this."""

DECODER = (512, 256, 128)
"""Channels of the three decoder modules, at 1/32, 1/16 and 1/8 of the input."""

BLOCKS = 3
"""NonBottleneck1D blocks of a decoder module."""

BINS = (1, 5)
"""Sides of the grids that the context module pools to."""


class NonBottleneck1D(nn.Module):
    """A residual block of two 3×3 convolutions, each factorised into 3×1 and 1×3 (ERFNet).

    Its parameters have the names of ESANet's published code, so that the authors' encoders can be loaded. Its arguments
    are those of torchvision's blocks, so that torchvision's ResNet can be built from it.

    Args:
        inplanes: Channels of its input.
        planes: Channels of its output.
        stride: Of the first convolution.
        downsample: What brings the input to the shape of the output, or None.
        groups: 1.
        base_width: 64.
        dilation: 1.
        norm_layer: Not used: batch normalisation with ε = 1e-3.
    """

    expansion = 1

    def __init__(
        self, inplanes, planes, stride=1, downsample=None, groups=1, base_width=64, dilation=1, norm_layer=None
    ):
        super().__init__()
        self.conv3x1_1 = nn.Conv2d(inplanes, planes, (3, 1), (stride, 1), (1, 0))
        self.conv1x3_1 = nn.Conv2d(planes, planes, (1, 3), (1, stride), (0, 1))
        self.bn1 = nn.BatchNorm2d(planes, eps=1e-3)
        self.conv3x1_2 = nn.Conv2d(planes, planes, (3, 1), padding=(1, 0))
        self.conv1x3_2 = nn.Conv2d(planes, planes, (1, 3), padding=(0, 1))
        self.bn2 = nn.BatchNorm2d(planes, eps=1e-3)
        self.downsample = downsample

    def forward(self, features: Tensor) -> Tensor:
        """Return features of shape (B, planes, H / stride, W / stride)."""
        residual = F.relu(self.bn1(self.conv1x3_1(F.relu(self.conv3x1_1(features)))))
        residual = self.bn2(self.conv1x3_2(F.relu(self.conv3x1_2(residual))))
        return F.relu(residual + (features if self.downsample is None else self.downsample(features)))


ENCODERS = {
    "r18": (NonBottleneck1D, [2, 2, 2, 2]),
    "r34": (NonBottleneck1D, [3, 4, 6, 3]),
    "r50": (Bottleneck, [3, 4, 6, 3]),
}
"""Block and number of blocks a stage, by name."""


class LearnedUpsampling(nn.Module):
    """Double height and width: nearest neighbours, then a 3×3 depthwise convolution that begins as bilinear.

    Args:
        channels: Number of channels.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.smooth = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        ramp = torch.tensor([0.25, 0.5, 0.25])
        with torch.no_grad():
            self.smooth.weight.copy_(torch.outer(ramp, ramp).expand(channels, 1, 3, 3))
            self.smooth.get_parameter("bias").zero_()

    def forward(self, features: Tensor) -> Tensor:
        """Return features of shape (B, C, 2H, 2W)."""
        return self.smooth(F.interpolate(features, scale_factor=2, mode="nearest"))


class PyramidPooling(nn.Module):
    """The context module: features averaged over coarse grids, beside the features themselves.

    Args:
        channels: Channels of the input.
        out: Channels of the output.
    """

    def __init__(self, channels: int, out: int):
        super().__init__()
        width = channels // len(BINS)
        self.grids = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(side), *_conv(channels, width, 1)) for side in BINS
        )
        self.merge = _conv(channels + width * len(BINS), out, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return features of shape (B, out, H, W)."""
        size = features.shape[2:]
        pooled = [F.interpolate(grid(features), size, mode="nearest") for grid in self.grids]
        return self.merge(torch.cat([features, *pooled], 1))


class DecoderModule(nn.Module):
    """Convolution, NonBottleneck1D blocks, upsampling by 2, and the encoder's features of that size added.

    Args:
        channels: Channels of the input.
        out: Channels of the output.
        classes: Number of classes, for the side output.
    """

    def __init__(self, channels: int, out: int, classes: int):
        super().__init__()
        self.blocks = nn.Sequential(_conv(channels, out, 3), *(NonBottleneck1D(out, out) for _ in range(BLOCKS)))
        self.side = nn.Conv2d(out, classes, 1)
        self.upsample = LearnedUpsampling(out)

    def forward(self, features: Tensor, skip: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return features of the shape of `skip`, and in training the side output at the size of `features`."""
        features = self.blocks(features)
        side = self.side(features) if self.training else None
        return self.upsample(features) + skip, side


class ESANetMD(nn.Module):
    """ESANet with a factor for each modality that sets the features of a missing one to 0.

    An encoder for each of two modalities. At five places (behind the first convolution and each stage) the features of
    both are weighed by squeeze-and-excitation and added; the sum continues through the first modality's encoder, goes
    to the decoder as a skip connection, and at last to context module and decoder. A missing modality adds nothing
    anywhere. With one modality it is what the published code calls ESANet for one modality, weighed at the same places.

    Args:
        channels: Channels of both modalities by name, or of one; the first is the one whose encoder takes in the other,
            RGB in the paper.
        classes: Number of classes.
        encoder: One of `ENCODERS`: ResNet-18 and -34 of NonBottleneck1D blocks, ResNet-50 of bottlenecks.

    Attributes:
        streams: The encoder of each modality. Gradients of the first one's stages also come from the other's features;
            fusion, skip connections and decoder belong to none.

    Raises:
        ValueError: If there are more than two modalities, or the encoder is unknown.
    """

    def __init__(self, channels: Mapping[str, int], classes: int, encoder: str = "r34"):
        super().__init__()
        if len(channels) not in (1, 2):
            raise ValueError(f"ESANet takes two modalities, like rgb and depth, or one, not {', '.join(channels)}")
        if encoder not in ENCODERS:
            raise ValueError(f"encoder={encoder!r} must be one of {', '.join(ENCODERS)}")
        block, layers = ENCODERS[encoder]
        self.streams = nn.ModuleDict({name: resnet_encoder(block, layers, count) for name, count in channels.items()})
        widths = [64, *(stage * block.expansion for stage in (64, 128, 256, 512))]
        self.excite = nn.ModuleDict(
            {name: nn.ModuleList(SqueezeExcitation(width) for width in widths) for name in channels}
        )
        self.context = PyramidPooling(widths[4], DECODER[0])
        self.skips = nn.ModuleList(_conv(width, out, 1) for width, out in zip(widths[3:0:-1], DECODER, strict=True))
        inputs = (DECODER[0], *DECODER)
        self.decoder = nn.ModuleList(DecoderModule(inputs[i], DECODER[i], classes) for i in range(len(DECODER)))
        self.head = nn.Sequential(
            nn.Conv2d(DECODER[-1], classes, 3, padding=1), LearnedUpsampling(classes), LearnedUpsampling(classes)
        )

    @property
    def encoders(self) -> dict[str, nn.Module]:
        """The networks that pretrained weights are loaded into, by modality."""
        return dict(self.streams)

    def forward(self, inputs: Mapping[str, Tensor], views: Views | None = None) -> Tensor | list[Tensor]:
        """Segment normalised images.

        Args:
            inputs: By modality, shape (B, C_m, H, W); H and W multiples of `STRIDE`.
            views: How a training step sees them. Stems and the second encoder run once; the first encoder, which takes
                in what is fused, runs on all views.

        Returns:
            Logits of shape (B, classes, H, W), or (V·B, classes, H, W); in training a list of them and of the side
            outputs at 1/8, 1/16 and 1/32 of the size.
        """
        access = modality_access(inputs, views)
        by_name = {name: _stem(encoder, inputs[name]) for name, encoder in self.streams.items()}
        fused = self._fuse(0, by_name, access)
        main = next(iter(self.streams))
        by_name[main] = fused
        streams: dict[str, Any] = dict(self.streams)  # resnets, whose layers are looked up by name
        by_name = {name: streams[name].maxpool(features) for name, features in by_name.items()}
        skips = []
        for stage in range(1, 5):
            by_name = {name: getattr(streams[name], f"layer{stage}")(features) for name, features in by_name.items()}
            by_name[main] = fused = self._fuse(stage, by_name, access)
            skips.append(fused)
        features = self.context(fused)
        outputs = []
        for module, skip, encoded in zip(self.decoder, self.skips, skips[2::-1], strict=True):
            features, side = module(features, skip(encoded))
            outputs.append(side)
        logits = self.head(features)
        return [logits, *outputs[::-1]] if self.training else logits

    def _fuse(self, place: int, by_name: Mapping[str, Tensor], access: Access) -> Tensor:
        excite: Any = self.excite  # a dictionary of lists
        return reduce(add, (access(name, excite[name][place](features)) for name, features in by_name.items()))


def _stem(encoder: Any, images: Tensor) -> Tensor:
    return encoder.relu(encoder.bn1(encoder.conv1(images)))


def _conv(channels: int, out: int, side: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, out, side, padding=side // 2, bias=False), nn.BatchNorm2d(out), nn.ReLU())
