"""Forward and backward of one batch: whole, or in micro-batches whose gradients add up to those of the batch."""

import contextlib
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runtime.errors import FashionZooError
from zoo.distributed import ALONE, World

Precision = Literal["fp32", "bf16"]


class OutOfMemory(FashionZooError):
    """The device's memory does not hold what training needs."""


class CompilationFailed(FashionZooError):
    """torch.compile cannot compile the network on this machine."""


class Gradients:
    """Computes the gradients of the mean loss over batches.

    Batch norm computes its statistics per micro-batch; everything else is the same however a batch is divided.

    Args:
        precision: `bf16` runs matrix products and convolutions in bfloat16; weights and gradients stay float32.
        micro_batch: the most images in one forward and backward pass; None for no limit.
        compile_for: the number of images for which forward and loss are compiled; 0 for none. Passes of another
            number, such as an epoch's last, run uncompiled, since each number would be compiled anew.
    """

    def __init__(
        self,
        model: nn.Module,
        label_smoothing: float,
        *,
        precision: Precision = "fp32",
        world: World = ALONE,
        micro_batch: int | None = None,
        compile_for: int = 0,
    ) -> None:
        self._model = world.wrap_model(model)
        self._parameters = list(model.parameters())
        self._device = self._parameters[0].device
        self._label_smoothing = label_smoothing
        self._bf16 = precision == "bf16"
        self._world = world
        self._micro_batch = micro_batch
        self._compile_for = min(compile_for, micro_batch or compile_for)
        self._compiled = self._measure
        if compile_for:
            # On CUDA, "reduce-overhead" replays the kernels of a pass as a CUDA graph.
            mode = "reduce-overhead" if self._device.type == "cuda" else None
            self._compiled = torch.compile(self._measure, mode=mode, dynamic=False)

    def compute(self, images: Tensor, labels: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Set the gradients of the mean loss over a batch, of which this process has these images.

        Return the sum of the losses of these images and the number of correct answers, as scalars on the device.
        `count` is the number of images of the whole batch, over all processes.

        Raises:
            OutOfMemory: a pass does not fit into memory; the message names a smaller --micro-batch.
            CompilationFailed: the pass cannot be compiled.
        """
        for parameter in self._parameters:
            parameter.grad = None
        # DistributedDataParallel divides the sum of the gradients over processes by the number of processes.
        weight = self._world.size / count
        size = self._micro_batch or max(1, len(labels))
        total_loss = torch.zeros((), device=self._device)
        total_correct = torch.zeros((), dtype=torch.int64, device=self._device)
        try:
            for some_images, some_labels in zip(torch.split(images, size), torch.split(labels, size), strict=True):
                measure = self._compiled if len(some_labels) == self._compile_for else self._measure
                loss, correct = measure(some_images, some_labels)
                (loss * weight).backward()  # type: ignore[no-untyped-call]
                total_loss += loss.detach()
                total_correct += correct
        except torch.OutOfMemoryError as error:
            raise OutOfMemory(
                f"the memory of {self._device} does not hold a pass of {min(size, len(labels))} images: "
                + (f"try --micro-batch {size // 2}" if size > 1 else "train on another device")
            ) from error
        except RuntimeError as error:
            if self._compile_for and isinstance(error, torch._dynamo.exc.TorchDynamoException):
                reason = " ".join(str(error).split())[:300]
                raise CompilationFailed(f"torch.compile failed ({reason}): use --no-compile") from error
            raise
        return total_loss, total_correct

    def _measure(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of the losses, and the number of correct answers."""
        # Each weight is cast once a pass, so autocast's cache saves nothing; a CUDA graph would replay stale casts.
        autocast = torch.autocast(self._device.type, torch.bfloat16, cache_enabled=False)
        with autocast if self._bf16 else contextlib.nullcontext():
            logits = self._model(images)
            loss = F.cross_entropy(logits, labels, reduction="sum", label_smoothing=self._label_smoothing)
        return loss, (logits.detach().argmax(1) == labels).sum()
