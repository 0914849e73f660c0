"""A whole training step as one launch: batch, forward, backward, optimiser and average, recorded once as a CUDA graph.

A small network's step is some sixty kernels of a few microseconds each: the processor that starts them one by one takes
longer than the GPU that runs them. A graph starts them all at once. What it holds are addresses, so everything that
changes from step to step stands in tensors that stay where they are, and is counted on by the step itself: which batch
it is, and its learning rate. Random numbers of dropout go on too: a graph draws them from PyTorch's generator, whose
seed and offset it reads at each replay.
"""

from collections.abc import Callable, Iterator
from typing import Literal, Protocol

import torch
from torch import Tensor

from runtime.errors import FashionZooError
from zoo.augmentation import Draw
from zoo.average import Average
from zoo.data import Epochs
from zoo.gradients import Gradients
from zoo.meter import Meter

# How a step is run: kernel by kernel; as one CUDA graph; as one CUDA graph of kernels that `torch.compile` fused.
StepKind = Literal["eager", "graph", "compile"]
# PyTorch asks for some runs before a capture: libraries make their handles, the optimiser its state, inductor its code.
WARM_UP = 3


class StepNotRecorded(FashionZooError):
    """PyTorch cannot make a CUDA graph of this step."""


class Recording(Protocol):
    """What is done on a device, recorded and done again."""

    def warm_up(self, function: Callable[[], None]) -> None:
        """Run a function where it will be recorded."""

    def record(self, function: Callable[[], None]) -> None:
        """Record what a function would do, without doing it."""

    def replay(self) -> None:
        """Do what was recorded."""


class CudaRecording:
    """A CUDA graph with a stream of its own."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._graph = torch.cuda.CUDAGraph()

    def warm_up(self, function: Callable[[], None]) -> None:
        here = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(here)
        try:
            with torch.cuda.stream(self._stream):
                function()
        finally:  # what a failed attempt has begun must end before its traces are removed
            here.wait_stream(self._stream)

    def record(self, function: Callable[[], None]) -> None:
        with torch.cuda.graph(self._graph, stream=self._stream):
            function()

    def replay(self) -> None:
        self._graph.replay()


class WholeStep:
    """The step of one trainer on its full batches, recorded.

    Recording leaves no trace: weights, optimiser and average are as before, and the optimiser has its state, of zeros,
    if it had none. So every full batch of a run is computed by the same kernels, resumed or not.

    Args:
        epochs, gradients, optimizer, average: what the trainer works with; all on one device, for one process.
        draw: that of any epoch.
        batch_size: images of a full batch.
        tensors: the weights and statistics of the model.

    Raises:
        torch.OutOfMemoryError: a step does not fit into memory in one piece.
        StepNotRecorded: PyTorch cannot record this step, or not compile it.
    """

    def __init__(
        self,
        epochs: Epochs,
        gradients: Gradients,
        optimizer: torch.optim.Optimizer,
        average: Average | None,
        draw: Draw,
        batch_size: int,
        tensors: list[Tensor],
    ) -> None:
        device = draw.order.device
        self._epochs, self._gradients, self._optimizer, self._average = epochs, gradients, optimizer, average
        self._draw = draw
        self._batch = torch.arange(batch_size, device=device)
        self._number = torch.zeros(1, dtype=torch.int64, device=device)
        self._rates = torch.zeros(-(-len(draw.order) // batch_size), device=device)
        self._rate = torch.zeros((), device=device)
        self.meter = Meter(device)
        for group in optimizer.param_groups:
            group["lr"] = self._rate
        self._recording: Recording = CudaRecording(device)
        states = [*tensors, *([] if average is None else average.module.state_dict().values()), *self._states()]
        try:
            self._record(states)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise StepNotRecorded(
                f"PyTorch {torch.__version__} cannot record this network's step as a CUDA graph: use --step eager "
                f"({' '.join(str(error).split())[:300]})"
            ) from error

    def _record(self, states: list[Tensor]) -> None:
        kept = [tensor.clone() for tensor in states]
        fresh = not self._optimizer.state
        try:
            self._recording.warm_up(self._warm_up)
        finally:
            torch._foreach_copy_(states, kept)
            if fresh:
                for tensor in self._states():
                    tensor.zero_()
        del kept
        self._capturing(True)
        try:
            self._recording.record(self._step)
        finally:
            self._capturing(False)

    def begin(self, draw: Draw, rates: list[float], number: int) -> None:
        """Go to batch `number` of an epoch, whose steps have these learning rates, and count from nothing."""
        self._draw.replace_by(draw)
        self._rates.copy_(torch.tensor(rates))
        self._number.fill_(number)
        self.meter.clear()

    def run(self) -> None:
        """Take the step of the next batch of the epoch, a full one."""
        self._recording.replay()
        self.meter.images += len(self._batch)
        if self._average is not None:
            self._average.updates += 1

    def _step(self) -> None:
        self._rate.copy_(self._rates.index_select(0, self._number)[0])
        images, labels = self._epochs.batch(self._draw, self._number * len(self._batch) + self._batch)
        loss, correct = self._gradients.compute_whole(images, labels)
        self._optimizer.step()
        if self._average is not None:
            self._average.blend()
        self.meter.add(0, loss, correct)
        self._number += 1

    def _warm_up(self) -> None:
        for _ in range(WARM_UP):
            self._number.zero_()
            self._step()

    def _states(self) -> Iterator[Tensor]:
        """Yield the tensors of the optimiser's state."""
        for slots in self._optimizer.state.values():
            yield from (value for value in slots.values() if isinstance(value, Tensor))

    def _capturing(self, begins: bool) -> None:
        """Tell optimisers that ask whether they are being captured: only then, for otherwise they warn."""
        for group in self._optimizer.param_groups:
            if "capturable" in group:
                group["capturable"] = begins
