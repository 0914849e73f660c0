"""VGG as D2L 8.2 builds it: Simonyan and Zisserman, Very deep convolutional networks for large-scale image recognition,
2015."""

import torch.nn.functional as F
from torch import Tensor, nn

from zoo.models.alexnet import dense_head
from zoo.models.initialize import xavier

# (convolutions, channels) of each block. D2L trains VGG-11 with a quarter of its channels.
VGG11 = ((1, 64), (1, 128), (2, 256), (2, 512), (2, 512))
VGG11_QUARTER = ((1, 16), (1, 32), (2, 64), (2, 128), (2, 128))


class VGG(nn.Sequential):
    """Blocks and dense layers of a VGG: float (N, 1, 224, 224) -> logits (N, 10).

    The dense layers take feature maps of `map_side` by `map_side`. Those of smaller images, with which a training run
    may begin (`zoo.training.progressive_resizing`), are resized to that. At 224 pixels nothing is resized, and the
    exported graph has no such node.
    """

    map_side = 7

    def forward(self, images: Tensor) -> Tensor:
        values = images
        for layer in self:
            if isinstance(layer, nn.Flatten) and values.shape[-1] != self.map_side:
                values = F.interpolate(values, size=(self.map_side, self.map_side), mode="bilinear")
            values = layer(values)
        return values


def vgg(architecture: tuple[tuple[int, int], ...]) -> VGG:
    """Five blocks that halve the side, then AlexNet's dense layers: float (N, 1, 224, 224) -> logits (N, 10).

    `VGG11` has 128,806,154 parameters, `VGG11_QUARTER` 43,093,322.
    """
    blocks, channels = [], 1
    for convolutions, width in architecture:
        blocks.append(vgg_block(convolutions, channels, width))
        channels = width
    network = VGG(*blocks, *dense_head(channels * VGG.map_side**2))
    xavier(network)
    return network


def vgg_block(convolutions: int, in_channels: int, channels: int) -> nn.Sequential:
    """3x3 convolutions, then a pooling: float (N, in_channels, H, W) -> (N, channels, H/2, W/2)."""
    layers: list[nn.Module] = []
    for index in range(convolutions):
        layers += [nn.Conv2d(channels if index else in_channels, channels, kernel_size=3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.MaxPool2d(kernel_size=2, stride=2))
