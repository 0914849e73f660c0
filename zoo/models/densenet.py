"""DenseNet as D2L 8.7 builds it: Huang et al., Densely connected convolutional networks, 2017."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from zoo.models.initialize import xavier
from zoo.models.resnet import stem

BLOCKS = (4, 4, 4, 4)  # convolutions in each dense block
GROWTH = 32  # channels that each of them adds


def densenet() -> nn.Sequential:
    """Four dense blocks with transitions between them: float (N, 1, 96, 96) -> logits (N, 10); 758,226 parameters."""
    parts: OrderedDict[str, nn.Module] = OrderedDict(stem=stem())
    channels = 64
    for number, convolutions in enumerate(BLOCKS, start=1):
        parts[f"dense{number}"] = DenseBlock(convolutions, channels, GROWTH)
        channels += convolutions * GROWTH
        if number < len(BLOCKS):
            parts[f"transition{number}"] = transition(channels, channels // 2)
            channels //= 2
    parts["head"] = nn.Sequential(
        nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Linear(channels, 10)
    )
    network = nn.Sequential(parts)
    xavier(network)
    return network


class DenseBlock(nn.Sequential):
    """Each convolution takes all outputs before it: float (N, C, H, W) -> (N, C + convolutions * growth, H, W)."""

    def __init__(self, convolutions: int, in_channels: int, growth: int) -> None:
        widths = range(in_channels, in_channels + convolutions * growth, growth)
        super().__init__(*(dense_layer(channels, growth) for channels in widths))

    def forward(self, maps: Tensor) -> Tensor:
        for layer in self:
            maps = torch.cat([maps, layer(maps)], dim=1)
        return maps


def dense_layer(in_channels: int, growth: int) -> nn.Sequential:
    """One convolution of a dense block: float (N, in_channels, H, W) -> (N, growth, H, W)."""
    return nn.Sequential(
        nn.BatchNorm2d(in_channels), nn.ReLU(), nn.Conv2d(in_channels, growth, kernel_size=3, padding=1)
    )


def transition(in_channels: int, channels: int) -> nn.Sequential:
    """Half the side and fewer channels: float (N, in_channels, H, W) -> (N, channels, H/2, W/2)."""
    return nn.Sequential(
        nn.BatchNorm2d(in_channels),
        nn.ReLU(),
        nn.Conv2d(in_channels, channels, kernel_size=1),
        nn.AvgPool2d(kernel_size=2, stride=2),
    )
