"""Which number of the file is which number of the network: by name where names agree, else by value."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from torch import nn

from export.constants import Constants, resize_problems
from export.origins import Origins, fold, origins_of, scale_and_shift
from export.precision import Precision
from export.stored import (
    Array,
    Stored,
    called,
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
from export.trace import Shape


@dataclass
class Provenance:
    """The outcome of matching a file with a network.

    Attributes:
        sources: what each tensor of the file is, in words.
        exact: the numbers of the network's code that a tensor holds, before they were rounded, by the tensor's name.
        places: the node that computes a module's result, by the module's name.
        folded: the layer that a batch norm was merged into, by the batch norm's name.
        problems: sentences, the most telling first.
        unread: parameters that the network itself never reads; held: how many others the file holds.
    """

    sources: dict[str, str] = field(default_factory=dict)
    exact: dict[str, Array] = field(default_factory=dict)
    places: dict[str, onnx.NodeProto] = field(default_factory=dict)
    folded: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    held: int = 0


def provenance(
    network: nn.Module, model: onnx.ModelProto, precision: Precision, shapes: dict[str, Shape]
) -> Provenance:
    """Match every stored tensor of a graph with the network, and every parameter of the network with the graph.

    Args:
        network: its weights are already rounded as `precision` does; the numbers of its code are not.
        shapes: what the graph computes, by value name.
    """
    return _Matching(network, model, precision, shapes).run()


class _Matching:
    def __init__(
        self, network: nn.Module, model: onnx.ModelProto, precision: Precision, shapes: dict[str, Shape]
    ) -> None:
        self.network, self.model, self.precision, self.shapes = network, model, precision, shapes
        self.origins: Origins = origins_of(network)
        self.stored = {stored.name: stored for stored in stored_in(model.graph)}
        self.by_value: dict[bytes, list[str]] = defaultdict(list)
        for stored in self.stored.values():
            for key in digests(stored.array):
                self.by_value[key].append(stored.name)
        self.found: dict[str, list[str]] = {}  # parameter -> tensors of the file that hold it
        # BatchNorm counts its batches while it trains; nothing depends on it.
        unread = [name for name in self.origins.unread if not name.endswith("num_batches_tracked")]
        self.result = Provenance(unread=unread)

    def run(self) -> Provenance:
        for norm, layer in self.origins.folds.items():
            self._match_fold(norm, layer)
        for norm, module in self.network.named_modules():
            if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d) and norm not in self.result.folded:
                self._match_scale_and_shift(norm, module)
        for name, array in self.origins.tensors.items():
            if name not in self.found:
                self._match_parameter(name, array)
        self._explain_the_rest()
        self._place()
        self.result.held = len(self.found)
        self.result.problems += [
            f"{name} {size_of(array)}: expected in the file, but no tensor holds it{self._nearest(name, array)}"
            for name, array in self.origins.tensors.items()
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
        beside = self.found.get(f"{name.removesuffix('.bias')}.weight", [])
        if (
            not holders
            and name.endswith(".bias")
            and not array.any()
            and any(map(without_bias, map(self.stored.get, beside)))
        ):
            self.found[name] = beside  # exporters leave out a bias of zeros
        for holder in holders:
            stored = self.stored[holder]
            if problem := self._orientation_problem(name, stored, array):
                self.result.problems.append(problem)
            self._note(name, stored, "is")

    def _orientation_problem(self, name: str, stored: Stored, array: Array) -> str | None:
        """A linear layer's weight must lie the way that the node which reads it takes it."""
        owner = self.network.get_submodule(name.rpartition(".")[0])
        if not isinstance(owner, nn.Linear) or array.ndim != 2:
            return None
        for node, index, turned in stored.readers:
            if node.op_type not in ("Gemm", "MatMul") or index != 1:
                continue
            inner = next((a.i for a in node.attribute if a.name == "transB"), 0)
            wanted = array if bool(inner) != turned else array.T
            if stored.array.shape != wanted.shape or not np.array_equal(stored.array, wanted):
                return f"{name}: node {called(node)} needs it {size_of(wanted)}, but {stored.name!r} is turned over"
        return None

    def _match_fold(self, norm: str, layer: str) -> None:
        merged = fold(self.network, layer, norm)
        weight = self._close(merged.weight, merged.weight_room, f"{layer}.weight")
        if weight is None:
            return
        names = [
            f"{part}.{kind}" for part in (layer, norm) for kind in ("weight", "bias", "running_mean", "running_var")
        ]
        self.result.folded[norm] = layer
        bias = self._close(merged.bias, merged.bias_room, f"{layer}.bias", beside=weight)
        words = f"{layer} with {norm} folded in"
        if bias is None and not ((np.abs(merged.bias) <= merged.bias_room).all() and without_bias(weight)):
            self.result.problems.insert(
                0, f"{words}: the weights are there, but no tensor is the bias that goes with them"
            )
        for name in names:
            if name in self.origins.tensors:
                self.found[name] = [weight.name] + ([bias.name] if bias else [])
        for stored in filter(None, (weight, bias)):
            self.result.sources[stored.name] = words

    def _match_scale_and_shift(self, norm: str, module: Any) -> None:
        """A batch norm that no layer precedes may have become a product and a sum."""
        if module.running_mean is None or f"{norm}.running_var" not in self.origins.tensors:
            return
        variance = f"{norm}.running_var"
        if variance in self.stored or self.by_value.get(digest(self.origins.tensors[variance])):
            return
        scale, shift, room = scale_and_shift(module)
        product, total = self._close(scale, np.abs(scale) * 1e-6, ""), self._close(shift, room, "")
        if product is None or total is None:
            return
        for kind in ("weight", "bias", "running_mean", "running_var"):
            self.found[f"{norm}.{kind}"] = [product.name, total.name]
        self.result.sources |= {product.name: f"scale of {norm}", total.name: f"shift of {norm}"}

    def _close(self, wanted: Array, room: Array, name: str, beside: Stored | None = None) -> Stored | None:
        candidates = sorted(self.stored.values(), key=lambda stored: stored.name != name)  # a namesake comes first
        if beside is not None and beside.readers:
            inputs = set(beside.readers[0][0].input)
            candidates = [stored for stored in candidates if stored.name in inputs] or candidates
        for stored in candidates:
            for array, limit in ((wanted, room), (wanted.T, room.T)):
                if stored.array.size == array.size and dims(stored.array) == dims(array):
                    error = np.abs(stored.array.reshape(array.shape).astype(np.float64) - array)
                    if (error <= limit).all():
                        return stored
        return None

    def _explain_the_rest(self) -> None:
        constants = Constants(self.origins, self.precision)
        for name, stored in self.stored.items():
            if name in self.result.sources:
                problem = constants.wrong_limit(stored) or self._read_more(stored)
                self.result.problems += [problem] if problem else []
            elif stored.readers and all(
                node.op_type == "Resize" and index in (1, 2) for node, index, _ in stored.readers
            ):
                self.result.sources[name] = "scales of a resize"
            elif (source := constants.source(stored)) is not None:
                self.result.sources[name], numbers = source
                if numbers is not None:
                    self.result.exact[name] = numbers.reshape(stored.array.shape)
            else:
                self.result.problems.append(
                    f"tensor {name!r} {size_of(stored.array)}{read_by(stored)} comes from nowhere: "
                    "it is no parameter, no constant of the network's code and no fold of them"
                )
        self.result.problems += constants.problems(self.model)
        self.result.problems += resize_problems(self.model.graph, self.shapes, self.origins.scalars)

    def _read_more(self, stored: Stored) -> str | None:
        """What is read once more than in the network takes part in something else, too."""
        held = [name for name, holders in self.found.items() if stored.name in holders]
        reads = sum(self.origins.reads.get(name, 0) for name in held)
        if not held or len(stored.readers) <= reads:
            return None
        last = called(stored.readers[-1][0])
        return f"tensor {stored.name!r} is read {len(stored.readers)} times, last by node {last}; the network: {reads}"

    def _place(self) -> None:
        """Find the node behind each module: the one that reads its bias, or else its weight."""
        for kind in ("weight", "bias"):
            for name, holders in self.found.items():
                module, _, last = name.rpartition(".")
                readers = [reader for holder in holders for reader in self.stored[holder].readers]
                nodes = {node.output[0]: node for node, _, _ in readers}
                if last == kind and len(nodes) == 1:
                    self.result.places[module] = next(iter(nodes.values()))

    def _note(self, parameter: str, stored: Stored, verb: str) -> None:
        self.found.setdefault(parameter, []).append(stored.name)
        self.result.sources.setdefault(stored.name, parameter if verb == "is" else f"{verb} {parameter}")

    def _nearest(self, name: str, array: Array) -> str:
        rivals = [
            stored
            for stored in self.stored.values()
            if dims(stored.array) == dims(array) and stored.name not in self.result.sources
        ]
        if not rivals:
            return ""
        nearest = min(rivals, key=lambda stored: float(np.abs(stored.array.reshape(array.shape) - array).max()))
        return f"; the nearest is {nearest.name!r}: {difference(nearest, array)}"
