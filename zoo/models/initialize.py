"""Initialise a network as D2L does."""

from torch import nn


def xavier(network: nn.Module) -> None:
    """Initialise as D2L does: Glorot-uniform weights for dense and convolutional layers, biases as PyTorch's."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
