"""Hostile files: each is refused by name, in seconds, in little memory, and the calling process lives on."""

import re
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import pytest
from mutants import make_network
from torch import nn

from export import verify
from export.examination import examine
from export.wire import WireError, scan

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
        inner = onnx.helper.make_graph([Node("If", ["c"], ["y"], then_branch=inner)], "g", [], [])
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
    "noise": (lambda: bytes(range(256)) * 40, "before they are parsed"),
    "truncated": (lambda: conv()[:-7], "claims"),
    "2 GB length field": (lambda: b"\x3a\xff\xff\xff\xff\x07" + b"x" * 50, "claims 2,147,483,647 bytes, but 50"),
    "endless number": (lambda: b"\x08" + b"\xff" * 60, "cut off or endless"),
    "many tiny fields": (lambda: b"\x7a\x00" * 1_000_000, "a ModelProto has no field 15"),
    "many opsets": (lambda: b"\x42\x00" * 1_000_000, "more than 16 times"),
    "two graphs": (lambda: b"\x3a\x00\x3a\x00", "stands twice"),
    "3,000 nested functions": (nested_functions, "functions are not allowed"),
    "deep subgraphs": (deep_subgraphs, "subgraphs are not allowed"),
    "zero stride": (lambda: conv(strides=[0, 0]), "strides of node '' should be from 1"),
    "zero stride of a pool": (
        lambda: graph(cast(Node("AveragePool", ["x"], ["logits"], kernel_shape=[2, 2], strides=[0, 0]))),
        "strides",
    ),
    "no groups": (lambda: conv(group=0), "group"),
    "padding without end": (lambda: conv(pads=[2**40] * 4), "pads"),
    "Tile bomb": (
        lambda: graph(cast(Node("Tile", ["x", "r"], ["logits"])), integers("r", 1, 2**20, 2**10, 2**10)),
        "is a Tile, which is not on the list",
    ),
    "doubling": (doubling, "would hold|not safe to open|onnx refuses"),
    "enlarging": (resize, "would hold|not safe to open|onnx refuses"),
    "huge dimension": (lambda: claims(2**40), "beyond the limits"),
    "huge product": (lambda: claims(2**20, 2**20, 2**20), "claims 1,152,921,504,606,846,976 elements"),
    "negative dimension": (lambda: claims(-1), "beyond the limits"),
    "many dimensions": (lambda: claims(*[1] * 40), "40 dimensions"),
    "missing data": (lambda: claims(1000), "cannot be read"),
    "stored twice": (both_stores, "stored twice"),
    "cycle": (lambda: graph([Node("Add", ["image", "b"], ["a"]), Node("Relu", ["a"], ["b"])]), "a cycle"),
    "an absolute path": (lambda: outside("/etc/passwd"), "external data is not allowed"),
    "a path out of the folder": (lambda: outside("../../secret.bin"), "external data is not allowed"),
    "a custom operator": (lambda: graph([Node("Run", ["image"], ["logits"], domain="evil")]), "'evil'|evil"),
    "DepthToSpace": (lambda: graph([Node("DepthToSpace", ["image"], ["logits"], blocksize=2**32)]), "not on the list"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_by_name_in_seconds(name: str, network: nn.Module) -> None:
    make, words = HOSTILE[name]
    content, images = make(), np.zeros((4, 1, 28, 28), np.uint8)
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    report = verify(network, content, images=images, labels=np.zeros(4, np.int64))

    assert time.process_time() - started < SECONDS
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < BYTES
    first = report.failures[0]
    assert first.name in ("closed world", "structure")
    assert re.search(words, first.detail), first.detail
    assert all("not run" in check.detail for check in report.checks[report.checks.index(first) + 1 :])


@pytest.mark.parametrize("link", ["symlink", "hardlink"])
def test_a_linked_file_outside_is_not_read(link: str, tmp_path: Path, network: nn.Module) -> None:
    (tmp_path / "secret").write_bytes(np.ones(4, np.float32).tobytes())
    inside = tmp_path / "weights.bin"
    inside.symlink_to(tmp_path / "secret") if link == "symlink" else inside.hardlink_to(tmp_path / "secret")
    images = np.zeros((4, 1, 28, 28), np.uint8)
    report = verify(network, outside(str(inside)), images=images, labels=np.zeros(4, np.int64))

    assert "external data is not allowed" in report.failures[0].detail


def test_a_file_that_crashes_a_library_crashes_only_the_child() -> None:
    """Past the first gate on purpose: the zero stride that ends a process with SIGFPE, or its refusal by onnx."""
    found = examine(conv(strides=[0, 0]))

    assert found.crash or found.problem


def test_a_file_that_wants_all_memory_is_stopped_in_the_child() -> None:
    shape = integers("r", 1, 2**16, 2**8, 2**8)
    found = examine(graph(cast(Node("Tile", ["x", "r"], ["logits"])), shape))

    assert found.crash or found.problem


@pytest.mark.parametrize("cut", range(0, 700, 13))
def test_a_file_cut_anywhere_is_refused_before_it_is_parsed(cut: int) -> None:
    content = conv(pads=[1, 1, 1, 1])
    part = content[: cut % len(content)]
    try:
        scanned = scan(part, onnx.ModelProto.DESCRIPTOR, {})
    except WireError:
        return
    assert onnx.ModelProto.FromString(part).ByteSize() == len(part), scanned
