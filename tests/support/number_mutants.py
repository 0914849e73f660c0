"""Files with a number, a shape or a batch that is wrong and hard to see; and numbers merely kept otherwise."""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.numpy_helper as nph
from onnx import TensorProto
from onnx.helper import make_node
from support.mutants import ALL, SMALL_RESNET, Model, Mutation, attribute, metadata, node, tensor

MODERN = ("lenet-modern",)


def put_behind(model: Model, value: str, *nodes: onnx.NodeProto, **tensors: npt.NDArray[Any]) -> None:
    """Put nodes behind a value; whoever read the value reads the last one's result, and an output keeps its name."""
    made, result = list(model.graph.node), nodes[-1].output[0]
    place = next(i for i, found in enumerate(made) if value in found.output)
    if any(info.name == value for info in model.graph.output):
        made[place].output[:] = [f"inner_{value}"]
        for found in nodes:
            found.input[:] = [f"inner_{value}" if name == value else name for name in found.input]
        nodes[-1].output[0] = value
    else:
        for found in made:
            found.input[:] = [result if name == value else name for name in found.input]
    made[place + 1 : place + 1] = nodes
    kept = [onnx.NodeProto.FromString(found.SerializeToString()) for found in made]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    model.graph.initializer.extend(nph.from_array(array, name) for name, array in tensors.items())


def put_in_front(model: Model, *nodes: onnx.NodeProto) -> None:
    kept = [*nodes, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(kept)


def nearly_double(model: Model) -> None:
    """A bias as float64, off by less than float32 can tell."""
    last = node(model, "Gemm", nth=-1)
    stored = tensor(model, last.input[2])
    stored.CopyFrom(nph.from_array(nph.to_array(stored).astype(np.float64) * (1 + 1e-9), stored.name))
    cast = make_node("Cast", [stored.name], ["rounded"], name="cast", to=TensorProto.FLOAT)
    last.input[2] = "rounded"
    put_in_front(model, cast)


def reduced(model: Model, op_type: str, value: str, result: str, axes: list[int]) -> onnx.NodeProto:
    """A sum or a maximum over axes, which some opsets take as an input and some as an attribute."""
    opset = model.opset_import[0].version
    if opset < (13 if op_type == "ReduceSum" else 18):
        return make_node(op_type, [value], [result], name=result, axes=axes)
    model.graph.initializer.append(nph.from_array(np.array(axes, np.int64), f"{result}_axes"))
    return make_node(op_type, [value, f"{result}_axes"], [result], name=result)


def darkest_subtracted(*, neighbours: bool) -> Mutation:
    """Pixels above the darkest of the batch, or of three pictures beside each other: all real ones have a black one."""

    def mutate(model: Model) -> None:
        value = node(model, "Cast").output[0]
        steps = [make_node("Neg", [value], ["dark"], name="dark")]
        if neighbours:
            window = {"kernel_shape": [3, 1], "pads": [1, 0, 1, 0]}
            steps += [
                reduced(model, "ReduceMax", "dark", "each", [1, 2, 3]),
                make_node("Transpose", ["each"], ["side"], name="side", perm=[1, 2, 0, 3]),
                make_node("MaxPool", ["side"], ["beside"], name="beside", **window),
                make_node("Transpose", ["beside"], ["darkest"], name="darkest", perm=[2, 0, 1, 3]),
            ]
        else:
            steps.append(reduced(model, "ReduceMax", "dark", "darkest", [0, 1, 2, 3]))
        put_behind(model, value, *steps, make_node("Add", [value, "darkest"], ["above"], name="above"))

    return mutate


def steadied_by_the_batch(model: Model) -> None:
    """A softmax that takes off the largest logit of all images, not of each."""
    softmax = node(model, "Softmax")
    (logits,), (result,) = softmax.input, softmax.output
    model.graph.node.remove(softmax)
    model.graph.node.extend(
        [
            reduced(model, "ReduceMax", logits, "largest", [0, 1]),
            make_node("Sub", [logits, "largest"], ["below"], name="below"),
            make_node("Exp", ["below"], ["power"], name="power"),
            reduced(model, "ReduceSum", "power", "powers", [1]),
            make_node("Div", ["power", "powers"], [result], name="share"),
        ]
    )


def said_of_axis(axis: int) -> Mutation:
    def mutate(model: Model) -> None:
        model.graph.value_info[2].type.tensor_type.shape.dim[axis].dim_param = "batch"

    return mutate


def said_once_more(model: Model) -> None:
    """The same value twice, the second time with the batch where its channels are."""
    model.graph.value_info.add().CopyFrom(model.graph.value_info[2])
    model.graph.value_info[-1].type.tensor_type.shape.dim[1].dim_param = "batch"


NUMBER_MUTANTS: list[tuple[str, str, tuple[str, ...], Mutation]] = [
    ("a double that is no float", "weights", ALL, nearly_double),
    ("the darkest pixel of the batch subtracted", "batch", ALL, darkest_subtracted(neighbours=False)),
    ("the darkest pixel of neighbours subtracted", "batch", ALL, darkest_subtracted(neighbours=True)),
    ("a softmax steadied by the batch", "batch", ALL, steadied_by_the_batch),
    ("the channels said to be the batch", "structure", ALL, said_of_axis(1)),
    ("the width said to be the batch", "structure", ALL, said_of_axis(3)),
    ("a shape said twice", "structure", ALL, said_once_more),
    ("another license", "signature", ("lenet",), metadata("license", '"GPL-3.0"')),
]


def bias_in_attribute(model: Model) -> None:
    stored = tensor(model, node(model, "Gemm", nth=-1).input[2])
    numbers = nph.to_array(stored).tolist()
    model.graph.initializer.remove(stored)
    put_in_front(model, make_node("Constant", [], [stored.name], name="constant", value_floats=numbers))


def shapes_in_attributes(model: Model) -> None:
    shapes = [stored for stored in model.graph.initializer if stored.data_type == TensorProto.INT64]
    nodes = [make_node("Constant", [], [found.name], value_ints=nph.to_array(found).tolist()) for found in shapes]
    for stored in shapes:
        model.graph.initializer.remove(stored)
    put_in_front(model, *nodes)


def relu_as(op_type: str) -> Mutation:
    def rewrite(model: Model) -> None:
        found = node(model, "Relu")
        found.op_type = op_type
        found.input.append("zero")
        model.graph.initializer.append(nph.from_array(np.array(0, np.float32), "zero"))

    return rewrite


def neutral(op_type: str, value: float) -> Mutation:
    def rewrite(model: Model) -> None:
        first = node(model, "Conv").output[0]
        inert = make_node(op_type, [first, "inert"], ["same"], name="same")
        put_behind(model, first, inert, inert=np.array(value, np.float32))

    return rewrite


def trade_names(model: Model) -> None:
    """Two weights go by each other's name; who reads them reads the right one."""
    one, other = (node(model, *kind, nth=nth).input[1] for kind, nth in ((("Conv",), 0), (("Gemm",), -1)))
    new = {one: other, other: one}
    for stored in model.graph.initializer:
        stored.name = new.get(stored.name, stored.name)
    for found in model.graph.node:
        found.input[:] = [new.get(name, name) for name in found.input]


def mean_without_the_sizes(model: Model) -> None:
    """The mean over height and width as one operator, which leaves no 1 x 1 for a Reshape to take away."""
    pool, reshape = node(model, "ReduceMean"), node(model, "Reshape")
    between = pool.output[0]
    attribute("ReduceMean", keepdims=0)(model)
    model.graph.initializer.remove(tensor(model, reshape.input[1]))
    pool.output[0] = reshape.output[0]
    model.graph.node.remove(reshape)
    shapes = [info for info in model.graph.value_info if info.name != between]
    del model.graph.value_info[:]
    model.graph.value_info.extend(shapes)


NUMBER_REWRITES: list[tuple[str, tuple[str, ...], Mutation]] = [
    ("a bias in an attribute", ALL, bias_in_attribute),
    ("shapes in attributes", ALL, shapes_in_attributes),
    ("Relu as Max", (*MODERN, *SMALL_RESNET), relu_as("Max")),
    ("Relu as Clip", (*MODERN, *SMALL_RESNET), relu_as("Clip")),
    ("a product with one", ALL, neutral("Mul", 1.0)),
    ("a sum with zero", ALL, neutral("Add", 0.0)),
    ("another momentum", SMALL_RESNET, attribute("BatchNormalization", momentum=0.1)),
    ("weights by each other's names", ALL, trade_names),
    ("a mean that leaves no sizes", SMALL_RESNET, mean_without_the_sizes),
]
