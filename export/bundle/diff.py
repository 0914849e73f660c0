"""Compare two ONNX files: nodes, attributes, weights, metadata, and answers to the same pictures.

Answers are compared by the names of the classes, where both files have the same ones in whatever order.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.helper
import onnx.numpy_helper

from export.analysis.initializers import called
from export.analysis.sandbox import examine
from export.bundle.layer_diff import layer_differences
from runtime.errors import ModelInvalid
from runtime.evaluation.labels import match_labels
from runtime.model.metadata import LOGITS, PROBABILITIES
from runtime.model.spec import INPUT
from runtime.session.session import open_session

Pixels = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]


@dataclass
class Difference:
    """Sentences by part, of `layers` only where a file holds integers; `outputs` holds the largest difference of each,
    None where it could not be compared."""

    nodes: list[str] = field(default_factory=list)
    weights: list[str] = field(default_factory=list)
    metadata: list[str] = field(default_factory=list)
    form: list[str] = field(default_factory=list)
    layers: list[str] = field(default_factory=list)
    outputs: dict[str, float | None] = field(default_factory=dict)

    @property
    def same(self) -> bool:
        """Whether nothing differs, in form or in answers."""
        return not (self.nodes or self.weights or self.metadata or self.form or any(self.outputs.values()))

    def as_dict(self) -> dict[str, Any]:
        return {"same": self.same} | asdict(self)


def diff(first: bytes, second: bytes, images: Pixels) -> Difference:
    """Compare two files; `images`, as the first file's input says, are put to both.

    Raises:
        ModelInvalid: one of them is not self-contained, or no ONNX, so that it is not opened.
    """
    one, other = (_parsed(content, which) for content, which in ((first, "first"), (second, "second")))
    return Difference(
        nodes=_nodes(one.graph, other.graph),
        weights=_weights(one.graph, other.graph),
        metadata=_metadata(one, other),
        form=_values(_form(one), _form(other)),
        layers=layer_differences(one, other, images),
        outputs=_outputs(first, second, images, _same_classes(_labels(one), _labels(other))),
    )


def _parsed(content: bytes, which: str) -> onnx.ModelProto:
    if reason := examine(content).unsafe:
        raise ModelInvalid(f"the {which} file is not opened: {reason}")
    return onnx.load_from_string(content)


def _metadata(one: onnx.ModelProto, other: onnx.ModelProto) -> list[str]:
    before, after = ({prop.key: prop.value for prop in model.metadata_props} for model in (one, other))
    old, new = _labels(one), _labels(other)
    if old and new and old != new:  # class by class: a list is long
        del before["labels"], after["labels"]
        before |= {f"labels[{index}]": label for index, label in enumerate(old)}
        after |= {f"labels[{index}]": label for index, label in enumerate(new)}
    return _values(before, after)


def _labels(model: onnx.ModelProto) -> list[str] | None:
    """Return the class names that the metadata hold; None where they hold none that are fit to be compared."""
    try:
        labels = json.loads({prop.key: prop.value for prop in model.metadata_props}["labels"])
    except (KeyError, ValueError, RecursionError):
        return None
    return labels if isinstance(labels, list) and all(isinstance(label, str) for label in labels) else None


def _same_classes(before: list[str] | None, after: list[str] | None) -> list[int] | None:
    """Return where the second file has each class of the first; None where they have other classes.

    Of files without labels nothing is known but the order.
    """
    if before is None or after is None:
        return list(range(len(before or after or [])))
    places = match_labels(before, after)
    found = [place for place in places if place is not None]
    return found if sorted(found) == list(range(len(after))) and len(before) == len(after) else None


def _form(model: onnx.ModelProto) -> dict[str, Any]:
    infos = {
        f"{kind} {info.name}": str(
            [dim.dim_param or dim.dim_value for dim in info.type.tensor_type.shape.dim]
            + [onnx.TensorProto.DataType.Name(info.type.tensor_type.elem_type)]
        )
        for kind, infos in (("input", model.graph.input), ("output", model.graph.output))
        for info in infos
    }
    return infos | {"opset": model.opset_import[0].version if model.opset_import else None, "IR": model.ir_version}


def _nodes(one: onnx.GraphProto, other: onnx.GraphProto) -> list[str]:
    before, after = ({called(node): node for node in graph.node} for graph in (one, other))
    found = []
    for name in dict.fromkeys([*before, *after]):
        if name not in after or name not in before:
            found.append(f"{name}: only in the {'first' if name in before else 'second'}")
            continue
        found += [f"{name}: {line}" for line in _values(_parts(before[name]), _parts(after[name]))]
    return found


def _parts(node: onnx.NodeProto) -> dict[str, Any]:
    parts = {"operator": node.op_type, "inputs": list(node.input), "outputs": list(node.output)}
    return parts | {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


def _values(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [
        f"{key}: {_short(before.get(key))} -> {_short(after.get(key))}"
        for key in dict.fromkeys([*before, *after])
        if before.get(key) != after.get(key)
    ]


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _weights(one: onnx.GraphProto, other: onnx.GraphProto) -> list[str]:
    before, after = (
        {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer} for graph in (one, other)
    )
    found = []
    for name in dict.fromkeys([*before, *after]):
        if name not in after or name not in before:
            found.append(f"{name}: only in the {'first' if name in before else 'second'}")
            continue
        old, new = before[name], after[name]
        if old.shape != new.shape or old.dtype != new.dtype:
            found.append(f"{name}: {old.dtype} {list(old.shape)} -> {new.dtype} {list(new.shape)}")
        elif not np.array_equal(old, new, equal_nan=True):
            error = np.abs(new.astype(np.float64) - old)
            count = int((~(error == 0)).sum())
            found.append(f"{name}: {count:,} of {old.size:,} numbers differ, by up to {error.max():.3g}")
    return found


def _outputs(first: bytes, second: bytes, images: Pixels, places: list[int] | None) -> dict[str, float | None]:
    """Compare the answers, class `k` of the first file with class `places[k]` of the second."""
    names = (LOGITS, PROBABILITIES)
    try:
        ours, theirs = (
            open_session(content, "cpu", what="the file").session.run(names, {INPUT: images})
            for content in (first, second)
        )
    except Exception:  # one of them is not of the contract, which the rest of the comparison shows
        return dict.fromkeys(names)
    return {name: _difference(a, b, places) for name, a, b in zip(names, ours, theirs, strict=True)}


def _difference(one: Floats, other: Floats, places: list[int] | None) -> float | None:
    if places is None or one.shape != other.shape or one.ndim != 2:
        return None
    if len(places) == other.shape[1]:
        other = other[:, places]
    return float(np.abs(one.astype(np.float64) - other).max())
