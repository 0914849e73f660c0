"""Running loss and accuracy of an epoch, kept on the device."""

import torch
from torch import Tensor

from zoo.distributed import World


class RunningMetrics:
    """Sums over the batches of an epoch, kept on the device: reading `loss` or `accuracy` waits for the device."""

    def __init__(self, device: torch.device) -> None:
        self.images = 0
        self._loss = torch.zeros((), device=device)
        self._correct = torch.zeros((), device=device, dtype=torch.int64)

    def add(self, images: int, loss: Tensor, correct: Tensor) -> None:
        """Add a number of images, the sum of their losses, and the number of correct answers."""
        self.images += images
        self._loss += loss
        self._correct += correct

    def reduce(self, world: World) -> None:
        """Replace the sums by those over all processes."""
        if world.size > 1:
            sums = torch.stack(
                [self._loss.double(), self._correct.double(), self._loss.new_tensor(self.images).double()]
            )
            world.all_reduce(sums)
            self._loss, self._correct, images = sums
            self.images = int(images)

    @property
    def loss(self) -> float:
        return self._loss.item() / max(1, self.images)

    @property
    def accuracy(self) -> float:
        return self._correct.item() / max(1, self.images)
