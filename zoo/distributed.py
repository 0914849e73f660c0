"""Distributed training, as torchrun starts it: ranks, shards of a batch, and all-reduce.

Each process computes its share of every batch, and the gradients are those of the whole batch, so the learning curve is
that of one process, but for two things: dropout draws other masks, one sequence a process, and on the CPU, for which
PyTorch has no synchronised batch norm, batch norm uses the statistics of each process's share.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn

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

    def all_reduce(self, tensor: Tensor) -> None:
        """Replace `tensor`, in place, by its sum over all processes."""
        if self.size > 1:
            dist.all_reduce(tensor)

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

    def wrap_model(self, model: nn.Module) -> nn.Module:
        """Return what to call in place of `model`, so that backward leaves every process with averaged gradients."""
        if self.size == 1:
            return model
        device = next(model.parameters()).device
        if device.type == "cuda":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        devices = [device] if device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(model, device_ids=devices, gradient_as_bucket_view=True)


ALONE = World()


def launched() -> bool:
    """Return whether torchrun started this process."""
    return dist.is_available() and dist.is_torchelastic_launched()


def device_of_process(name: str) -> str:
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
def process_group(device: torch.device, timeout: timedelta = TIMEOUT) -> Iterator[World]:
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


def hard_exit(status: int) -> NoReturn:
    """End this process at once, as every process of a run should.

    Python's own way out can abort: a thread of gloo that still holds the last collective's tensor gives it
    back to an interpreter that has been finalised (PyTorch issues 179291 and 190489).
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _is_lost_connection(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or any(word in str(error) for word in ("gloo", "NCCL", "Gloo"))
