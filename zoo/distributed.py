"""Distributed training, as torchrun starts it: ranks, shards of a batch, and all-reduce.

Each process computes its shard of every batch, and the gradients are those of the whole batch, so the learning curve is
that of one process, with two exceptions: each process draws its own dropout masks, and on the CPU, where PyTorch has no
synchronised batch norm, batch norm uses the statistics of each shard.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from runtime.errors import FashionZooError, UsageError

# How long one process waits for the others, who may be evaluating and saving an epoch.
TIMEOUT = timedelta(minutes=5)
T = TypeVar("T")


class ProcessLost(FashionZooError):
    """Another process of the run died, or cannot be reached."""


@dataclass(frozen=True)
class World:
    """The rank of this process and the number of processes of the run; by default it is the only one."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which writes files and prints."""
        return self.rank == 0

    def share(self, start: int, stop: int) -> slice:
        """Return this process's shard of the rows from `start` to `stop`; shards differ by one row at most."""
        rows = stop - start
        return slice(start + rows * self.rank // self.size, start + rows * (self.rank + 1) // self.size)

    def all_reduce(self, tensor: Tensor) -> None:
        """Replace `tensor`, in place, by its sum over all processes."""
        if self.size > 1:
            dist.all_reduce(tensor)

    def from_main(self, value: T, device: torch.device) -> T:
        """Return the main process's `value` in every process; what the others pass is ignored."""
        values = [value]
        if self.size > 1:
            dist.broadcast_object_list(values, src=0, device=device)
        return values[0]

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
def process_group(device: torch.device) -> Iterator[World]:
    """A context with the process group of torchrun, NCCL on CUDA and gloo elsewhere; without torchrun, one process.

    Raises:
        ProcessLost: another process died or did not answer in time.
    """
    if not launched():
        yield ALONE
        return
    try:
        if device.type == "cuda":
            torch.cuda.set_device(device)
            dist.init_process_group("nccl", timeout=TIMEOUT, device_id=device)
        else:
            dist.init_process_group("gloo", timeout=TIMEOUT)
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
    """End this process at once, without Python's finalisation.

    Finalisation can abort: a thread of gloo that still holds the tensor of the last collective releases it after the
    interpreter is gone (PyTorch issues 179291 and 190489).
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _is_lost_connection(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or any(word in str(error) for word in ("gloo", "NCCL", "Gloo"))
