"""What the gates look at: a network, a file, pictures to try them on, and what is worked out from these only once."""

import copy
import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import nn

from export.double import InDouble
from export.examination import Examination, examine
from export.provenance import Provenance, provenance
from runtime import contract
from runtime.session import open_session

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[Any]
CHUNK = 500  # images at once through PyTorch


@dataclass(frozen=True)
class Finding:
    """What a passed gate saw: a sentence for people and the figures behind it."""

    detail: str
    measures: dict[str, Any] = field(default_factory=dict)


class GateFailure(Exception):
    """A gate's refusal: its sentence says what was expected, what was found, and where.

    A `fatal` one says that the file is not safe to be run, so that no later gate looks at it.
    """

    def __init__(self, detail: str, measures: dict[str, Any] | None = None, *, fatal: bool = False) -> None:
        super().__init__(detail)
        self.fatal = fatal
        self.measures = measures or {}


class Subject:
    """A network and the file that claims to be it.

    Args:
        network: images: uint8 (N, 1, 28, 28) -> logits (N, K), with its weights.
        content: the bytes of the ONNX file.
        images: uint8 (N, 1, 28, 28), real pictures; labels: int (N,), their classes.
        expected: metadata fields that the file must declare with these very values.
        device: where the graph is run.
    """

    def __init__(
        self,
        network: nn.Module,
        content: bytes,
        images: Pixels,
        labels: npt.NDArray[Any],
        expected: dict[str, Any],
        device: str = "cpu",
    ) -> None:
        self.network = copy.deepcopy(network).to("cpu").float().eval()
        self.content = content
        self.images = images
        self.labels = labels
        self.expected = expected
        self.device = device

    @functools.cached_property
    def model(self) -> onnx.ModelProto:
        return onnx.load_from_string(self.content)

    @functools.cached_property
    def examination(self) -> Examination:
        """What the libraries say of the file, asked in a process of its own."""
        return examine(self.content)

    @functools.cached_property
    def provenance(self) -> Provenance:
        """Which tensor of the file is which of the network."""
        return provenance(self.network, self.model)

    @functools.cached_property
    def opened(self) -> Any:
        return open_session(self.content, self.device, what="the file")

    @functools.cached_property
    def metadata(self) -> contract.Metadata:
        props = {prop.key: prop.value for prop in self.model.metadata_props}
        return contract.parse_metadata(props, "the file")

    def run_graph(self, images: Pixels, outputs: Sequence[str] = (contract.LOGITS,)) -> list[Floats]:
        """Return the graph's outputs on `images`, run in chunks as the runtime does."""
        parts = [
            self.opened.session.run(list(outputs), {contract.INPUT: images[start : start + 256]})
            for start in range(0, len(images), 256)
        ]
        return [np.concatenate(values) for values in zip(*parts, strict=True)]

    def run_network(self, images: Pixels, dtype: torch.dtype = torch.float32) -> tuple[Floats, Floats]:
        """Return the network's logits and probabilities in the precision asked for."""
        network = self.network if dtype == torch.float32 else self.double
        with torch.inference_mode():
            logits = torch.cat(
                [network(torch.from_numpy(part)) for part in np.array_split(images, self._parts(images))]
            )
            return logits.numpy(), logits.softmax(1).numpy()

    @functools.cached_property
    def graph_logits(self) -> Floats:
        """The graph's logits on all images: float32 (N, K)."""
        return self.run_graph(self.images)[0]

    @functools.cached_property
    def network_logits(self) -> Floats:
        """The network's own logits on all images: float32 (N, K)."""
        return self.run_network(self.images)[0]

    @functools.cached_property
    def tolerance(self) -> dict[str, float]:
        """The largest error that parity allows, by output."""
        return {name: row["tolerance"] for name, row in self.parity.items()}

    @functools.cached_property
    def parity_inputs(self) -> dict[str, Pixels]:
        """The pictures that parity is measured on, by kind."""
        from export.gates.parity import parity_inputs

        return parity_inputs(self.images, self.network)

    @functools.cached_property
    def parity(self) -> dict[str, dict[str, Any]]:
        """Errors and tolerances by output, measured once; see the gate."""
        from export.gates.parity import measure

        return measure(self)

    @functools.cached_property
    def double(self) -> InDouble:
        """The network in float64, the reference."""
        return InDouble(self.network)

    @staticmethod
    def _parts(images: Pixels) -> int:
        return max(1, -(-len(images) // CHUNK))
