"""Checkpoints: one safetensors file whose header holds a JSON description. Pickles are not read.

The weights have their module names (`network.0.weight`). While a run is unfinished, the file also holds the state that
`--resume` needs, under `training/`; a finished checkpoint holds the weights alone. The file is replaced by a rename, so
that a kill at any moment leaves a whole one.
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from export.description import CHECKPOINT_FILE
from export.integers import BITS, Integers
from export.precision import Precision
from runtime.errors import FashionZooError
from runtime.storage import write_bytes

FORMAT = "fashion-zoo checkpoint 1"
TRAINING = "training/"
SCALES = "/scales"  # behind the name of a weight that is kept in integers
# A zip archive, as of torch.save, or a pickle of protocol 2 to 5: its first opcode after the protocol is not zero.
_PICKLE = re.compile(rb"PK[\x03\x05\x07]|\x80[\x02-\x05][^\x00]")


class CheckpointError(FashionZooError, ValueError):
    """The file is not a checkpoint of this project, or of another model."""


class CheckpointMissing(CheckpointError):
    """No checkpoint was named, and this machine has none of the model's."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint file that has been checked: `header` is its JSON description, `weights` its tensors by name."""

    path: Path
    header: dict[str, Any]
    weights: dict[str, Tensor]
    training: dict[str, Tensor]

    @property
    def model(self) -> str:
        return str(self.header["model"])

    @property
    def finished(self) -> bool:
        return bool(self.header["epoch"] == self.header["recipe"]["epochs"])

    @property
    def rounded_from(self) -> str | None:
        """The sha256 of the checkpoint that holds these weights as they were trained; None for that one itself."""
        return self.header.get("rounded_from")

    @property
    def rounded_to(self) -> str | None:
        """How these weights were rounded: fp16, or int8 or int4 where some are integers; None as they were trained."""
        return None if self.rounded_from is None else self.header.get("integers", "fp16")

    def sha256(self) -> str:
        return sha256_of(self.path)

    def rounded(self, precision: Precision, network: nn.Module) -> bytes:
        """Return this checkpoint as a file that holds what `precision` rounds as float16 or in integers.

        It gives the rounded network exactly. Its header names the file that it was rounded from.

        Args:
            network: which this is the checkpoint of: its linear layers are what is kept in integers.
        """
        weights = {
            name: tensor.half() if precision.is_half(tensor) else tensor for name, tensor in self.weights.items()
        }
        header = {"rounded_from": self.sha256()} | self.header
        if integers := precision.integers(network):
            header["integers"] = precision.storage
            weights |= {name: _stored(weight) for name, weight in integers.items()}
            weights |= {name + SCALES: torch.from_numpy(weight.scales) for name, weight in integers.items()}
        return _serialized(header, weights)

    def load_into(self, module: nn.Module) -> None:
        """Copy the weights into `module`, in place.

        Raises:
            CheckpointError: a tensor is missing, unknown, or of another shape.
        """
        try:
            module.load_state_dict(self.weights, strict=True)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"{self.path} does not fit the network: {reason}") from error


def _stored(weight: Integers) -> Tensor:
    """Return integers as int8; an even number of int4 in a row as uint8, two in a byte, the first in the low half."""
    values = torch.from_numpy(weight.values)
    if weight.bits == 8 or values.shape[1] % 2:
        return values
    halves = values.view(torch.uint8) & 0xF
    return halves[:, ::2] | (halves[:, 1::2] << 4)


def _multiplied_out(weights: dict[str, Tensor], storage: str, path: Path) -> dict[str, Tensor]:
    """Return weights as floats, of which some are stored in integers with their scales beside them."""
    scales = {name.removesuffix(SCALES): tensor for name, tensor in weights.items() if name.endswith(SCALES)}
    plain = {name: tensor for name, tensor in weights.items() if not name.endswith(SCALES)}
    try:
        for name, scale in scales.items():
            values = plain[name]
            if values.dtype == torch.uint8:
                halves = torch.stack([values & 0xF, values >> 4], dim=-1).flatten(1).view(torch.int8)
                values = halves - 16 * (halves > 7).to(torch.int8)
            if values.dtype != torch.int8 or values.dim() != 2 or scale.dtype != torch.float32:
                raise ValueError(f"{name} is {values.dtype} {list(values.shape)}, its scales are {scale.dtype}")
            block = values.shape[1] // scale.shape[1] if scale.dim() == 2 else None
            plain[name] = torch.from_numpy(Integers(values.numpy(), scale.numpy(), BITS[storage], block).numbers())
    except (KeyError, ValueError, RuntimeError, IndexError) as error:
        raise CheckpointError(f"{path} holds integers that do not go with their scales: {error!r}") from error
    return plain


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def checkpoint_in(folder: Path) -> Path:
    """Return where a run's folder keeps its checkpoint."""
    return folder / CHECKPOINT_FILE


def checkpoints_in(folder: Path) -> list[Path]:
    """Return the checkpoints in a run's folder: its own, and that of each seed of `zoo train --seeds`."""
    seeds = sorted(folder.glob("seed-*"), key=lambda path: (len(path.name), path.name))
    return [path for path in map(checkpoint_in, [folder, *seeds]) if path.exists()]


def save(
    path: Path, header: dict[str, Any], weights: dict[str, Tensor], training: dict[str, Tensor] | None = None
) -> None:
    """Write a checkpoint atomically.

    Raises:
        OSError: the folder cannot be written, or the disk is full; an older file at `path` is untouched.
    """
    tensors = dict(weights) | {TRAINING + name: tensor for name, tensor in (training or {}).items()}
    write_bytes(path, _serialized(header, tensors))


def _serialized(header: dict[str, Any], tensors: dict[str, Tensor]) -> bytes:
    on_cpu = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
    content: bytes = safetensors.torch.save(on_cpu, {"format": FORMAT, "json": json.dumps(header)})
    return content


def load(path: Path, *, model: str | None = None, with_training: bool = False) -> Checkpoint:
    """Read and check a checkpoint, onto the CPU.

    Args:
        path: the file.
        model: the model it must be of; None takes any.
        with_training: also read the optimiser's state, where the run is unfinished.

    Raises:
        CheckpointError: missing, damaged, foreign, a pickle, or of another model.
    """
    with _opened(path) as file:
        header = _header(path, file, model)
        wanted = [name for name in file.keys() if with_training or not name.startswith(TRAINING)]  # noqa: SIM118
        tensors = {name: file.get_tensor(name) for name in wanted}
    weights = {name: tensor for name, tensor in tensors.items() if not name.startswith(TRAINING)}
    if "integers" in header:
        weights = _multiplied_out(weights, header["integers"], path)
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise CheckpointError(f"{path} holds numbers that are not finite, in {name}")
    training = {name.removeprefix(TRAINING): tensors[name] for name in tensors if name.startswith(TRAINING)}
    return Checkpoint(path, header, weights, training)


def read_header(path: Path, *, model: str | None = None) -> dict[str, Any]:
    """Return the JSON description of a checkpoint without reading its tensors.

    Raises:
        CheckpointError: as for `load`.
    """
    with _opened(path) as file:
        return _header(path, file, model)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a safetensors file. The CheckpointError for any other file says what it is."""
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint at {path}; `zoo train` writes one") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    try:
        with safetensors.safe_open(path, framework="pt") as tensors:
            yield tensors
    except safetensors.SafetensorError as error:
        # Not before: a safetensors file begins with the length of its header, which may have these bytes too.
        if _PICKLE.match(start):
            raise CheckpointError(
                f"{path} is a pickle, which can run any code when it is opened; this project reads safetensors only"
            ) from None
        raise CheckpointError(f"{path} is damaged, or not a safetensors file: {error}") from error


def _header(path: Path, file: Any, model: str | None) -> dict[str, Any]:
    metadata = file.metadata() or {}
    if metadata.get("format") != FORMAT:
        found = metadata.get("format", "no format name")
        raise CheckpointError(f"{path} was not written by this version of fashion-zoo: {found}, expected {FORMAT!r}")
    try:
        header: dict[str, Any] = json.loads(metadata["json"])
        _ = header["seed"], header["recipe"]["epochs"]
        if not (type(header["epoch"]) is int and 1 <= header["epoch"] <= header["recipe"]["epochs"]):
            raise ValueError(f"epoch {header['epoch']} of {header['recipe']['epochs']}")
        found = header["model"]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} has a damaged description: {error!r}") from error
    if model is not None and found != model:
        raise CheckpointError(f"{path} is a checkpoint of {found!r}, not of {model!r}")
    return header
