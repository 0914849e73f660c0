"""The context of the checks: a network, a file, pictures, and the evidence computed from these."""

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
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from export.analysis.cost import count_operations
from export.analysis.exported_program import Trace, trace
from export.analysis.folding import fold_batch_norms
from export.analysis.references import InDouble, in_half, perturbed
from export.analysis.sandbox import Examination, examine
from export.analysis.weight_matching import Provenance, provenance
from export.convert.float16 import read_as_float
from export.convert.normalization import deployed
from export.convert.quantize import with_rounding_spelled_out, without_quantization
from export.integers import Integers, QuantizedInputs
from export.precision import FULL, Precision
from export.verification.backends import open_engine
from export.verification.evidence import (
    OUTPUTS,
    QUANTIZED_MULTIPLE,
    REAL,
    Floats,
    Pixels,
    parity_inputs,
    parity_rows,
)
from export.verification.integer_weights import biases_of
from runtime.errors import ModelInvalid
from runtime.evaluation.parity import AS_QUANTIZED, READ_AS_FLOAT
from runtime.model.metadata import LOGITS, Metadata, parse_metadata
from runtime.model.spec import FASHION_MNIST, INPUT, InputSpec
from runtime.session.session import open_session

ONNXRUNTIME = "onnxruntime"
MAX_DROP = 0.002  # of accuracy, by rounding to integers
CHUNK = 256  # images at once, at most
MEMORY = 256 << 20  # bytes of activations at once, roughly
_LIVE = 4  # values as large as the largest one that are held at a time
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


@dataclass(eq=False, repr=False)
class VerificationContext:
    """A network and the file that claims to be it.

    The arguments are those of `export.verify`, whose `model` is `content`; `network` becomes a copy that takes the
    file's images, see `export.convert.normalization`.
    """

    network: nn.Module
    content: bytes
    images: Pixels
    labels: npt.NDArray[Any]
    expected: dict[str, Any]
    device: str = "cpu"
    engine: str = ONNXRUNTIME
    input: InputSpec = FASHION_MNIST
    calibration: Pixels | None = None
    max_drop: float = MAX_DROP
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float), init=False)  # by check

    def __post_init__(self) -> None:
        self.network = deployed(self.network, self.input)
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

    @evidence("structure")
    def of_images(self) -> set[str]:
        """The names of the values that depend on pixels, not on the sizes of images alone."""
        found = {INPUT}
        for node in self.model.graph.node:
            if node.op_type not in ("Shape", "Size") and found.intersection(node.input):
                found.update(node.output)
        return found

    @evidence("signature")
    def metadata(self) -> Metadata:
        props = {prop.key: prop.value for prop in self.model.metadata_props}
        return parse_metadata(props, "the file")

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
        return trace(self.rounded, self.input)

    @evidence("weights")
    def rounded(self) -> nn.Module:
        """The network with its weights as the file declares to hold them."""
        return self.precision.rounded(self.prepared)

    @evidence("weights")
    def prepared(self) -> nn.Module:
        """The network in the form whose weights are rounded: for int8, with its batch norms folded."""
        return fold_batch_norms(self.network, self.input) if self.precision.dtype == "int8" else self.network

    @evidence("weights")
    def integers(self) -> dict[str, Integers]:
        """The weights that the file should hold in integers, by name."""
        read = self.trace.tensors
        return {name: weight for name, weight in self.precision.integers(self.prepared).items() if name in read}

    @evidence("weights")
    def provenance(self) -> Provenance:
        """Which tensor of the file is which of the network, rounded as the file declares."""
        return provenance(self.rounded, self.trace, self.multiplied_out, self.precision)

    @evidence("weights")
    def multiplied_out(self) -> onnx.ModelProto:
        """The file with what it holds in integers as float32, and no value rounded between nodes; the file itself where
        it declares no integers."""
        if not self.precision.in_integers:
            return self.model
        biases = {bias.value: bias.numbers for bias in biases_of(self.model.graph, self.integers, self.trace.tensors)}
        return without_quantization(self.model, biases)

    @evidence("parity")
    def plain(self) -> onnx.ModelProto:
        """The file read as float32, with the numbers of the network's code as exact as there; the file itself where
        it computes in float32 from floats."""
        if self.precision.dtype == "fp16":
            return read_as_float(self.model, self.provenance.exact)
        return self.multiplied_out

    @evidence("batch")
    def opened(self) -> Any:
        return open_session(self.content, self.device, what="the file")

    @evidence("batch")
    def session(self) -> Any:
        """The file, opened by the engine in question."""
        return self.opened.session if self.engine == ONNXRUNTIME else open_engine(self.engine, self.content)

    @evidence("parity")
    def cost(self) -> tuple[int, int]:
        """Floating-point operations of one image, and the numbers of its largest activation."""
        with _Largest() as largest:
            return count_operations(self.network, torch.from_numpy(self.images[:1])), largest.numel

    @property
    def at_once(self) -> int:
        """How many images are put through PyTorch or the graph at once, so that memory does not grow with them."""
        return max(1, min(CHUNK, MEMORY // (4 * _LIVE * max(1, self.cost[1]))))

    def run_graph(self, images: Pixels, outputs: Sequence[str] = (LOGITS,)) -> list[Floats]:
        """Return the graph's outputs on `images`, run in chunks as the runtime does."""
        return run_session(self.session, images, outputs, self.at_once)

    def run_plain(self, images: Pixels, outputs: Sequence[str]) -> list[Floats]:
        """Return the outputs of the file read as float32."""
        if self.plain is self.model:
            return self.run_graph(images, outputs)
        plain = self.plain.SerializeToString()
        if self.engine != ONNXRUNTIME:
            return run_session(open_engine(self.engine, plain), images, outputs, self.at_once)
        opened = open_session(plain, self.device, what="the file read as float32")
        return run_session(opened.session, images, outputs, self.at_once)

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
        return self._run(self.network, self.images)

    @property
    def tolerance(self) -> dict[str, float]:
        """How far the file may be from the network that it computes, by output.

        A file that computes in float32 from rounded weights is held to those: what the rounding cost does not count.
        With integers, a value near a rounding boundary may round either way; few do, so a quarter of the noise floor is
        allowed. Dynamic quantisation moves all values with the batch.
        """
        if AS_QUANTIZED in self.parity:
            return {name: self.parity[AS_QUANTIZED][name]["noise_floor"] / 4 for name in OUTPUTS}
        rows = self.parity.get(READ_AS_FLOAT, self.parity) if self.precision.dtype == "fp32" else self.parity
        return {name: rows[name]["tolerance"] for name in OUTPUTS}

    @evidence("parity")
    def parity_inputs(self) -> dict[str, Pixels]:
        """The pictures that parity is measured on, by kind."""
        return parity_inputs(self.images, self.network, self.input, self.cost[0])

    @evidence("parity")
    def parity(self) -> dict[str, dict[str, Any]]:
        """Errors and tolerances by output; of a file with rounded weights, `READ_AS_FLOAT` holds the same for the file
        read as float32 against these weights, and of one with integers `AS_QUANTIZED` for the file as it is."""
        groups = self.parity_inputs
        images = np.concatenate(list(groups.values()))
        # The real ones stand in front and have been answered with all images: a large network is not run on them twice.
        real = len(groups[REAL])
        graph = _behind(self.graph_outputs, real, self.run_graph(images[real:], OUTPUTS))
        exact = self._run(self.double, images)
        words = "float32's own error"
        if self.rounded is self.network and self.plain is self.model:
            own = _behind(self.network_outputs, real, self._run(self.network, images[real:]))
            return parity_rows(groups, graph, exact, own, words, self._run(perturbed(self.network), images))
        plain, rounded = self.run_plain(images, OUTPUTS), self._run(self.double_rounded, images)
        inexact = self._run(perturbed(self.rounded), images)
        inner = parity_rows(groups, plain, rounded, self._run(self.rounded, images), words, inexact)
        declared = self._run(self.as_declared, images)
        if self.precision.dtype == "int8":
            words = "the error of the same rounding in float32 arithmetic"
        else:
            words = f"PyTorch's own error in {self.precision}"
        rows = parity_rows(groups, graph, exact, declared, words, inexact)
        if not self.precision.in_integers:
            return rows | {READ_AS_FLOAT: inner}
        if self.precision.dtype != "int8":
            words = "PyTorch's own error in rounding what the integers multiply"
        quantized = parity_rows(groups, graph, rounded, declared, words, multiple=QUANTIZED_MULTIPLE)
        return rows | {READ_AS_FLOAT: inner, AS_QUANTIZED: quantized}

    def _run(self, network: Callable[[Tensor], Tensor], images: Pixels) -> tuple[Floats, Floats]:
        return run_network(network, images, self.at_once, self.temperature)

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
        if self.precision.dtype == "int8":
            plain = with_rounding_spelled_out(self.model).SerializeToString()
            session = open_session(plain, "cpu", what="the file in float32 arithmetic").session
            return lambda images: torch.from_numpy(run_session(session, images.numpy(), (LOGITS,))[0])
        if self.precision.in_integers:
            return QuantizedInputs(self.rounded, self.precision.storage)
        return in_half(self.rounded) if self.precision.dtype == "fp16" else self.rounded


def _behind(known: Sequence[Floats], count: int, more: Sequence[Floats]) -> list[Floats]:
    """Return the first `count` rows of each output and, behind them, more."""
    return [np.concatenate([first[:count], rest]) for first, rest in zip(known, more, strict=True)]


class _Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the size of the largest result."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.numel = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        sizes = [value.numel() for value in tree_iter(result) if isinstance(value, Tensor)]
        self.numel = max(self.numel, *sizes) if sizes else self.numel
        return result


def run_session(session: Any, images: Pixels, outputs: Sequence[str], at_once: int = CHUNK) -> list[Floats]:
    """Return a session's outputs on `images`, so many at once."""
    parts = [
        session.run(list(outputs), {INPUT: images[start : start + at_once]}) for start in range(0, len(images), at_once)
    ]
    return [np.concatenate(values) for values in zip(*parts, strict=True)]


def run_network(
    network: Callable[[Tensor], Tensor], images: Pixels, at_once: int = CHUNK, temperature: float = 1.0
) -> tuple[Floats, Floats]:
    """Return a network's logits and probabilities on the file's images, in its own precision: (N, K)."""
    parts = max(1, -(-len(images) // at_once))
    with torch.no_grad():  # PyTorch's fused attention cannot be followed by a dispatch mode in inference mode
        logits = torch.cat([network(torch.from_numpy(part)) for part in np.array_split(images, parts)])
        return logits.numpy(), (logits / temperature).softmax(1).numpy()
