"""The exponential moving average of a network's weights, in the form of Tan and Le, EfficientNet, 2019."""

import copy

import torch
from torch import nn


class ExponentialMovingAverage:
    """A copy of a model whose weights are the moving average of the model's.

    PyTorch's `AveragedModel` does the same, but reads its count from a tensor at each update, which waits for the
    device. The statistics of batch norm are averaged too.

    Args:
        model: the model that is trained, on its device; its tensors must stay the same objects.
        decay: the factor of the old average at each update.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(model).requires_grad_(False)
        self.updates = 0
        self._decay = decay
        pairs = list(zip(self.module.state_dict().values(), model.state_dict().values(), strict=True))
        self._averaged = [pair for pair in pairs if pair[0].is_floating_point()]
        self._copied = [pair for pair in pairs if not pair[0].is_floating_point()]

    def update(self) -> None:
        """Include the model's current weights; at the first update they are the average."""
        averages, weights = zip(*self._averaged, strict=True)
        torch._foreach_lerp_(averages, weights, 1 - self._decay if self.updates else 1.0)
        for mine, theirs in self._copied:
            mine.copy_(theirs)
        self.updates += 1
