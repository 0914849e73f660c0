"""One batch on several cores: each thread takes its share of the images, from pixels to gradients.

PyTorch divides every single operation among the cores, which then wait for each other a hundred times a step. Here they
meet once a step. That costs a small network some 5 % on an idle machine. Beside a program that holds one of two cores,
where a thread that waits for a core holds up all the others, a step of LeNet was at least three times as fast.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

# Smaller shares spend more on calling operations than on computing them.
SMALLEST_SHARE = 32

# images, labels -> the sum of their losses, how many answers are right, and the gradients
Differentiate = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, list[Tensor]]]


class Shares:
    """Divides batches among threads, for a network that answers each image by itself (`divisible`).

    The shares and the order in which they are added depend on the number of threads alone: on one machine, a seed gives
    the same weights every time.
    """

    def __init__(self) -> None:
        self._threads = torch.get_num_threads()
        self._pool = ThreadPoolExecutor(self._threads, "share", initializer=_take_one_core)
        together = threading.Barrier(self._threads)
        list(self._pool.map(lambda _: together.wait(), range(self._threads)))
        # Every thread is there and has its one core. What they set held for threads yet to start, too.
        torch.set_num_threads(self._threads)

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Leave the cores to the shares: meanwhile the calling thread computes on one."""
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(self._threads)

    def compute(
        self, differentiate: Differentiate, images: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Return the sums, over all shares, of what `differentiate` gives for each.

        Args:
            differentiate: called in several threads at once.
            images: uint8 (N, 1, 28, 28).
            labels: (N,) or (N, K).
        """
        count = max(1, min(self._threads, len(labels) // SMALLEST_SHARE))
        shares = zip(images.tensor_split(count), labels.tensor_split(count), strict=True)
        pending = [self._pool.submit(differentiate, *share) for share in shares]
        (loss, right, gradients), *others = [share.result() for share in pending]
        for other_loss, other_right, other_gradients in others:
            loss += other_loss
            right += other_right
            torch._foreach_add_(gradients, other_gradients)
        return loss, right, gradients


def divisible(model: nn.Module) -> bool:
    """Return whether the gradients of a batch are the sum of those of its parts.

    Batch norm looks at all images at once, and dropout draws its random numbers in the order of the batch.
    """
    return not any(isinstance(module, (_BatchNorm, _DropoutNd)) for module in model.modules())


def _take_one_core() -> None:
    torch.get_num_threads()  # a thread's first question sets its number to the program's, so it must come before
    torch.set_num_threads(1)
