"""What the gates look at: a network, a file, pictures to try them on, and what is worked out from these only once."""

import copy
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor, nn

from export.engines import open_engine
from export.examination import Examination, examine
from export.halving import read_as_float
from export.precision import FULL, Precision
from export.provenance import Provenance, provenance
from export.references import InDouble, InHalf
from export.trace import Trace, trace
from runtime import contract
from runtime.errors import ModelInvalid
from runtime.parity import READ_AS_FLOAT
from runtime.session import open_session

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[Any]
ONNXRUNTIME = "onnxruntime"
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
        engine: by what: onnxruntime, or one of `export.engines`.
    """

    def __init__(
        self,
        network: nn.Module,
        content: bytes,
        images: Pixels,
        labels: npt.NDArray[Any],
        expected: dict[str, Any],
        device: str = "cpu",
        engine: str = ONNXRUNTIME,
    ) -> None:
        self.network = copy.deepcopy(network).to("cpu").float().eval()
        self.content = content
        self.images = images
        self.labels = labels
        self.expected = expected
        self.device = device
        self.engine = engine

    @functools.cached_property
    def model(self) -> onnx.ModelProto:
        """The file, parsed; only once the process of its own has survived that."""
        if self.examination.unsafe:
            raise GateFailure(self.examination.unsafe, fatal=True)
        return onnx.load_from_string(self.content)

    @functools.cached_property
    def examination(self) -> Examination:
        """What the libraries say of the file, asked in a process of its own."""
        return examine(self.content)

    @functools.cached_property
    def trace(self) -> Trace:
        """The shapes that flow through the network."""
        return trace(self.network)

    @functools.cached_property
    def provenance(self) -> Provenance:
        """Which tensor of the file is which of the network, rounded as the file declares."""
        return provenance(self.rounded, self.model, self.precision, self.examination.shapes)

    @functools.cached_property
    def precision(self) -> Precision:
        """What the file declares to compute in."""
        try:
            return Precision.of(self.metadata.fields)
        except ModelInvalid:  # the signature gate says so
            return FULL

    @functools.cached_property
    def rounded(self) -> nn.Module:
        """The network with its weights as the file declares to hold them."""
        return self.precision.rounded(self.network)

    @functools.cached_property
    def plain(self) -> onnx.ModelProto:
        """The file read as float32, with the numbers of the network's code as exact as there; the file itself where
        it computes in float32."""
        return read_as_float(self.model, self.provenance.exact) if self.precision.dtype == "fp16" else self.model

    @functools.cached_property
    def opened(self) -> Any:
        return open_session(self.content, self.device, what="the file")

    @functools.cached_property
    def session(self) -> Any:
        """The file, opened by the engine in question."""
        return self.opened.session if self.engine == ONNXRUNTIME else open_engine(self.engine, self.content)

    @functools.cached_property
    def metadata(self) -> contract.Metadata:
        props = {prop.key: prop.value for prop in self.model.metadata_props}
        return contract.parse_metadata(props, "the file")

    def run_graph(self, images: Pixels, outputs: Sequence[str] = (contract.LOGITS,)) -> list[Floats]:
        """Return the graph's outputs on `images`, run in chunks as the runtime does."""
        return run_session(self.session, images, outputs)

    def run_plain(self, images: Pixels, outputs: Sequence[str]) -> list[Floats]:
        """Return the outputs of the file read as float32."""
        if self.plain is self.model:
            return self.run_graph(images, outputs)
        plain = self.plain.SerializeToString()
        if self.engine != ONNXRUNTIME:
            return run_session(open_engine(self.engine, plain), images, outputs)
        opened = open_session(plain, self.device, what="the file read as float32")
        return run_session(opened.session, images, outputs)

    @functools.cached_property
    def graph_outputs(self) -> tuple[Floats, Floats]:
        """The graph's logits and probabilities on all images: float32 (N, K)."""
        logits, probabilities = self.run_graph(self.images, (contract.LOGITS, contract.PROBABILITIES))
        return logits, probabilities

    @property
    def graph_logits(self) -> Floats:
        return self.graph_outputs[0]

    @functools.cached_property
    def network_outputs(self) -> tuple[Floats, Floats]:
        """The network's own logits and probabilities on all images: float32 (N, K)."""
        return run_network(self.network, self.images)

    @property
    def network_logits(self) -> Floats:
        return self.network_outputs[0]

    @functools.cached_property
    def tolerance(self) -> dict[str, float]:
        """How far the file may be from the network that it computes, by output.

        A file that computes in float32 from rounded weights is held to those: what the rounding cost is no room here.
        """
        rows = self.parity.get(READ_AS_FLOAT, self.parity) if self.precision.dtype == "fp32" else self.parity
        return {name: rows[name]["tolerance"] for name in (contract.LOGITS, contract.PROBABILITIES)}

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
        """The network in float64, its weights as they were trained."""
        return InDouble(self.network)

    @functools.cached_property
    def double_rounded(self) -> InDouble:
        """The network in float64, its weights as the file holds them."""
        return self.double if self.rounded is self.network else InDouble(self.rounded)

    @functools.cached_property
    def as_declared(self) -> Callable[[Tensor], Tensor]:
        """PyTorch doing what the file declares to do, in its precision: whose error is the noise floor."""
        return InHalf(self.rounded) if self.precision.dtype == "fp16" else self.rounded


def run_session(session: Any, images: Pixels, outputs: Sequence[str]) -> list[Floats]:
    """Return a session's outputs on `images`, in chunks as the runtime runs them."""
    parts = [
        session.run(list(outputs), {contract.INPUT: images[start : start + 256]})
        for start in range(0, len(images), 256)
    ]
    return [np.concatenate(values) for values in zip(*parts, strict=True)]


def run_network(network: Callable[[Tensor], Tensor], images: Pixels) -> tuple[Floats, Floats]:
    """Return a network's logits and probabilities on `images: uint8 (N, 1, 28, 28)`, in its own precision: (N, K)."""
    parts = max(1, -(-len(images) // CHUNK))
    with torch.inference_mode():
        logits = torch.cat([network(torch.from_numpy(part)) for part in np.array_split(images, parts)])
        return logits.numpy(), logits.softmax(1).numpy()
