"""Match tensors of the file with the network's: by name where names agree, else by value.

Weights are compared bit by bit, but for batch norms that an exporter merged with the layer in front: these are computed
again in float64. What the file holds beside them and beside the numbers of the network's code is listed.
"""

from collections import defaultdict
from dataclasses import dataclass, field, replace

import numpy as np
import onnx
from torch import nn

from export.analysis.exported_program import Norm, Trace
from export.analysis.initializers import (
    Stored,
    difference,
    digest,
    digests,
    dims,
    read_by,
    same,
    size_of,
    stored_in,
    without_bias,
)
from export.precision import Precision
from runtime.model.spec import Array

_COMPUTED = "computed from "
_DERIVED_ROUNDING = 64 * float(np.finfo(np.float32).eps)  # of numbers that two libraries computed from parameters
# Square root, division, product and two sums round six times, each by half a unit of 2**-23 of the largest term.
_ROUNDING = 4 * float(np.finfo(np.float32).eps)


@dataclass
class Provenance:
    """The outcome of matching a file with a network.

    Attributes:
        sources: what each tensor of the file is, in words.
        exact: the numbers of the network's code that a tensor holds, before they were rounded, by the tensor's name.
        places: the node that computes a module's result, by the module's name.
        folded: the layer that a batch norm was merged into, by the batch norm's name.
        problems: sentences, the most telling first.
        unexplained: tensors that are neither parameters nor numbers of the network's code, in words.
        unread: parameters that the network itself never reads; held: how many others the file holds.
    """

    sources: dict[str, str] = field(default_factory=dict)
    exact: dict[str, Array] = field(default_factory=dict)
    places: dict[str, onnx.NodeProto] = field(default_factory=dict)
    folded: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    held: int = 0


def provenance(network: nn.Module, traced: Trace, model: onnx.ModelProto, precision: Precision) -> Provenance:
    """Match every parameter of a network with the graph, and every tensor of floats in the graph with the network.

    Args:
        network: its weights are already rounded as `precision` does.
        traced: the trace of this very network.
    """
    return _Matching(network, traced, model, precision).run()


class _Matching:
    def __init__(self, network: nn.Module, traced: Trace, model: onnx.ModelProto, precision: Precision) -> None:
        self.network, self.traced, self.precision = network, traced, precision
        self.stored = {stored.name: stored for stored in stored_in(model.graph)}
        self.by_value: dict[bytes, list[str]] = defaultdict(list)
        for stored in self.stored.values():
            for key in digests(stored.array):
                self.by_value[key].append(stored.name)
        self.found: dict[str, list[str]] = {}  # parameter -> tensors of the file that hold it
        # BatchNorm counts its batches while it trains; nothing depends on it.
        unread = [name for name in traced.unread if not name.endswith("num_batches_tracked")]
        self.result = Provenance(unread=unread)

    def run(self) -> Provenance:
        for norm in self.traced.norms:
            if norm.layer is None or not self._match_fold(norm, norm.layer):
                self._match_scale_and_shift(norm)
        for name, array in self.traced.tensors.items():
            if name not in self.found:
                self._match_parameter(name, array)
        self._match_derived()
        self._explain_the_rest()
        self._place()
        self.result.held = len(self.found)
        self.result.problems += [
            f"{name} {size_of(array)}: expected in the file, but no tensor holds it{self._nearest(array)}"
            for name, array in self.traced.tensors.items()
            if name not in self.found
        ]
        return self.result

    def _match_parameter(self, name: str, array: Array) -> None:
        namesake = self.stored.get(name)
        if namesake is not None and same(namesake.array, array):
            holders = [name]
        elif (holders := self.by_value.get(digest(array), [])) == [] and namesake is not None:
            self.result.problems.insert(0, f"{name}: {difference(namesake, array)}")
            self._note(name, namesake, "differs from")
            return
        weights = self.found.get(f"{name.removesuffix('.bias')}.weight", [])
        left_out = name.endswith(".bias") and not array.any() and any(without_bias(self.stored[w]) for w in weights)
        if not holders and left_out:  # exporters leave out a bias of zeros
            self.found[name] = weights
        for holder in holders or self._recurrent(name, array):
            self._note(name, self.stored[holder], "is")

    def _match_derived(self) -> None:
        """Look for what the code computes from parameters alone, which exporters may store in place of these.

        A parameter is held if the file has every such value that the images meet, or one on the way to it.
        """
        holders: dict[int, Stored | None] = {}
        for name in [name for name in self.traced.tensors if name not in self.found]:
            values = [each for each in self.traced.derived if each.used and name in each.origins]
            held: list[Stored] = []
            for value in values:
                for step in sorted(value.steps, reverse=True):
                    derived = self.traced.derived[step]
                    if name in derived.origins and step not in holders:
                        holders[step] = self._holder(derived.value)
                    if name in derived.origins and (holder := holders[step]) is not None:
                        held.append(holder)
                        break
            if values and len(held) == len(values):
                self.found[name] = [stored.name for stored in held]
                for stored in held:
                    self.result.sources.setdefault(stored.name, f"{_COMPUTED}{name}")

    def _holder(self, value: Array) -> Stored | None:
        """Return the tensor that holds these numbers, in whatever order; parity tells whether it is the right one."""
        for name in self.by_value.get(digest(value), []):
            return self.stored[name]
        numbers = np.sort(value, axis=None)
        for stored in self.stored.values():
            # One tensor may stand for several parameters, where exporters store equal results once.
            free = self.result.sources.get(stored.name, _COMPUTED).startswith(_COMPUTED)
            if free and stored.array.size == value.size > 0:
                limit = _DERIVED_ROUNDING * max(abs(float(numbers[0])), abs(float(numbers[-1])))
                if np.abs(np.sort(stored.array, axis=None) - numbers).max() <= limit:
                    return stored
        return None

    def _recurrent(self, name: str, array: Array) -> list[str]:
        """Return the tensor that holds each gate of a recurrent layer: ONNX joins them, in another order."""
        owner = self.network.get_submodule(name.rpartition(".")[0])
        if not isinstance(owner, nn.RNNBase):
            return []
        gates = array.reshape(array.shape[0] // owner.hidden_size, -1)
        for stored in self.stored.values():
            if stored.array.size % gates.shape[1] == 0:
                held = stored.array.reshape(-1, gates.shape[1])
                if all((held == gate).all(1).any() for gate in gates):
                    return [stored.name]
        return []

    def _match_fold(self, norm: Norm, layer: str) -> bool:
        """Compare the file with a layer and the batch norm behind it as one layer; return whether it holds that."""
        scale, shift, limit = self._scale_and_shift(norm)
        weight = self._double(layer)
        if norm.transposed:  # (in, out / groups, height, width), one group behind the other
            factor = np.repeat(scale.reshape(norm.transposed, -1), len(weight) // norm.transposed, axis=0)
            merged = weight * factor.reshape(*factor.shape, *[1] * (weight.ndim - 2))
        else:
            merged = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
        name = layer.removesuffix(".weight")
        words = f"{name} with {norm.name} folded in"
        limit_of_weights = _ROUNDING * np.abs(merged)
        held = self._close(merged, limit_of_weights, layer)
        if held is None and (held := self._damaged(layer, merged)) is not None:
            self.result.problems.insert(0, f"{words}, weight: {difference(held, merged, limit_of_weights)}")
        if held is None:
            return False
        bias = self._double(norm.layer_bias) * scale if norm.layer_bias else np.zeros_like(scale)
        limit = _ROUNDING * np.abs(bias) + limit
        added = self._close(bias + shift, limit, f"{name}.bias", beside=held)
        if added is None and not ((np.abs(bias + shift) <= limit).all() and without_bias(held)):
            beside = [self.stored[each] for node in held.readers[:1] for each in node.input[2:] if each in self.stored]
            told = f": {difference(beside[0], bias + shift, limit)}" if beside else ""
            self.result.problems.insert(0, f"{words}: no tensor is the bias that goes with its weights{told}")
        self.result.folded[norm.name] = name
        self._note_norm(norm, words, *filter(None, (held, added)))
        return True

    def _damaged(self, layer: str, merged: Array) -> Stored | None:
        """Return the tensor of this name if it is nearer to the folded weights than to the layer's own."""
        stored = self.stored.get(layer)
        if stored is None or dims(stored.array) != dims(merged) or same(stored.array, self.traced.tensors[layer]):
            return None
        error, other = (np.abs(stored.array.reshape(merged.shape) - each) for each in (merged, self._double(layer)))
        return stored if np.median(error) < np.median(other) else None

    def _match_scale_and_shift(self, norm: Norm) -> None:
        """A batch norm that no layer precedes may have become a product and a sum."""
        if norm.variance in self.stored or self.by_value.get(digest(self.traced.tensors[norm.variance])):
            return
        scale, shift, limit = self._scale_and_shift(norm)
        product, total = self._close(scale, np.abs(scale) * 1e-6, ""), self._close(shift, limit, "")
        if product is not None and total is not None:
            self._note_norm(
                replace(norm, layer=None, layer_bias=None), f"{norm.name} as a product and a sum", product, total
            )

    def _scale_and_shift(self, norm: Norm) -> tuple[Array, Array, Array]:
        """Return a batch norm as x * scale + shift, in float64, and how far float32 may end from the shift."""
        mean = self._double(norm.mean)
        beta = self._double(norm.bias) if norm.bias else np.zeros_like(mean)
        scale = (self._double(norm.weight) if norm.weight else 1) / np.sqrt(self._double(norm.variance) + norm.eps)
        return scale, beta - mean * scale, _ROUNDING * (np.abs(mean * scale) + np.abs(beta)) + np.finfo(np.float32).tiny

    def _note_norm(self, norm: Norm, words: str, *held: Stored) -> None:
        for name in (norm.weight, norm.bias, norm.mean, norm.variance, norm.layer, norm.layer_bias):
            if name:
                self.found[name] = [stored.name for stored in held]
        self.result.sources |= {stored.name: words for stored in held}

    def _double(self, name: str) -> Array:
        return self.traced.tensors[name].astype(np.float64)

    def _close(self, wanted: Array, limit: Array, name: str, beside: Stored | None = None) -> Stored | None:
        """Return the tensor that is `wanted` within `limit`, if need be transposed, and read with the one `beside`."""
        candidates = sorted(self.stored.values(), key=lambda stored: stored.name != name)  # a namesake comes first
        if beside is not None and beside.readers:
            inputs = set(beside.readers[0].input)
            candidates = [stored for stored in candidates if stored.name in inputs] or candidates
        for stored in candidates:
            for array, most in ((wanted, limit), (wanted.T, limit.T)):
                if dims(stored.array) == dims(array):
                    error = np.abs(stored.array.reshape(array.shape).astype(np.float64) - array)
                    if (error <= most).all():
                        return stored
        return None

    def _explain_the_rest(self) -> None:
        numbers = self._numbers_of_the_code()
        for name, stored in self.stored.items():
            if name in self.result.sources:
                continue
            if stored.readers and all(node.op_type == "Resize" for node in stored.readers):
                self.result.sources[name] = "scales of a resize"  # the sizes show whether they are right
            elif (exact := numbers.get(digest(stored.array))) is not None:
                self.result.sources[name] = f"a {'constant' if exact.ndim else 'number'} of the network's code"
                self.result.exact[name] = exact.reshape(stored.array.shape)
            else:
                shown = f", {float(stored.array.reshape(-1)[0]):.9g}" if stored.array.size == 1 else ""
                self.result.unexplained.append(f"{name} {size_of(stored.array)}{shown}{read_by(stored)}")

    def _numbers_of_the_code(self) -> dict[bytes, Array]:
        """Return the numbers of the network's code by the digest of what the file holds of them.

        Where rounding makes two numbers one, that is the nearer of them.
        """
        with np.errstate(over="ignore"):
            scalars = [np.array(number, np.float32) for number in sorted(self.traced.scalars)]
        held = [(self.precision.of_numbers(number), number) for number in scalars]
        held.sort(key=lambda pair: 0 if pair[0] == pair[1] else abs(float(pair[0] - pair[1])))
        turned = [array.T for array in self.traced.constants if len(dims(array)) == 2]
        held += [(self.precision.of_numbers(array), array) for array in [*self.traced.constants, *turned]]
        exact: dict[bytes, Array] = {}
        for rounded, number in held:
            exact.setdefault(digest(rounded), number)
        return exact

    def _place(self) -> None:
        """Find the node behind each module: the one that reads its bias, or else its weight."""
        for kind in ("weight", "bias"):
            for name, holders in self.found.items():
                module, _, last = name.rpartition(".")
                nodes = {node.output[0]: node for holder in holders for node in self.stored[holder].readers}
                if last == kind and len(nodes) == 1:
                    self.result.places[module] = next(iter(nodes.values()))

    def _note(self, parameter: str, stored: Stored, verb: str) -> None:
        self.found.setdefault(parameter, []).append(stored.name)
        self.result.sources.setdefault(stored.name, parameter if verb == "is" else f"{verb} {parameter}")

    def _nearest(self, array: Array) -> str:
        rivals = [
            stored
            for stored in self.stored.values()
            if dims(stored.array) == dims(array) and stored.name not in self.result.sources
        ]
        if not rivals:
            return ""
        nearest = min(rivals, key=lambda stored: float(np.abs(stored.array.reshape(array.shape) - array).max()))
        return f"; the nearest is {nearest.name!r}: {difference(nearest, array)}"
