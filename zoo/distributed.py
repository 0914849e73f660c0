"""One run over several processes, as torchrun starts them: who each is, its share of a batch, and what they exchange.

Each process computes its share of every batch, and the gradients are those of the whole batch, batch norm included: so
the learning curve is that of one process. Only dropout draws other masks, one sequence a process.
"""

import contextlib
import inspect
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor, nn

from runtime.errors import FashionZooError, UsageError

# How long one process waits for the others: far longer than the longest wait, the measuring and saving of an epoch.
TIMEOUT = timedelta(minutes=5)


class ProcessLost(FashionZooError):
    """Another process of the run died, or cannot be reached."""


@dataclass(frozen=True)
class World:
    """This process's place among those of the run; by default it is alone."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes and prints."""
        return self.rank == 0

    def share(self, start: int, stop: int) -> slice:
        """Return this process's part of the rows from `start` to `stop`; parts differ by one row at most."""
        rows = stop - start
        return slice(start + rows * self.rank // self.size, start + rows * (self.rank + 1) // self.size)

    def add_up(self, tensor: Tensor) -> None:
        """Replace `tensor`, in place, by its sum over all processes."""
        if self.size > 1:
            dist.all_reduce(tensor)

    def wait(self) -> None:
        """Wait until every process has come here."""
        if self.size > 1:
            dist.barrier()

    def from_main(self, content: bytes, device: torch.device) -> bytes:
        """Return the main process's `content` in every process."""
        if self.size == 1:
            return content
        length = torch.tensor([len(content)], device=device)
        dist.broadcast(length, src=0)
        if not length:
            return b""
        buffer = torch.zeros(int(length), dtype=torch.uint8, device=device)
        if self.is_main:
            buffer.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
        dist.broadcast(buffer, src=0)
        return buffer.cpu().numpy().tobytes()

    def join_model(self, model: nn.Module) -> nn.Module:
        """Return what to call in place of `model`, so that backward leaves every process with averaged gradients."""
        if self.size == 1:
            return model
        share_batch_norm(model)
        device = next(model.parameters()).device
        # Statistics are computed from the whole batch, so they are the same everywhere and need no broadcast.
        wrapper = nn.parallel.DistributedDataParallel
        newer = "forward_sync_buffers" in inspect.signature(wrapper).parameters  # the older name is deprecated since
        no_broadcast: dict[str, Any] = {"forward_sync_buffers" if newer else "broadcast_buffers": False}
        return wrapper(
            model,
            device_ids=[device] if device.type == "cuda" else None,
            gradient_as_bucket_view=True,
            **no_broadcast,
        )


ALONE = World()


def launched() -> bool:
    """Return whether torchrun started this process."""
    return dist.is_available() and dist.is_torchelastic_launched()


def own_device(name: str) -> str:
    """Return the device name for this process: under torchrun each takes the GPU of its local rank.

    Raises:
        UsageError: one GPU was named for all.
    """
    if not launched():
        return name
    if name.startswith("cuda:"):
        raise UsageError(f"--device {name}: under torchrun each process has a GPU of its own; use --device cuda")
    if name == "cuda" or (name == "auto" and torch.cuda.is_available()):
        return f"cuda:{os.environ['LOCAL_RANK']}"
    return name


@contextlib.contextmanager
def joined(device: torch.device, timeout: timedelta = TIMEOUT) -> Iterator[World]:
    """Join the run that torchrun started, NCCL on CUDA and gloo elsewhere; without torchrun, be alone.

    Raises:
        ProcessLost: another process died or did not answer in time.
    """
    if not launched():
        yield ALONE
        return
    try:
        if device.type == "cuda":
            torch.cuda.set_device(device)
            dist.init_process_group("nccl", timeout=timeout, device_id=device)
        else:
            dist.init_process_group("gloo", timeout=timeout)
        yield World(dist.get_rank(), dist.get_world_size())
    except RuntimeError as error:
        if not _is_lost_connection(error):
            raise
        raise ProcessLost(
            "another process of this run died or did not answer, so all stop; whole epochs are saved: "
            "start torchrun again with --resume"
        ) from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def leave(status: int) -> NoReturn:
    """End this process at once, as every process of a run should.

    Python's own way out can abort: a thread of gloo that still holds the last collective's tensor gives it
    back to an interpreter that no longer is one (PyTorch issues 179291 and 190489).
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _is_lost_connection(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or any(word in str(error) for word in ("gloo", "NCCL", "Gloo"))


def share_batch_norm(model: nn.Module) -> None:
    """Make every batch norm of `model`, in place, measure the whole batch and not this process's share of it."""
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                if next(model.parameters()).device.type == "cuda":
                    setattr(module, name, nn.SyncBatchNorm.convert_sync_batchnorm(child))  # type: ignore[no-untyped-call]
                else:
                    child.__class__ = WholeBatchNorm  # same parameters and statistics; only `forward` differs


class WholeBatchNorm(nn.BatchNorm2d):
    """Batch norm over the batches of all processes, for the CPU, which PyTorch's SyncBatchNorm refuses."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        pixels = input.new_full((1,), input.numel() // input.shape[1])
        totals: Tensor = _Sum.apply(torch.cat([input.sum((0, 2, 3)), pixels]))
        count = totals[-1].detach()
        mean = totals[:-1] / count
        centred = input - mean[:, None, None]
        variance: Tensor = _Sum.apply(centred.square().sum((0, 2, 3))) / count
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return centred * scale[:, None, None] + self.bias[:, None, None]


class _Sum(torch.autograd.Function):
    """A sum over all processes. Each adds its loss to the total, so gradients are summed as well."""

    @staticmethod
    def forward(_context: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total
