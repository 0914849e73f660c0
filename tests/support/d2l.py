"""The networks of D2L chapters 7 and 8, transcribed from D2L independently of `zoo.models`.

The input channels of a layer are left to PyTorch's lazy modules, as in D2L, so that a wrong number in `zoo.models` is
not repeated here. The children of each network are the rows that D2L prints.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import AvgPool2d, Dropout, Flatten, LazyBatchNorm2d, LazyConv2d, LazyLinear, MaxPool2d, ReLU, Sequential
from torch.nn.functional import relu


def lenet(activation: type[nn.Module], pooling: type[nn.Module]) -> nn.Module:
    convolutions = [LazyConv2d(6, 5, padding=2), activation(), pooling(2), LazyConv2d(16, 5), activation(), pooling(2)]
    return Sequential(
        *convolutions, Flatten(), LazyLinear(120), activation(), LazyLinear(84), activation(), LazyLinear(10)
    )


def hidden() -> list[nn.Module]:
    return [LazyLinear(4096), ReLU(), Dropout(0.5)]


def alexnet() -> nn.Module:
    layers: list[nn.Module] = []
    for channels, kernel, stride, padding, pooled in (
        (96, 11, 4, 1, True),
        (256, 5, 1, 2, True),
        (384, 3, 1, 1, False),
        (384, 3, 1, 1, False),
        (256, 3, 1, 1, True),
    ):
        layers += [LazyConv2d(channels, kernel, stride, padding), ReLU()] + [MaxPool2d(3, 2)] * pooled
    return Sequential(*layers, Flatten(), *hidden(), *hidden(), LazyLinear(10))


def vgg(*widths: int) -> nn.Module:
    counts = (1, 1, 2, 2, 2)  # eight convolutions and three dense layers: VGG-11
    blocks = []
    for count, width in zip(counts, widths, strict=True):
        pairs = [(LazyConv2d(width, 3, padding=1), ReLU()) for _ in range(count)]
        blocks.append(Sequential(*(layer for pair in pairs for layer in pair), MaxPool2d(2, 2)))
    return Sequential(*blocks, Flatten(), *hidden(), *hidden(), LazyLinear(10))


def nin() -> nn.Module:
    def block(channels: int, kernel: int, stride: int, padding: int) -> nn.Module:
        pixelwise = [LazyConv2d(channels, 1), ReLU(), LazyConv2d(channels, 1), ReLU()]
        return Sequential(LazyConv2d(channels, kernel, stride, padding), ReLU(), *pixelwise)

    halving = partial(MaxPool2d, 3, stride=2)
    first = [block(96, 11, 4, 0), halving(), block(256, 5, 1, 2), halving(), block(384, 3, 1, 1), halving()]
    return Sequential(*first, Dropout(0.5), block(10, 3, 1, 1), nn.AdaptiveAvgPool2d(1), Flatten())


class Inception(nn.Module):
    def __init__(self, c1: int, c2: tuple[int, int], c3: tuple[int, int], c4: int) -> None:
        super().__init__()
        self.path1 = Sequential(LazyConv2d(c1, 1), ReLU())
        self.path2 = Sequential(LazyConv2d(c2[0], 1), ReLU(), LazyConv2d(c2[1], 3, padding=1), ReLU())
        self.path3 = Sequential(LazyConv2d(c3[0], 1), ReLU(), LazyConv2d(c3[1], 5, padding=2), ReLU())
        self.path4 = Sequential(MaxPool2d(3, 1, 1), LazyConv2d(c4, 1), ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.path1(x), self.path2(x), self.path3(x), self.path4(x)), 1)


def googlenet() -> nn.Module:
    halving = partial(MaxPool2d, 3, 2, 1)
    b1 = Sequential(LazyConv2d(64, 7, 2, 3), ReLU(), halving())
    b2 = Sequential(LazyConv2d(64, 1), ReLU(), LazyConv2d(192, 3, padding=1), ReLU(), halving())
    b3 = Sequential(Inception(64, (96, 128), (16, 32), 32), Inception(128, (128, 192), (32, 96), 64), halving())
    b4 = Sequential(
        Inception(192, (96, 208), (16, 48), 64),
        Inception(160, (112, 224), (24, 64), 64),
        Inception(128, (128, 256), (24, 64), 64),
        Inception(112, (144, 288), (32, 64), 64),
        Inception(256, (160, 320), (32, 128), 128),
        halving(),
    )
    b5 = Sequential(
        Inception(256, (160, 320), (32, 128), 128),
        Inception(384, (192, 384), (48, 128), 128),
        nn.AdaptiveAvgPool2d(1),
        Flatten(),
    )
    return Sequential(b1, b2, b3, b4, b5, LazyLinear(10))


class Sum(nn.Module):
    """ReLU of the sum of a path and its bypass, both applied to the input."""

    def __init__(self, path: nn.Module, bypass: nn.Module) -> None:
        super().__init__()
        self.path, self.bypass = path, bypass

    def forward(self, x: Tensor) -> Tensor:
        return relu(self.path(x) + self.bypass(x))


def residual(channels: int, shrinks: bool) -> nn.Module:
    stride = 2 if shrinks else 1
    path = Sequential(
        LazyConv2d(channels, 3, stride, 1), LazyBatchNorm2d(), ReLU(), LazyConv2d(channels, 3, 1, 1), LazyBatchNorm2d()
    )
    return Sum(path, LazyConv2d(channels, 1, stride) if shrinks else Sequential())


def resnext_block(channels: int, shrinks: bool) -> nn.Module:
    """ResNeXtBlock(channels, 16, 1): D2L divides the channels by its argument `groups`, here 16."""
    stride = 2 if shrinks else 1
    path = Sequential(
        LazyConv2d(channels, 1),
        LazyBatchNorm2d(),
        ReLU(),
        LazyConv2d(channels, 3, stride, 1, groups=channels // 16),
        LazyBatchNorm2d(),
        ReLU(),
        LazyConv2d(channels, 1),
        LazyBatchNorm2d(),
    )
    return Sum(path, Sequential(LazyConv2d(channels, 1, stride), LazyBatchNorm2d()) if shrinks else Sequential())


def stem() -> nn.Module:
    return Sequential(LazyConv2d(64, 7, 2, 3), LazyBatchNorm2d(), ReLU(), MaxPool2d(3, 2, 1))


def resnet(block: Callable[[int, bool], nn.Module]) -> nn.Module:
    stages = [Sequential(block(width, width > 64), block(width, False)) for width in (64, 128, 256, 512)]
    return Sequential(stem(), *stages, Sequential(nn.AdaptiveAvgPool2d(1), Flatten(), LazyLinear(10)))


class Dense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers = [Sequential(LazyBatchNorm2d(), ReLU(), LazyConv2d(32, 3, padding=1)) for _ in range(4)]
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat((x, layer(x)), 1)
        return x


def densenet() -> nn.Module:
    def transition(channels: int) -> nn.Module:
        return Sequential(LazyBatchNorm2d(), ReLU(), LazyConv2d(channels, 1), AvgPool2d(2, 2))

    # Half of 64 + 4 * 32, half of 96 + 4 * 32, half of 112 + 4 * 32.
    body = [Dense(), transition(96), Dense(), transition(112), Dense(), transition(120), Dense()]
    head = Sequential(LazyBatchNorm2d(), ReLU(), nn.AdaptiveAvgPool2d(1), Flatten(), LazyLinear(10))
    return Sequential(stem(), *body, head)


# name: (the network, the side of its input, the learning rate of D2L's current edition)
NETWORKS: dict[str, tuple[Callable[[], nn.Module], int, float]] = {
    "lenet": (partial(lenet, nn.Sigmoid, AvgPool2d), 28, 0.1),
    "lenet-max": (partial(lenet, nn.Sigmoid, MaxPool2d), 28, 0.1),
    "lenet-relu": (partial(lenet, ReLU, AvgPool2d), 28, 0.1),
    "lenet-modern": (partial(lenet, ReLU, MaxPool2d), 28, 0.1),
    "alexnet": (alexnet, 224, 0.01),
    "vgg11": (partial(vgg, 16, 32, 64, 128, 128), 224, 0.01),
    "vgg11-full": (partial(vgg, 64, 128, 256, 512, 512), 224, 0.01),
    "nin": (nin, 224, 0.05),
    "googlenet": (googlenet, 96, 0.01),
    "resnet18": (partial(resnet, residual), 96, 0.01),
    "resnext": (partial(resnet, resnext_block), 96, 0.01),
    "densenet": (densenet, 96, 0.01),
}
