"""Small model files that take pictures of any input: what an exporter writes, but made in milliseconds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.helper
import onnx.numpy_helper
from PIL import Image

from runtime.model.metadata import LOGITS, PROBABILITIES, encode_metadata
from runtime.model.spec import BATCH, INPUT, InputSpec

COLOURS = ("red", "green", "blue")
PAINTS = {"red": (200, 30, 40), "green": (20, 160, 60), "blue": (30, 60, 210)}


def paint(colour: str, size: tuple[int, int] = (60, 40)) -> Image.Image:
    """A picture of one colour."""
    return Image.new("RGB", size, PAINTS[colour])


def colour_model(path: Path, input: InputSpec) -> Path:
    """A network that is right by construction: it names the channel of the largest mean, one of COLOURS."""
    return _write(path, input, COLOURS, np.eye(3)[:, :, None, None], 8 * np.eye(3))


def random_model(path: Path, input: InputSpec, classes: int) -> Path:
    """A convolution and a dense layer of random weights, for labels `thing 0`, `thing 1` ..."""
    rng = np.random.default_rng(0)
    labels = [f"thing {index}" for index in range(classes)]
    return _write(path, input, labels, rng.normal(size=(32, input.channels, 5, 5)), rng.normal(size=(32, classes)))


def _write(
    path: Path, input: InputSpec, labels: Sequence[str], kernel: npt.NDArray[Any], dense: npt.NDArray[Any]
) -> Path:
    low, high = input.range
    channels = input.channels
    values: dict[str, Any] = {
        "low": low,
        "span": high - low,
        "mean": np.reshape(input.mean or (0.0,) * channels, (channels, 1, 1)),
        "std": np.reshape(input.std or (1.0,) * channels, (channels, 1, 1)),
        "kernel": kernel,
        "dense": dense,
    }
    make = onnx.helper.make_node
    nodes = [
        make("Cast", [INPUT], ["float"], to=onnx.TensorProto.FLOAT),
        make("Sub", ["float", "low"], ["above"]),
        make("Div", ["above", "span"], ["unit"]),
        make("Sub", ["unit", "mean"], ["centred"]),
        make("Div", ["centred", "std"], ["normal"]),
        make("Conv", ["normal", "kernel"], ["features"]),
        make("GlobalAveragePool", ["features"], ["pooled"]),
        make("Flatten", ["pooled"], ["flat"]),
        make("MatMul", ["flat", "dense"], [LOGITS]),
        make("Softmax", [LOGITS], [PROBABILITIES], axis=1),
    ]
    datatype = onnx.TensorProto.UINT8 if input.datatype == "UINT8" else onnx.TensorProto.FLOAT
    outputs = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [BATCH, len(labels)])
        for name in (LOGITS, PROBABILITIES)
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "photos",
        [onnx.helper.make_tensor_value_info(INPUT, datatype, [BATCH, *input.shape])],
        outputs,
        [onnx.numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in values.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)
    fields = {"model": path.stem, "labels": list(labels), "input": input.as_dict()}
    onnx.helper.set_model_props(model, encode_metadata(fields))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path
