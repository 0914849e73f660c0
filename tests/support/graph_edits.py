"""Changes of an ONNX graph, of which wrong and rewritten files are made, and the networks that they start from."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.numpy_helper as nph
import torch
from onnx.helper import make_attribute, make_node
from torch import nn

from zoo.models import create_model
from zoo.models.preprocess import ImageClassifier, Preprocess
from zoo.models.resnet import Residual

Model = onnx.ModelProto
Mutation = Callable[[Model], Any]
LENETS, SMALL_RESNET, HALF = ("lenet", "lenet-modern"), ("small-resnet",), ("small-resnet fp16",)
HALF_SIZE = ("small-resnet half-size",)  # computes in float32, from float16 weights behind a Cast
ALL = (*LENETS, *SMALL_RESNET)
TEMPERED = ("lenet tempered",)  # its probabilities are softmax(logits / 1.3)


def make_network(name: str) -> nn.Module:
    """Build a network of the three, with weights that hide nothing: every batch norm has statistics of its own."""
    torch.manual_seed(1)
    if not name.startswith("small-resnet"):
        return create_model(name.split()[0]).eval()
    layers = nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
        Residual(8, 8, 1),
        Residual(8, 16, 2),
        nn.Sequential(nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Linear(16, 10)),
    )
    for module in layers.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in ((module.weight, 0.5, 1.5), (module.bias, -1, 1), (module.running_mean, -1, 1)):
                nn.init.uniform_(tensor, low, high)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 2)  # type: ignore[arg-type]
    return ImageClassifier(Preprocess(40), layers).eval()


def node(model: Model, *op_types: str, nth: int = 0) -> onnx.NodeProto:
    return [node for node in model.graph.node if node.op_type in op_types][nth]


def tensor(model: Model, name: str) -> onnx.TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def change_tensor(stored: onnx.TensorProto, function: Callable[[Any], Any]) -> None:
    """Replace the numbers of a tensor; they keep their type."""
    array = nph.to_array(stored).copy()
    stored.CopyFrom(nph.from_array(np.ascontiguousarray(function(array)).astype(array.dtype), stored.name))


def change(op_types: str, index: int, function: Callable[[Any], Any], nth: int = 0) -> Mutation:
    """Change the tensor that a node reads as its `index`-th input."""

    def mutate(model: Model) -> None:
        change_tensor(tensor(model, node(model, *op_types.split("|"), nth=nth).input[index]), function)

    return mutate


def attribute(op_types: str, nth: int = 0, **values: Any) -> Mutation:
    def mutate(model: Model) -> None:
        found = node(model, *op_types.split("|"), nth=nth)
        kept = [a for a in found.attribute if a.name not in values]
        del found.attribute[:]
        found.attribute.extend([*kept, *(make_attribute(name, value) for name, value in values.items())])

    return mutate


def become(op_types: str, other: str, nth: int = 0, keep: tuple[str, ...] = ()) -> Mutation:
    def mutate(model: Model) -> None:
        found = node(model, *op_types.split("|"), nth=nth)
        found.op_type = other
        kept = [a for a in found.attribute if a.name in keep]
        del found.attribute[:]
        found.attribute.extend(kept)

    return mutate


def metadata(key: str, value: str) -> Mutation:
    def mutate(model: Model) -> None:
        next(prop for prop in model.metadata_props if prop.key == key).value = value

    return mutate


def store_as_float(model: Model, reading: onnx.NodeProto, shape: tuple[int, ...]) -> None:
    """Keep as float32 what a DequantizeLinear computes; `shape` is that of the scales which these are multiplied in."""
    values, scales = (nph.to_array(tensor(model, name)) for name in reading.input[:2])
    kept = [stored for stored in model.graph.initializer if stored.name not in reading.input]
    numbers = values.astype(np.float32) * scales.reshape(shape)
    model.graph.node.remove(reading)
    del model.graph.initializer[:]
    model.graph.initializer.extend([*kept, nph.from_array(numbers, reading.output[0])])


def set_nodes(model: Model, nodes: Iterable[onnx.NodeProto]) -> None:
    kept = [onnx.NodeProto.FromString(found.SerializeToString()) for found in nodes]
    del model.graph.node[:]
    model.graph.node.extend(kept)


def put_behind(model: Model, value: str, *nodes: onnx.NodeProto, **tensors: npt.NDArray[Any]) -> None:
    """Put nodes behind a value; whoever read the value reads the last one's result, and an output keeps its name."""
    made, result = list(model.graph.node), nodes[-1].output[0]
    place = next((i for i, found in enumerate(made) if value in found.output), -1)  # a stored tensor is before all
    if any(info.name == value for info in model.graph.output):
        made[place].output[:] = [f"inner_{value}"]
        for found in nodes:
            found.input[:] = [f"inner_{value}" if name == value else name for name in found.input]
        nodes[-1].output[0] = value
    else:
        for found in made:
            found.input[:] = [result if name == value else name for name in found.input]
    made[place + 1 : place + 1] = nodes
    set_nodes(model, made)
    model.graph.initializer.extend(nph.from_array(array, name) for name, array in tensors.items())


def put_in_front(model: Model, *nodes: onnx.NodeProto) -> None:
    set_nodes(model, [*nodes, *model.graph.node])


def insert_after(value: str, op_type: str, *constants: Any, **attributes: Any) -> Mutation:
    """Put a node behind the first value of an operator; whoever read the value reads the node's result."""

    def mutate(model: Model) -> None:
        name = node(model, value).output[0]
        tensors = {f"new_{number}": np.asarray(constant, np.float32) for number, constant in enumerate(constants)}
        made = make_node(op_type, [name, *tensors], ["new_value"], name="new_node", **attributes)
        put_behind(model, name, made, **tensors)

    return mutate
