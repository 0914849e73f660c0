"""Files that are written otherwise, but right: no check may refuse one."""

import numpy as np
import onnx
import onnx.numpy_helper as nph
import onnx.shape_inference
import onnx.version_converter
from onnx import TensorProto
from onnx.helper import make_node
from support.graph_edits import (
    ALL,
    HALF,
    HALF_SIZE,
    SMALL_RESNET,
    Model,
    Mutation,
    attribute,
    change,
    insert_after,
    node,
    put_behind,
    put_in_front,
    set_nodes,
    tensor,
)


def rename_nodes(model: Model) -> None:
    for number, found in enumerate(model.graph.node):
        found.name = f"n{number}"


def unname_nodes(model: Model) -> None:
    for found in model.graph.node:
        found.name = ""


def rename_tensors(model: Model) -> None:
    new = {stored.name: f"t{number}" for number, stored in enumerate(model.graph.initializer)}
    for stored in model.graph.initializer:
        stored.name = new[stored.name]
    for found in model.graph.node:
        found.input[:] = [new.get(name, name) for name in found.input]


def rename_everything(model: Model) -> None:
    rename_tensors(model)
    rename_nodes(model)
    keep = {"", "image", "logits", "probabilities"}
    made = {name: f"v{i}" for i, name in enumerate(o for n in model.graph.node for o in n.output) if name not in keep}
    for found in model.graph.node:
        found.input[:] = [made.get(name, name) for name in found.input]
        found.output[:] = [made.get(name, name) for name in found.output]
    for info in model.graph.value_info:
        info.name = made.get(info.name, info.name)


def convert(version: int) -> Mutation:
    def rewrite(model: Model) -> None:
        props = list(model.metadata_props)
        converted = onnx.version_converter.convert_version(model, version)
        model.CopyFrom(converted)
        del model.metadata_props[:]
        model.metadata_props.extend(props)

    return rewrite


def flatten(model: Model) -> None:
    found = node(model, "Reshape")
    shape = found.input[1]
    found.op_type = "Flatten"
    del found.input[1:], found.attribute[:]
    if not any(shape in other.input for other in model.graph.node):
        model.graph.initializer.remove(tensor(model, shape))


def transpose_gemm(model: Model) -> None:
    change("Gemm", 1, np.transpose)(model)
    attribute("Gemm", transB=0)(model)


def product_and_sum(model: Model) -> None:
    """Gemm as MatMul and Add, as other exporters write a linear layer."""
    nodes = []
    for found in model.graph.node:
        if found.op_type != "Gemm":
            nodes.append(found)
            continue
        stored = tensor(model, found.input[1])
        stored.CopyFrom(nph.from_array(np.ascontiguousarray(nph.to_array(stored).T), stored.name))
        inner = f"{found.output[0]}_product"
        nodes.append(make_node("MatMul", found.input[:2], [inner], name=f"{found.name}_product"))
        nodes.append(make_node("Add", [inner, found.input[2]], found.output, name=f"{found.name}_sum"))
    set_nodes(model, nodes)


def typed_data(model: Model) -> None:
    for stored in model.graph.initializer:
        if stored.data_type == onnx.TensorProto.FLOAT:
            numbers = nph.to_array(stored).ravel().tolist()
            stored.ClearField("raw_data")
            stored.float_data[:] = numbers


def constants_as_nodes(model: Model) -> None:
    put_in_front(model, *(make_node("Constant", [], [t.name], value=t) for t in model.graph.initializer))
    del model.graph.initializer[:]


def norm_as_product_and_sum(model: Model) -> None:
    found = node(model, "BatchNormalization")
    gamma, beta, mean, variance = (nph.to_array(tensor(model, name)) for name in found.input[1:])
    scale = (gamma / np.sqrt(variance + np.float32(1e-5))).reshape(-1, 1, 1)
    for name, array in (("scale", scale), ("shift", beta.reshape(-1, 1, 1) - mean.reshape(-1, 1, 1) * scale)):
        model.graph.initializer.append(nph.from_array(array.astype(np.float32), name))
    nodes = list(model.graph.node)
    place = nodes.index(found)
    unused = list(found.input[1:])
    nodes[place : place + 1] = [
        make_node("Mul", [found.input[0], "scale"], ["scaled"], name="scaled"),
        make_node("Add", ["scaled", "shift"], [found.output[0]], name="shifted"),
    ]
    set_nodes(model, nodes)
    for name in unused:
        model.graph.initializer.remove(tensor(model, name))


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


EQUIVALENTS: list[tuple[str, tuple[str, ...], Mutation]] = [
    ("as it is", (*ALL, *HALF, *HALF_SIZE), lambda m: None),
    ("nodes renamed", (*ALL, *HALF, *HALF_SIZE), rename_nodes),
    ("nodes without names", (*ALL, *HALF, *HALF_SIZE), unname_nodes),
    ("tensors renamed", (*ALL, *HALF, *HALF_SIZE), rename_tensors),
    ("everything renamed", (*ALL, *HALF, *HALF_SIZE), rename_everything),
    ("opset 18", (*ALL, *HALF), convert(18)),
    ("opset 22", (*ALL, *HALF), convert(22)),
    ("Reshape as Flatten", (*ALL, *HALF), flatten),
    ("a weight transposed, and Gemm told so", (*ALL, *HALF), transpose_gemm),
    ("Gemm as MatMul and Add", (*ALL, *HALF), product_and_sum),
    ("typed data", (*ALL, *HALF), typed_data),
    ("tensors as Constant nodes", (*ALL, *HALF), constants_as_nodes),
    ("an Identity more", (*ALL, *HALF), insert_after("Div", "Identity")),
    ("no stored shapes", (*ALL, *HALF, *HALF_SIZE), lambda m: m.graph.ClearField("value_info")),
    ("shapes of every value", (*ALL, *HALF, *HALF_SIZE), lambda m: m.CopyFrom(onnx.shape_inference.infer_shapes(m))),
    ("batch norm as product and sum", SMALL_RESNET, norm_as_product_and_sum),
    ("a bias in an attribute", ALL, bias_in_attribute),
    ("shapes in attributes", ALL, shapes_in_attributes),
    ("Relu as Max", ("lenet-modern", *SMALL_RESNET), relu_as("Max")),
    ("Relu as Clip", ("lenet-modern", *SMALL_RESNET), relu_as("Clip")),
    ("a product with one", ALL, neutral("Mul", 1.0)),
    ("a sum with zero", ALL, neutral("Add", 0.0)),
    ("another momentum", SMALL_RESNET, attribute("BatchNormalization", momentum=0.1)),
    ("weights by each other's names", ALL, trade_names),
    ("a mean that leaves no sizes", SMALL_RESNET, mean_without_the_sizes),
]
