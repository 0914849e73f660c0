"""Network in network as D2L 8.3 builds it: Lin et al., Network in network, 2013."""

from torch import nn

from zoo.models.initialize import xavier


def nin() -> nn.Sequential:
    """Four blocks and a global average, no dense layer: float (N, 1, 224, 224) -> logits (N, 10); 1,992,166 parameters.

    As in D2L, the last block ends in a ReLU too, so no logit is negative.
    """
    network = nn.Sequential(
        nin_block(1, 96, kernel_size=11, stride=4, padding=0),  # (N, 96, 54, 54)
        nn.MaxPool2d(kernel_size=3, stride=2),  # (N, 96, 26, 26)
        nin_block(96, 256, kernel_size=5, stride=1, padding=2),
        nn.MaxPool2d(kernel_size=3, stride=2),  # (N, 256, 12, 12)
        nin_block(256, 384, kernel_size=3, stride=1, padding=1),
        nn.MaxPool2d(kernel_size=3, stride=2),  # (N, 384, 5, 5)
        nn.Dropout(0.5),
        nin_block(384, 10, kernel_size=3, stride=1, padding=1),  # (N, 10, 5, 5)
        nn.AdaptiveAvgPool2d((1, 1)),
        nn.Flatten(),
    )
    xavier(network)
    return network


def nin_block(in_channels: int, channels: int, kernel_size: int, stride: int, padding: int) -> nn.Sequential:
    """A convolution, then two 1x1 convolutions, which are dense layers on the channels of each pixel."""
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, kernel_size, stride, padding),
        nn.ReLU(),
        nn.Conv2d(channels, channels, kernel_size=1),
        nn.ReLU(),
        nn.Conv2d(channels, channels, kernel_size=1),
        nn.ReLU(),
    )
