"""Forward and backward of one batch: in one piece or, where memory is short, in several with the same sum."""

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from runtime.errors import FashionZooError
from zoo.distributed import ALONE, World
from zoo.shares import Shares, divisible

Precision = Literal["fp32", "bf16"]


class OutOfMemory(FashionZooError):
    """The device's memory does not hold what training needs."""


class Gradients:
    """Computes the gradients of whole batches, whatever part of one fits into memory or belongs to this process.

    An out-of-memory error is answered by pieces of half the size, from the same random numbers and statistics, so that
    it leaves no trace in the run. The pieces' gradients add up to those of the batch. Batch norm is the exception: it
    measures each piece by itself, as no piece can know the others.

    Args:
        model: uint8 (N, 1, 28, 28) -> logits (N, K).
        label_smoothing: of the loss.
        precision: `bf16` runs matrix products and convolutions in bfloat16; weights and gradients stay float32.
        world: the processes that share each batch.
        compile_for: the number of images for which forward and backward go through `torch.compile`; 0 for none. Other
            numbers, as of an epoch's last batch, would each be compiled anew.
        notice: told, as a sentence, when the pieces become smaller.
    """

    def __init__(
        self,
        model: nn.Module,
        label_smoothing: float,
        *,
        precision: Precision = "fp32",
        world: World = ALONE,
        compile_for: int = 0,
        notice: Callable[[str], None] | None = None,
    ) -> None:
        self._model = world.join_model(model)
        self._compile_for = compile_for
        self._compiled = self._measure
        if compile_for:
            # PyTorch keeps eight versions of one piece of code, and compiles no ninth, without a word.
            torch.compiler.reset()
            self._compiled = torch.compile(self._measure, dynamic=False)
        self._parameters = list(model.parameters())
        self._label_smoothing = label_smoothing
        self._device = next(model.parameters()).device
        self._bf16 = precision == "bf16"
        self._world = world
        self._notice = notice
        self._piece: int | None = None
        alone_on_cpu = self._device.type == "cpu" and world.size == 1 and not compile_for
        self._shares = Shares() if alone_on_cpu and torch.get_num_threads() > 1 and divisible(model) else None
        norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        self._statistics = [buffer for norm in norms for buffer in norm.buffers()]
        self._kept = [buffer.clone() for buffer in self._statistics]

    @property
    def at_work(self) -> contextlib.AbstractContextManager[None]:
        """A context for many calls of `compute`, in which the calling thread keeps to the cores that these leave it."""
        return self._shares.at_work() if self._shares is not None else contextlib.nullcontext()

    def compute(self, images: Tensor, labels: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Set the gradients of the mean loss over a batch of `count` images, of which this process has these.

        Returns:
            The sum of the losses of these images, and how many were right: scalars on the device.

        Raises:
            OutOfMemory: not even one image fits, or the run has several processes.
        """
        if self._shares is not None:
            loss, right, gradients = self._shares.compute(partial(self._differentiate, count=count), images, labels)
            for parameter, gradient in zip(self._parameters, gradients, strict=True):
                parameter.grad = gradient
            return loss, right
        while True:
            before = self._remember()
            with contextlib.suppress(torch.OutOfMemoryError):
                return self._accumulate(images, labels, count, self._piece or max(1, len(labels)))
            # Only here, outside the handler, are the failed attempt's tensors free.
            self._shrink(len(labels))
            self._recall(before)

    def compute_whole(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """As `compute` for a whole batch in one piece, but with no answer to a lack of memory: for a CUDA graph.

        Raises:
            torch.OutOfMemoryError: it does not fit.
        """
        return self._accumulate(images, labels, len(labels), len(labels))

    def _accumulate(self, images: Tensor, labels: Tensor, count: int, piece: int) -> tuple[Tensor, Tensor]:
        for parameter in self._parameters:
            parameter.grad = None
        # DistributedDataParallel divides the sum over processes by their number.
        weight = self._world.size / count
        losses, right = [], []
        for some_images, some_labels in zip(torch.split(images, piece), torch.split(labels, piece), strict=True):
            measure = self._compiled if len(some_labels) == self._compile_for else self._measure
            loss, correct = measure(some_images, some_labels)
            (loss * weight).backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
            right.append(correct)
        if len(losses) == 1:
            return losses[0], right[0]
        return torch.stack(losses).sum(), torch.stack(right).sum()

    def _differentiate(self, images: Tensor, labels: Tensor, count: int) -> tuple[Tensor, Tensor, list[Tensor]]:
        loss, correct = self._measure(images, labels)
        return loss.detach(), correct, list(torch.autograd.grad(loss / count, self._parameters))

    def _measure(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of the losses, and how many answers are right."""
        # Each weight is cast once a pass, so autocast's cache saves nothing; in a CUDA graph it would go stale.
        rough = torch.autocast(self._device.type, torch.bfloat16, cache_enabled=False)
        with rough if self._bf16 else contextlib.nullcontext():
            logits = self._model(images)
            loss = F.cross_entropy(logits, labels, reduction="sum", label_smoothing=self._label_smoothing)
        truth = labels if labels.dim() == 1 else labels.argmax(1)  # of mixed images, the one that is shown most
        return loss, (logits.detach().argmax(1) == truth).sum()

    def _shrink(self, batch: int) -> None:
        if self._world.size > 1:  # the others are in the middle of this batch: it cannot be begun again
            raise OutOfMemory(
                f"process {self._world.rank} ran out of memory with {batch} images a step: use more processes, "
                "or a smaller --batch-size"
            )
        fitted = min(self._piece or batch, batch)
        if fitted == 1:
            raise OutOfMemory(f"the memory of {self._device} does not hold the training of one image")
        self._piece = (fitted + 1) // 2
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        if self._notice is not None:
            caveat = "; batch norm measures each piece by itself" if self._statistics else ""
            self._notice(
                f"out of memory with {fitted} images at once: going on with pieces of {self._piece}, "
                f"whose gradients add up to those of the batch{caveat}"
            )

    def _remember(self) -> tuple[Tensor, Tensor | None]:
        """Keep what a failed attempt would change: the statistics of batch norm, and the random generators."""
        if self._statistics:
            torch._foreach_copy_(self._kept, self._statistics)
        on_cuda = self._device.type == "cuda"
        return torch.get_rng_state(), torch.cuda.get_rng_state(self._device) if on_cuda else None

    def _recall(self, generators: tuple[Tensor, Any]) -> None:
        if self._statistics:
            torch._foreach_copy_(self._statistics, self._kept)
        on_cpu, on_cuda = generators
        torch.set_rng_state(on_cpu)
        if on_cuda is not None:
            torch.cuda.set_rng_state(on_cuda, self._device)
