"""ResNet and ResNeXt as D2L 8.6 builds them.

He et al., Deep residual learning for image recognition, 2016; Xie et al., Aggregated residual transformations for deep
neural networks, 2017. As in D2L, convolutions keep their bias, which the batch norm behind them makes idle.
"""

from collections import OrderedDict
from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from zoo.models.initialize import xavier

STAGES = ((2, 64), (2, 128), (2, 256), (2, 512))  # (blocks, channels) of each
# D2L calls this argument of its block `groups`, but divides by it: 64 channels make 4 groups, 512 make 32.
GROUP_CHANNELS = 16


def resnet18() -> nn.Sequential:
    """ResNet-18: float (N, 1, 96, 96) -> logits (N, 10); 11,178,378 parameters."""
    return residual_network(Residual)


def resnext() -> nn.Sequential:
    """ResNet-18's layout with ResNeXt blocks: float (N, 1, 96, 96) -> logits (N, 10); 1,697,546 parameters.

    D2L defines the block alone and tries `ResNeXtBlock(32, 16, 1)`; here blocks with its 16 and 1 replace those of its
    ResNet-18.
    """
    return residual_network(GroupedResidual)


def residual_network(block: Callable[[int, int, int], nn.Module]) -> nn.Sequential:
    """Stem, four stages, head; every stage but the first begins by halving the side.

    Args:
        block: makes one from (in_channels, channels, stride).
    """
    parts: OrderedDict[str, nn.Module] = OrderedDict(stem=stem())
    in_channels = 64
    for number, (blocks, channels) in enumerate(STAGES, start=1):
        first = block(in_channels, channels, 1 if number == 1 else 2)
        parts[f"stage{number}"] = nn.Sequential(first, *(block(channels, channels, 1) for _ in range(blocks - 1)))
        in_channels = channels
    parts["head"] = nn.Sequential(nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Linear(in_channels, 10))
    network = nn.Sequential(parts)
    xavier(network)
    return network


def stem() -> nn.Sequential:
    """A quarter of the side before the blocks begin: float (N, 1, H, W) -> (N, 64, H/4, W/4)."""
    return nn.Sequential(
        nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
    )


class Residual(nn.Module):
    """Two 3x3 convolutions and the addition of their input.

    float (N, in_channels, H, W) -> (N, channels, H/stride, W/stride); where the shape changes, the input goes through
    a 1x1 convolution first.
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, kernel_size=3, stride=stride, padding=1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module | None = None
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Conv2d(in_channels, channels, kernel_size=1, stride=stride)

    def forward(self, maps: Tensor) -> Tensor:
        change = F.relu(self.bn1(self.conv1(maps)))
        change = self.bn2(self.conv2(change))
        return F.relu(change + (maps if self.shortcut is None else self.shortcut(maps)))


class GroupedResidual(nn.Module):
    """ResNeXt's block: a 3x3 convolution in groups, between two 1x1: arguments and shapes as for `Residual`."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, kernel_size=1)
        self.bn1 = nn.BatchNorm2d(channels)
        groups = channels // GROUP_CHANNELS
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, stride=stride, padding=1, groups=groups)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, channels, kernel_size=1)
        self.bn3 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module | None = None
        if stride != 1 or in_channels != channels:
            # With batch norm, which D2L's plain block does not have here.
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels, kernel_size=1, stride=stride), nn.BatchNorm2d(channels)
            )

    def forward(self, maps: Tensor) -> Tensor:
        change = F.relu(self.bn1(self.conv1(maps)))
        change = F.relu(self.bn2(self.conv2(change)))
        change = self.bn3(self.conv3(change))
        return F.relu(change + (maps if self.shortcut is None else self.shortcut(maps)))
