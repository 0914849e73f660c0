"""GoogLeNet as D2L 8.4 builds it: Szegedy et al., Going deeper with convolutions, 2015."""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.models.initialize import xavier


def googlenet() -> nn.Sequential:
    """Nine Inception blocks in three modules: float (N, 1, 96, 96) -> logits (N, 10); 5,977,530 parameters.

    Like D2L's, it leaves out the original's auxiliary classifiers.
    """
    network = nn.Sequential(
        OrderedDict(
            module1=nn.Sequential(  # (N, 64, 24, 24)
                nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3),
                nn.ReLU(),
                _halve(),
            ),
            module2=nn.Sequential(  # (N, 192, 12, 12)
                nn.Conv2d(64, 64, kernel_size=1),
                nn.ReLU(),
                nn.Conv2d(64, 192, kernel_size=3, padding=1),
                nn.ReLU(),
                _halve(),
            ),
            module3=nn.Sequential(  # (N, 480, 6, 6)
                Inception(192, 64, (96, 128), (16, 32), 32),
                Inception(256, 128, (128, 192), (32, 96), 64),
                _halve(),
            ),
            module4=nn.Sequential(  # (N, 832, 3, 3)
                Inception(480, 192, (96, 208), (16, 48), 64),
                Inception(512, 160, (112, 224), (24, 64), 64),
                Inception(512, 128, (128, 256), (24, 64), 64),
                Inception(512, 112, (144, 288), (32, 64), 64),
                Inception(528, 256, (160, 320), (32, 128), 128),
                _halve(),
            ),
            module5=nn.Sequential(  # (N, 1024)
                Inception(832, 256, (160, 320), (32, 128), 128),
                Inception(832, 384, (192, 384), (48, 128), 128),
                nn.AdaptiveAvgPool2d((1, 1)),
                nn.Flatten(),
            ),
            output=nn.Linear(1024, 10),
        )
    )
    xavier(network)
    return network


def _halve() -> nn.MaxPool2d:
    return nn.MaxPool2d(kernel_size=3, stride=2, padding=1)


class Inception(nn.Module):
    """Four branches, concatenated: float (N, in_channels, H, W) -> (N, C, H, W), C the sum of their channels.

    Args:
        in_channels: channels in.
        ones: channels of the branch of one 1x1 convolution.
        threes: of the branch of a 1x1 and a 3x3 convolution, after each.
        fives: of the branch of a 1x1 and a 5x5 convolution, after each.
        pooled: of the branch of a 3x3 pooling and a 1x1 convolution.
    """

    def __init__(
        self, in_channels: int, ones: int, threes: tuple[int, int], fives: tuple[int, int], pooled: int
    ) -> None:
        super().__init__()
        self.ones = nn.Conv2d(in_channels, ones, kernel_size=1)
        self.threes_reduce = nn.Conv2d(in_channels, threes[0], kernel_size=1)
        self.threes = nn.Conv2d(threes[0], threes[1], kernel_size=3, padding=1)
        self.fives_reduce = nn.Conv2d(in_channels, fives[0], kernel_size=1)
        self.fives = nn.Conv2d(fives[0], fives[1], kernel_size=5, padding=2)
        self.pool = nn.MaxPool2d(kernel_size=3, stride=1, padding=1)
        self.pooled = nn.Conv2d(in_channels, pooled, kernel_size=1)

    def forward(self, maps: Tensor) -> Tensor:
        branches = (
            self.ones(maps),
            self.threes(F.relu(self.threes_reduce(maps))),
            self.fives(F.relu(self.fives_reduce(maps))),
            self.pooled(self.pool(maps)),
        )
        return torch.cat([F.relu(branch) for branch in branches], dim=1)
