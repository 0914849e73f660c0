"""LeNet-5 as D2L 7.6 builds it: LeCun et al., Gradient-based learning applied to document recognition, 1998."""

from torch import nn

from zoo.models.initialize import xavier


def lenet(activation: type[nn.Module] = nn.Sigmoid, pooling: type[nn.Module] = nn.AvgPool2d) -> nn.Sequential:
    """Two convolutions, three dense layers: float (N, 1, 28, 28) -> logits (N, 10); 61,706 parameters.

    D2L's exercises replace `pooling` by `nn.MaxPool2d` and `activation` by `nn.ReLU`.
    """
    layers = nn.Sequential(
        nn.Conv2d(1, 6, kernel_size=5, padding=2),  # (N, 6, 28, 28)
        activation(),
        pooling(kernel_size=2, stride=2),  # (N, 6, 14, 14)
        nn.Conv2d(6, 16, kernel_size=5),  # (N, 16, 10, 10)
        activation(),
        pooling(kernel_size=2, stride=2),  # (N, 16, 5, 5)
        nn.Flatten(),  # (N, 400)
        nn.Linear(16 * 5 * 5, 120),
        activation(),
        nn.Linear(120, 84),
        activation(),
        nn.Linear(84, 10),
    )
    xavier(layers)
    return layers
