"""The exponential moving average of a network's weights, in the form of Tan and Le, EfficientNet, 2019."""

import copy

import torch
from torch import nn


class ExponentialMovingAverage:
    """Keeps beside a model another whose weights are the average of its own.

    PyTorch's `AveragedModel` does the same, but waits for the device at each update to read its count from a tensor.
    Statistics of batch norm belong to the weights they were measured with, so they are averaged too.

    Args:
        model: the model that is trained; it stays where it is, and its tensors stay the same ones.
        decay: the part of the average that each update keeps.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(model).requires_grad_(False)
        self.updates = 0
        self._decay = decay
        pairs = list(zip(self.module.state_dict().values(), model.state_dict().values(), strict=True))
        self._averaged = [pair for pair in pairs if pair[0].is_floating_point()]
        self._copied = [pair for pair in pairs if not pair[0].is_floating_point()]

    def update(self) -> None:
        """Take in the model's present weights; the first ones are the average."""
        averages, weights = zip(*self._averaged, strict=True)
        torch._foreach_lerp_(averages, weights, 1 - self._decay if self.updates else 1.0)
        for mine, theirs in self._copied:
            mine.copy_(theirs)
        self.updates += 1
