"""Hostile files: each is refused by name, in seconds, in little memory, and the calling process lives on."""

import re
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import pytest
from support.graph_edits import make_network
from torch import nn

from export import verify
from export.analysis.sandbox import examine

Node = onnx.helper.make_node
SECONDS, BYTES = 5, 1 << 30


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return make_network("lenet-modern")


def graph(nodes: list[onnx.NodeProto], *tensors: Any) -> bytes:
    """A file with the input and outputs of the contract around these nodes."""
    inputs = [onnx.helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, ["batch", 1, 28, 28])]
    outputs = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 10])
        for name in ("logits", "probabilities")
    ]
    nodes = [*nodes, Node("Softmax", ["logits"], ["probabilities"])]
    made = onnx.helper.make_graph(nodes, "g", inputs, outputs, list(tensors))
    opsets = [onnx.helper.make_opsetid("", 18)]
    content: bytes = onnx.helper.make_model(made, opset_imports=opsets, ir_version=8).SerializeToString()
    return content


def cast(*nodes: onnx.NodeProto) -> list[onnx.NodeProto]:
    return [Node("Cast", ["image"], ["x"], to=1), *nodes]


def floats(name: str, *shape: int) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(np.ones(shape, np.float32), name)


def integers(name: str, *values: int) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(np.array(values), name)


def nested_functions() -> bytes:
    model = onnx.load_from_string(graph([Node("f0", ["image"], ["logits"], domain="evil")]))
    for number in range(3000):
        inner = [Node(f"f{number + 1}", ["a"], ["b"], domain="evil")]
        model.functions.append(onnx.helper.make_function("evil", f"f{number}", ["a"], ["b"], inner, []))
    return model.SerializeToString()


def deep_subgraphs() -> bytes:
    inner = onnx.helper.make_graph([], "g", [], [])
    for _ in range(30):
        inner = onnx.helper.make_graph([Node("Abs", ["c"], ["y"], then_branch=inner)], "g", [], [])
    return graph(list(inner.node))


def outside(location: str) -> bytes:
    tensor = floats("w", 4)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return graph([Node("Add", ["image", "w"], ["logits"])], tensor)


def claims(*dims: int) -> bytes:
    tensor = onnx.TensorProto(name="w", data_type=1, dims=dims)
    return graph(cast(Node("Add", ["x", "w"], ["logits"])), tensor)


def doubling() -> bytes:
    """Each node doubles its input: 2 to the 60th in a few kilobytes."""
    nodes = [Node("Concat", [f"x{i}", f"x{i}"], [f"x{i + 1}"], axis=1) for i in range(60)]
    return graph([Node("Cast", ["image"], ["x0"], to=1), *nodes, Node("Identity", ["x60"], ["logits"])])


def resize() -> bytes:
    scales = onnx.numpy_helper.from_array(np.array([1, 1, 1e5, 1e5], np.float32), "s")
    return graph(cast(Node("Resize", ["x", "", "s"], ["logits"])), scales)


def both_stores() -> bytes:
    tensor = floats("w", 4)
    tensor.float_data.extend([2.0] * 4)
    return graph(cast(Node("Add", ["x", "w"], ["logits"])), tensor)


def conv(**attributes: Any) -> bytes:
    return graph(cast(Node("Conv", ["x", "w"], ["logits"], **attributes)), floats("w", 1, 1, 3, 3))


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "no graph"),
    "noise": (lambda: bytes(range(256)) * 40, "no ONNX, or a damaged one"),
    "truncated": (lambda: conv()[:-7], "no ONNX, or a damaged one"),
    "2 GB length field": (lambda: b"\x3a\xff\xff\xff\xff\x07" + b"x" * 50, "no ONNX, or a damaged one"),
    "endless number": (lambda: b"\x08" + b"\xff" * 60, "no ONNX, or a damaged one"),
    "many tiny fields": (lambda: b"\x7a\x00" * 1_000_000, "no graph"),
    "many opsets": (lambda: b"\x42\x00" * 1_000_000, "no graph"),
    "an unknown field": (lambda: conv() + b"\x7a\x00", "a field is unknown, stands twice"),
    "two graphs": (lambda: conv() + conv(), "a field is unknown, stands twice"),
    "a field written in another form": (lambda: b"\x08\x88\x00" + conv()[2:], "or is written in another form"),
    "3,000 nested functions": (nested_functions, "functions are not allowed"),
    "deep subgraphs": (deep_subgraphs, "subgraphs are not allowed"),
    "zero stride": (lambda: conv(strides=[0, 0]), "strides of node '' should be 1 or more"),
    "zero stride of a pool": (
        lambda: graph(cast(Node("AveragePool", ["x"], ["logits"], kernel_shape=[2, 2], strides=[0, 0]))),
        "strides",
    ),
    "no groups": (lambda: conv(group=0), "not safe to open|onnx refuses|is said to be"),
    "padding without end": (lambda: conv(pads=[2**40] * 4), "would hold|not safe to open|onnx refuses|is said to be"),
    "Tile bomb": (
        lambda: graph(cast(Node("Tile", ["x", "r"], ["logits"])), integers("r", 1, 2**20, 2**10, 2**10)),
        "would hold|not safe to open|onnx refuses",
    ),
    "doubling": (doubling, "would hold|not safe to open|onnx refuses|is said to be"),
    "enlarging": (resize, "would hold|not safe to open|onnx refuses|is said to be"),
    "huge dimension": (lambda: claims(2**40), "onnx refuses|is said to be"),
    "huge product": (lambda: claims(2**20, 2**20, 2**20), "onnx refuses|is said to be"),
    "negative dimension": (lambda: claims(-1), "onnx refuses|is said to be"),
    "missing data": (lambda: claims(1000), "onnx refuses|is said to be"),
    "stored twice": (both_stores, "onnx refuses|is said to be"),
    "cycle": (
        lambda: graph([Node("Add", ["image", "b"], ["a"]), Node("Relu", ["a"], ["logits"])]),
        "onnx refuses|is said to be",
    ),
    "an absolute path": (lambda: outside("/etc/passwd"), "external data is not allowed"),
    "a path out of the folder": (lambda: outside("../../secret.bin"), "external data is not allowed"),
    "a custom operator": (lambda: graph([Node("Run", ["image"], ["logits"], domain="evil")]), "'evil'|evil"),
    "DepthToSpace": (
        lambda: graph([Node("DepthToSpace", ["image"], ["logits"], blocksize=2**32)]),
        "onnx refuses|open|is said to be",
    ),
    "control flow": (
        lambda: graph(cast(Node("Loop", ["x"], ["logits"]))),
        "node '' is a Loop: control flow",
    ),
    "a random operator": (
        lambda: graph(cast(Node("RandomNormalLike", ["x"], ["logits"]))),
        "RandomNormalLike: a random operator",
    ),
    "a sequence": (
        lambda: graph(cast(Node("SequenceConstruct", ["x"], ["logits"]))),
        "SequenceConstruct: a sequence operator",
    ),
    "an optional": (lambda: graph(cast(Node("Optional", ["x"], ["logits"]))), "Optional: an optional operator"),
    "text": (lambda: graph(cast(Node("StringSplit", ["x"], ["logits"]))), "StringSplit: a string operator"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_by_name_in_seconds(name, network):
    make, words = HOSTILE[name]
    content, images = make(), np.zeros((4, 1, 28, 28), np.uint8)
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    report = verify(network, content, images=images, labels=np.zeros(4, np.int64))

    assert time.process_time() - started < SECONDS
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < BYTES
    first = report.failures[0]
    assert first.name in ("self-contained", "structure")
    assert re.search(words, first.detail), first.detail
    if first.name == "self-contained":
        assert all("not run" in check.detail for check in report.checks[1:])


@pytest.mark.parametrize("cut", [0, 1, 10, 100, 150, -1])
def test_a_file_cut_anywhere_is_refused_before_anything_opens_it(cut):
    """A prefix of a message may be a message; what it then lacks is named by the structure check."""
    found = examine(conv(pads=[1, 1, 1, 1])[:cut])

    assert found.unsafe or found.problem
