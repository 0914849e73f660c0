"""AlexNet as D2L 8.1 builds it: Krizhevsky et al., ImageNet classification with deep convolutional networks, 2012."""

from torch import nn

from zoo.models.initialize import xavier


def alexnet() -> nn.Sequential:
    """Five convolutions, three dense layers: float (N, 1, 224, 224) -> logits (N, 10); 46,764,746 parameters."""
    layers = nn.Sequential(
        nn.Conv2d(1, 96, kernel_size=11, stride=4, padding=1),  # (N, 96, 54, 54)
        nn.ReLU(),
        nn.MaxPool2d(kernel_size=3, stride=2),  # (N, 96, 26, 26)
        nn.Conv2d(96, 256, kernel_size=5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(kernel_size=3, stride=2),  # (N, 256, 12, 12)
        nn.Conv2d(256, 384, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 384, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(kernel_size=3, stride=2),  # (N, 256, 5, 5)
        *dense_head(256 * 5 * 5),
    )
    xavier(layers)
    return layers


def dense_head(features: int) -> tuple[nn.Module, ...]:
    """Return the dense layers of AlexNet and VGG: float (N, C, H, W) with C * H * W = `features` -> logits (N, 10).

    Dropout (Srivastava et al., 2014) sets half of the hidden values to zero in training.
    """
    return (
        nn.Flatten(),
        nn.Linear(features, 4096),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(4096, 4096),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(4096, 10),
    )
