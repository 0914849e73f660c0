"""The precisions in which a file computes and keeps its weights, and how they are verified.

`fp32` is the network as it was trained. `--storage fp16` computes in float32, but keeps kernels and matrices as
float16, with a Cast that runtimes fold when they load: half the bytes, and to the bit the float32 network whose kernels
and matrices were rounded. `--storage int8` and `int4` keep the matrices of linear layers in integers besides, see
`export.integers`: a quarter and an eighth of their bytes, which is what a large one costs at batch 1. `--dtype fp16`
computes in float16 too, all numbers rounded. `--dtype int8` computes in integers: batch norms are folded, weights have
the scales of `export.integers`, activations those that follow from calibration images (`export.convert.calibrate`).

A rounded file is not the network itself: it declares its rounding, and the checks round in the same way, see
docs/how-to/precision.md. Let N be the network in float64 with the trained weights, and M the multiple of the check of
parity. The file must agree with N within M times the error that PyTorch makes when it rounds as declared. Read as
float32, it must agree with N computed with the rounded weights, as closely as any float32 file does. A decision may
differ only where two logits of the network are closer than twice the first of these tolerances on real pictures.
"""

import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor, nn

from export.integers import BITS, DENSE, MULTIPLYING, Integers, integers_of
from runtime.errors import UsageError
from runtime.model.metadata import DTYPES, STORAGES

_HALF = onnx.TensorProto.FLOAT16
_WHOLE = {  # types of pixels, sizes, axes and comparisons
    getattr(onnx.TensorProto, name)
    for name in ("BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64")
}
_COMPUTES_IN_INT8 = {  # or multiplies integers as they are, which no file declares
    "QuantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul",
}  # fmt: skip
_WORDS = {"fp16": "float16", "int8": "int8"}
_IN_INTEGERS = {onnx.TensorProto.INT8: "int8", onnx.TensorProto.INT4: "int4"}


@dataclass(frozen=True)
class Precision:
    """What a file declares: `dtype` is what it computes in, `storage` what it keeps its weights in: fp32, fp16, int8 or
    int4. Of one that computes in int8, `float_layers` names the layers that do not, and `calibration` the images that
    the scales of activations follow from: `{"images": N, "sha256": ...}`.

    Raises:
        UsageError: there is no such precision.
    """

    dtype: str = "fp32"
    storage: str = "fp32"
    float_layers: tuple[str, ...] = field(default=(), compare=False)
    calibration: dict[str, Any] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        for option, value, known in (("dtype", self.dtype, DTYPES), ("storage", self.storage, STORAGES)):
            if value not in known:
                raise UsageError(f"{option} must be one of {', '.join(known)}, not {value!r}")
        if self.dtype != "fp32" and self.storage not in ("fp32", self.dtype):
            kind = _WORDS[self.dtype]
            raise UsageError(f"a file that computes in {kind} stores {kind} too: leave out storage {self.storage}")
        if self.dtype != "fp32":  # computing in float16 implies storing in float16
            object.__setattr__(self, "storage", self.dtype)

    @classmethod
    def of(cls, metadata: dict[str, Any]) -> "Precision":
        """Return what a file's metadata declares; a file that says nothing is fp32."""
        quantization = metadata.get("quantization") or {}
        return cls(
            metadata.get("dtype") or "fp32",
            metadata.get("storage") or "fp32",
            tuple(quantization.get("float_layers", ())),
            quantization.get("calibration"),
        )

    @property
    def rounds(self) -> bool:
        """Whether the file holds other weights than the network."""
        return self.storage != "fp32"

    @property
    def in_integers(self) -> bool:
        """Whether it holds some of them in integers."""
        return self.storage in BITS

    def __str__(self) -> str:
        if self.dtype == "int8":
            return f"int8, {len(self.float_layers)} layers in float32" if self.float_layers else "int8"
        if self.dtype == "fp16":
            return "float16"
        if self.in_integers:
            return f"float32, the weights of its linear layers kept as {self.storage}, other kernels as float16"
        return "float32, its weights kept as float16" if self.rounds else "float32"

    def as_dict(self) -> dict[str, Any]:
        """Return the metadata that declare this precision."""
        declared: dict[str, Any] = {"dtype": self.dtype, "storage": self.storage}
        if self.calibration is not None:
            declared["quantization"] = {"calibration": self.calibration, "float_layers": list(self.float_layers)}
        return declared

    def rounded(self, network: nn.Module) -> nn.Module:
        """Return a network with its weights rounded as this precision does; the same one where that changes nothing.

        Kernels and matrices are rounded, being nearly all of the numbers; biases, statistics of batch norms and the
        preprocessing's constants only where float16 computes.

        Raises:
            UsageError: a number is beyond float16.
        """
        if not self.rounds:
            return network
        twin, changed = copy.deepcopy(network), False
        integers = self.integers(network)
        with torch.no_grad():
            for name, tensor in [*twin.named_parameters(), *twin.named_buffers()]:
                if name in integers:
                    rounded = torch.from_numpy(integers[name].numbers()).to(tensor)
                elif self.is_half(tensor):
                    rounded = tensor.half().to(tensor.dtype)
                else:
                    continue
                if not torch.isfinite(rounded).all():
                    raise UsageError(
                        f"{name} holds {float(tensor.abs().max()):.6g}, and float16 ends at 65504: export it as fp32"
                    )
                changed = changed or not torch.equal(rounded, tensor)
                tensor.copy_(rounded)
        return twin if changed else network

    def integers(self, network: nn.Module) -> dict[str, Integers]:
        """Return the weights that a file holds in integers, by name; for int8, batch norms are folded already."""
        if not self.in_integers:
            return {}
        kept = {f"{layer}.weight" for layer in self.float_layers}
        found = integers_of(network, self.storage, MULTIPLYING if self.dtype == "int8" else DENSE)
        return {name: weight for name, weight in found.items() if name not in kept}

    def is_half(self, tensor: Tensor) -> bool:
        """Whether a parameter or buffer like this one is held as float16, if not in integers."""
        if not self.rounds or self.dtype == "int8":
            return False
        return tensor.is_floating_point() and (self.dtype == "fp16" or tensor.dim() >= 2)

    def of_numbers(self, numbers: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return numbers of the network's code as the file holds them."""
        with np.errstate(over="ignore"):
            held = numbers.astype(np.float16) if self.dtype == "fp16" else numbers
            return held.astype(np.float32)


FULL = Precision()


def precision_in(model: onnx.ModelProto, types: dict[str, int]) -> Precision:
    """Return the precision that a graph really has, by the element types of its values, whatever it declares."""
    stored = {tensor.name for tensor in model.graph.initializer if tensor.data_type == _HALF}
    halves = stored | {name for name, kind in types.items() if kind == _HALF}
    computes = any(
        halves.intersection([*node.input, *node.output])
        for node in model.graph.node
        if node.op_type not in ("Cast", "Constant", "Identity", "Transpose")
    )
    if computes:
        return Precision("fp16")
    if any(node.op_type in _COMPUTES_IN_INT8 for node in model.graph.node):
        return Precision("int8")
    integers = {t.name: _IN_INTEGERS[t.data_type] for t in model.graph.initializer if t.data_type in _IN_INTEGERS}
    read = [
        integers[n.input[0]] for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in integers
    ]
    return Precision("fp32", min(read, default="fp16" if halves else "fp32"))


def other_float(model: onnx.ModelProto, types: dict[str, int]) -> str | None:
    """Say which value is a float of a type that no file declares, as float64 or bfloat16: its rounding is unknown."""
    stored = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    for name, kind in (types | stored).items():
        if kind not in _WHOLE | {onnx.TensorProto.FLOAT, _HALF, onnx.TensorProto.INT4}:
            return f"{name!r} is {onnx.TensorProto.DataType.Name(kind)}: a file holds FLOAT, or FLOAT16 if it says so"
    return None
