"""The context of the checks: a network, a file, pictures, and the evidence computed from these."""

import copy
import functools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor, nn

from export.analysis.exported_program import Trace, trace
from export.analysis.references import InDouble, InHalf
from export.analysis.sandbox import Examination, examine
from export.analysis.weight_matching import Provenance, provenance
from export.convert.float16 import read_as_float
from export.precision import FULL, Precision
from export.verification.backends import open_engine
from export.verification.evidence import OUTPUTS, REAL, Floats, Pixels, parity_inputs, parity_rows
from runtime.errors import ModelInvalid
from runtime.evaluation.parity import READ_AS_FLOAT
from runtime.model import spec
from runtime.session.session import open_session

ONNXRUNTIME = "onnxruntime"
CHUNK = 500  # images at once through PyTorch
T = TypeVar("T")


@dataclass(frozen=True)
class CheckResult:
    """What a passed check found: a sentence for people and the figures behind it."""

    detail: str
    measures: dict[str, Any] = field(default_factory=dict)


class CheckFailed(Exception):
    """A check failed: the sentence says what was expected, what was found, and where.

    A `fatal` one says that the file is not safe to be run, so that no later check looks at it.
    """

    def __init__(self, detail: str, measures: dict[str, Any] | None = None, *, fatal: bool = False) -> None:
        super().__init__(detail)
        self.fatal = fatal
        self.measures = measures or {}


def evidence(check: str) -> Callable[[Callable[[Any], T]], "functools.cached_property[T]"]:
    """Make a property that is computed once; its time is charged to `check`, whichever check asks first."""

    def decorate(function: Callable[[Any], T]) -> "functools.cached_property[T]":
        @functools.wraps(function)
        def charged(context: "VerificationContext") -> T:
            with context.charged_to(check):
                return function(context)

        return functools.cached_property(charged)

    return decorate


class VerificationContext:
    """A network and the file that claims to be it.

    Args:
        network: images: uint8 (N, 1, 28, 28) -> logits (N, K), with its weights.
        content: the bytes of the ONNX file.
        images: uint8 (N, 1, 28, 28), real pictures; labels: int (N,), their classes.
        expected: metadata fields that the file must declare with these very values.
        device: where the graph is run.
        engine: by what: onnxruntime, or one of `export.verification.backends`.
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
        self.seconds: dict[str, float] = defaultdict(float)  # by check
        self._within = 0.0

    @contextmanager
    def charged_to(self, check: str) -> Iterator[None]:
        """Add the time of a block to a check's, without that of blocks inside it."""
        started, before, self._within = time.perf_counter(), self._within, 0.0
        try:
            yield
        finally:
            elapsed = time.perf_counter() - started
            self.seconds[check] += elapsed - self._within
            self._within = before + elapsed

    @evidence("self-contained")
    def examination(self) -> Examination:
        """What the libraries say of the file, asked in a process of its own."""
        return examine(self.content)

    @evidence("self-contained")
    def model(self) -> onnx.ModelProto:
        """The file, parsed; only once the process of its own has survived that."""
        if self.examination.unsafe:
            raise CheckFailed(self.examination.unsafe, fatal=True)
        return onnx.load_from_string(self.content)

    @evidence("signature")
    def metadata(self) -> spec.Metadata:
        props = {prop.key: prop.value for prop in self.model.metadata_props}
        return spec.parse_metadata(props, "the file")

    @evidence("signature")
    def precision(self) -> Precision:
        """What the file declares to compute in."""
        try:
            return Precision.of(self.metadata.fields)
        except ModelInvalid:  # the signature check says so
            return FULL

    @evidence("signature")
    def temperature(self) -> float:
        """What the file declares to divide the logits by, as float32 has it."""
        try:
            return float(np.float32(self.metadata.temperature))
        except ModelInvalid:  # the signature check says so
            return 1.0

    @evidence("shapes")
    def trace(self) -> Trace:
        """What flows through the network, and what it reads; of its weights as the file declares to hold them."""
        return trace(self.rounded)

    @evidence("weights")
    def rounded(self) -> nn.Module:
        """The network with its weights as the file declares to hold them."""
        return self.precision.rounded(self.network)

    @evidence("weights")
    def provenance(self) -> Provenance:
        """Which tensor of the file is which of the network, rounded as the file declares."""
        return provenance(self.rounded, self.trace, self.model, self.precision)

    @evidence("parity")
    def plain(self) -> onnx.ModelProto:
        """The file read as float32, with the numbers of the network's code as exact as there; the file itself where
        it computes in float32."""
        return read_as_float(self.model, self.provenance.exact) if self.precision.dtype == "fp16" else self.model

    @evidence("batch")
    def opened(self) -> Any:
        return open_session(self.content, self.device, what="the file")

    @evidence("batch")
    def session(self) -> Any:
        """The file, opened by the engine in question."""
        return self.opened.session if self.engine == ONNXRUNTIME else open_engine(self.engine, self.content)

    def run_graph(self, images: Pixels, outputs: Sequence[str] = (spec.LOGITS,)) -> list[Floats]:
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

    @evidence("decisions")
    def graph_outputs(self) -> tuple[Floats, Floats]:
        """The graph's logits and probabilities on all images: float32 (N, K)."""
        logits, probabilities = self.run_graph(self.images, OUTPUTS)
        return logits, probabilities

    @property
    def graph_logits(self) -> Floats:
        return self.graph_outputs[0]

    @evidence("decisions")
    def network_outputs(self) -> tuple[Floats, Floats]:
        """The network's own logits and probabilities on all images: float32 (N, K)."""
        return run_network(self.network, self.images, self.temperature)

    @property
    def network_logits(self) -> Floats:
        return self.network_outputs[0]

    @property
    def tolerance(self) -> dict[str, float]:
        """How far the file may be from the network that it computes, by output.

        A file that computes in float32 from rounded weights is held to those: what the rounding cost does not count.
        """
        rows = self.parity.get(READ_AS_FLOAT, self.parity) if self.precision.dtype == "fp32" else self.parity
        return {name: rows[name]["tolerance"] for name in OUTPUTS}

    @evidence("parity")
    def parity_inputs(self) -> dict[str, Pixels]:
        """The pictures that parity is measured on, by kind."""
        return parity_inputs(self.images, self.network)

    @evidence("parity")
    def parity(self) -> dict[str, dict[str, Any]]:
        """Errors and tolerances by output; of a file with rounded weights, `READ_AS_FLOAT` holds the same for the file
        read as float32 against these weights."""
        groups = self.parity_inputs
        images = np.concatenate(list(groups.values()))
        # The real ones stand in front and have been answered with all images: a large network is not run on them twice.
        real = len(groups[REAL])
        graph = _behind(self.graph_outputs, real, self.run_graph(images[real:], OUTPUTS))
        exact = run_network(self.double, images, self.temperature)
        words = "PyTorch's own float32 error"
        if self.rounded is self.network and self.precision.dtype == "fp32":
            own = _behind(self.network_outputs, real, run_network(self.network, images[real:], self.temperature))
            return parity_rows(groups, graph, exact, own, words)
        plain, rounded = self.run_plain(images, OUTPUTS), run_network(self.double_rounded, images, self.temperature)
        inner = parity_rows(groups, plain, rounded, run_network(self.rounded, images, self.temperature), words)
        declared = run_network(self.as_declared, images, self.temperature)
        rows = parity_rows(groups, graph, exact, declared, f"PyTorch's own error in {self.precision}")
        return rows | {READ_AS_FLOAT: inner}

    @evidence("parity")
    def double(self) -> InDouble:
        """The network in float64, its weights as they were trained."""
        return InDouble(self.network)

    @evidence("parity")
    def double_rounded(self) -> InDouble:
        """The network in float64, its weights as the file holds them."""
        return self.double if self.rounded is self.network else InDouble(self.rounded)

    @property
    def as_declared(self) -> Callable[[Tensor], Tensor]:
        """PyTorch doing what the file declares to do, in its precision: whose error is the noise floor."""
        return InHalf(self.rounded) if self.precision.dtype == "fp16" else self.rounded


def _behind(known: Sequence[Floats], count: int, more: Sequence[Floats]) -> list[Floats]:
    """Return the first `count` rows of each output and, behind them, more."""
    return [np.concatenate([first[:count], rest]) for first, rest in zip(known, more, strict=True)]


def run_session(session: Any, images: Pixels, outputs: Sequence[str]) -> list[Floats]:
    """Return a session's outputs on `images`, in chunks as the runtime runs them."""
    parts = [
        session.run(list(outputs), {spec.INPUT: images[start : start + 256]}) for start in range(0, len(images), 256)
    ]
    return [np.concatenate(values) for values in zip(*parts, strict=True)]


def run_network(network: Callable[[Tensor], Tensor], images: Pixels, temperature: float = 1.0) -> tuple[Floats, Floats]:
    """Return a network's logits and probabilities on `images: uint8 (N, 1, 28, 28)`, in its own precision: (N, K)."""
    parts = max(1, -(-len(images) // CHUNK))
    with torch.inference_mode():
        logits = torch.cat([network(torch.from_numpy(part)) for part in np.array_split(images, parts)])
        return logits.numpy(), (logits / temperature).softmax(1).numpy()
