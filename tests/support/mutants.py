"""Files that are wrong in one thing, with the check that should say so; and files that are rewritten but right."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper as nph
import onnx.version_converter
import torch
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

WINDOW = ("kernel_shape", "strides", "pads")


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


def change(op_types: str, index: int, function: Callable[[Any], Any], nth: int = 0) -> Mutation:
    """Change the tensor that a node reads as its `index`-th input."""

    def mutate(model: Model) -> None:
        stored = tensor(model, node(model, *op_types.split("|"), nth=nth).input[index])
        array = nph.to_array(stored).copy()
        stored.CopyFrom(nph.from_array(np.ascontiguousarray(function(array)).astype(array.dtype), stored.name))

    return mutate


def attribute(op_types: str, nth: int = 0, **values: Any) -> Mutation:
    def mutate(model: Model) -> None:
        found = node(model, *op_types.split("|"), nth=nth)
        kept = [a for a in found.attribute if a.name not in values]
        del found.attribute[:]
        found.attribute.extend([*kept, *(onnx.helper.make_attribute(name, value) for name, value in values.items())])

    return mutate


def become(op_types: str, other: str, nth: int = 0, keep: tuple[str, ...] = ()) -> Mutation:
    def mutate(model: Model) -> None:
        found = node(model, *op_types.split("|"), nth=nth)
        found.op_type = other
        kept = [a for a in found.attribute if a.name in keep]
        del found.attribute[:]
        found.attribute.extend(kept)

    return mutate


def insert_after(value: str, op_type: str, *constants: Any, **attributes: Any) -> Mutation:
    """Put a node behind a value; whoever read the value reads the node's result."""

    def mutate(model: Model) -> None:
        _insert(model, node(model, *value.split("|")).output[0], op_type, *constants, **attributes)

    return mutate


def _insert(model: Model, name: str, op_type: str, *constants: Any, **attributes: Any) -> None:
    inputs = [name]
    for number, constant in enumerate(constants):
        inputs.append(f"new_constant_{number}")
        model.graph.initializer.append(nph.from_array(np.asarray(constant, np.float32), inputs[-1]))
    nodes = list(model.graph.node)
    position = next((i for i, other in enumerate(nodes) if name in other.output), -1)
    for other in nodes:
        other.input[:] = ["new_value" if used == name else used for used in other.input]
    nodes.insert(position + 1, onnx.helper.make_node(op_type, inputs, ["new_value"], name="new_node", **attributes))
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def metadata(key: str, value: str) -> Mutation:
    def mutate(model: Model) -> None:
        next(prop for prop in model.metadata_props if prop.key == key).value = value

    return mutate


def other_temperature(model: Model, factor: float = 1.001) -> None:
    prop = next(prop for prop in model.metadata_props if prop.key == "confidence")
    declared = json.loads(prop.value)
    prop.value = json.dumps(declared | {"temperature": declared["temperature"] * factor})


def swap_readers(model: Model) -> None:
    """Two convolutions of one shape read each other's weights."""
    by_shape: dict[tuple[int, ...], onnx.NodeProto] = {}
    for found in (n for n in model.graph.node if n.op_type == "Conv"):
        shape = tuple(tensor(model, found.input[1]).dims)
        if shape in by_shape:
            found.input[1], by_shape[shape].input[1] = by_shape[shape].input[1], found.input[1]
            return
        by_shape[shape] = found


def swap_inputs(model: Model) -> None:
    found = node(model, "Sub")
    found.input[:] = reversed(found.input)


def rename_input(model: Model) -> None:
    model.graph.input[0].name = "pixels"
    node(model, "Cast").input[0] = "pixels"


def freeze_batch(model: Model) -> None:
    shape = tensor(model, node(model, "Reshape").input[1])
    array = nph.to_array(shape).copy()
    array[0] = 2
    shape.CopyFrom(nph.from_array(array, shape.name))


def freeze_symbol(model: Model) -> None:
    model.graph.value_info[2].type.tensor_type.shape.dim[0].dim_value = 7


def half_weights(model: Model) -> None:
    """Weights kept as float16 and cast back: another network, unless they were rounded before."""
    found = node(model, "Gemm", nth=-1)
    stored = tensor(model, found.input[1])
    stored.CopyFrom(nph.from_array(nph.to_array(stored).astype(np.float16), stored.name))
    _insert(model, stored.name, "Cast", to=onnx.TensorProto.FLOAT)


def graph_attribute(model: Model) -> None:
    branch = onnx.helper.make_graph([], "branch", [], [])
    node(model, "Conv").attribute.append(onnx.helper.make_attribute("then_branch", branch))


def custom_domain(model: Model) -> None:
    node(model, "Conv").domain = "com.example"
    model.opset_import.append(onnx.helper.make_opsetid("com.example", 1))


def external(model: Model) -> None:
    stored = tensor(model, node(model, "Conv").input[1])
    stored.data_location = onnx.TensorProto.EXTERNAL
    stored.external_data.add(key="location", value="../weights.bin")
    stored.ClearField("raw_data")


def stored_twice(model: Model) -> None:
    stored = tensor(model, node(model, "Conv").input[1])
    stored.float_data.extend([1.0] * int(np.prod(stored.dims)))


def cycle(model: Model) -> None:
    node(model, "Conv").input[0] = node(model, "Gemm").output[0]


def stale_shape(model: Model) -> None:
    model.graph.value_info[3].type.tensor_type.shape.dim[1].dim_value += 1


def swapped_outputs(model: Model) -> None:
    first, second = model.graph.output
    first.name, second.name = second.name, first.name


def other_epsilon(model: Model) -> None:
    """Another epsilon in a fold that is otherwise right: var 1, gamma 1 would hide it, these do not."""
    for index in (1, 2):
        change("Conv", index, lambda array: array * np.float32(0.9995))(model)


def import_twice(model: Model) -> None:
    """Under two names of one domain, as two versions."""
    model.opset_import.append(onnx.helper.make_opsetid("ai.onnx", 13))


def two_attributes(model: Model) -> None:
    node(model, "Conv").attribute.append(onnx.helper.make_attribute("strides", [1, 1]))


def two_tensors(model: Model) -> None:
    stored = tensor(model, node(model, "Conv").input[1])
    model.graph.initializer.append(nph.from_array(2 * nph.to_array(stored), stored.name))


def weight_as_input(model: Model) -> None:
    """A caller could then put his own in its place."""
    stored = model.graph.initializer[0]
    model.graph.input.append(onnx.helper.make_tensor_value_info(stored.name, stored.data_type, stored.dims))


def drop_at_random(model: Model) -> None:
    last = node(model, "Gemm", nth=-1)
    for name, value in (("ratio", np.float32(0.5)), ("training", np.array(True))):
        model.graph.initializer.append(nph.from_array(np.asarray(value), name))
    dropout = onnx.helper.make_node("Dropout", [last.input[0], "ratio", "training"], ["dropped"], name="dropout")
    last.input[0] = "dropped"
    nodes = list(model.graph.node)
    nodes.insert(nodes.index(last), dropout)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def signed_pixels(model: Model) -> None:
    """The light half of the pixels becomes negative."""
    first = node(model, "Cast")
    first.input[0] = "signed"
    nodes = [onnx.helper.make_node("Cast", ["image"], ["signed"], name="signed", to=onnx.TensorProto.INT8)]
    nodes += model.graph.node
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def padded_label(model: Model) -> None:
    labels = next(prop for prop in model.metadata_props if prop.key == "labels")
    labels.value = labels.value.replace('"Bag"', '"Bag "')


def undeclared(model: Model) -> None:
    kept = [prop for prop in model.metadata_props if prop.key not in ("dtype", "storage")]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)


def without_cast(model: Model) -> None:
    """A convolution reads float16 where its pixels are float32."""
    cast = node(model, "Cast")
    for found in model.graph.node:
        found.input[:] = [cast.input[0] if name == cast.output[0] else name for name in found.input]
    model.graph.node.remove(cast)


def swap_casts(model: Model) -> None:
    """Two convolutions of one shape read each other's weights, through the other's Cast."""
    by_shape: dict[tuple[int, ...], onnx.NodeProto] = {}
    for cast in (n for n in model.graph.node if n.op_type == "Cast" and n.output[0].endswith("_fp32")):
        shape = tuple(tensor(model, cast.input[0]).dims)
        if shape in by_shape:
            cast.input[0], by_shape[shape].input[0] = by_shape[shape].input[0], cast.input[0]
            return
        by_shape[shape] = cast


def rounded_pixels(model: Model) -> None:
    """A value goes through float16 and back: the types at both ends are what they were."""
    name = node(model, "Div").output[0]
    _insert(model, name, "Cast", to=onnx.TensorProto.FLOAT16)
    node(model, "Cast", nth=-1).output[0] = "narrow"
    nodes = list(model.graph.node)
    position = next(i for i, found in enumerate(nodes) if "narrow" in found.output)
    wide = onnx.helper.make_node("Cast", ["narrow"], ["new_value"], name="wide", to=onnx.TensorProto.FLOAT)
    nodes.insert(position + 1, wide)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


MUTANTS: list[tuple[str, str, tuple[str, ...], Mutation]] = [
    # the world outside
    ("external data", "self-contained", ALL, external),
    ("custom domain", "self-contained", ALL, custom_domain),
    ("subgraph", "self-contained", ALL, graph_attribute),
    ("function", "self-contained", ("lenet",), lambda m: m.functions.add(name="f", domain="")),
    ("a random operator", "self-contained", ("lenet",), become("Sigmoid", "RandomUniformLike")),
    ("an operator of whole numbers", "structure", ("lenet",), become("Sigmoid", "NonZero")),
    ("tensor stored twice", "structure", ALL, stored_twice),
    ("cycle", "structure", ALL, cycle),
    ("zero stride", "self-contained", ALL, attribute("Conv", strides=[0, 0])),
    # the form
    ("dead branch", "structure", ALL, lambda m: m.graph.node.append(onnx.helper.make_node("Relu", ["logits"], ["x"]))),
    ("unused tensor", "structure", ("lenet",), lambda m: m.graph.initializer.append(nph.from_array(np.ones(3), "x"))),
    ("doubled node name", "structure", ("lenet",), lambda m: setattr(m.graph.node[1], "name", m.graph.node[0].name)),
    ("stale shape", "structure", ALL, stale_shape),
    ("newer opset", "structure", ("lenet",), lambda m: setattr(m.opset_import[0], "version", 25)),
    ("ancient IR version", "structure", ("lenet",), lambda m: setattr(m, "ir_version", 2)),
    ("two versions of the operators", "structure", ALL, import_twice),
    ("one attribute twice", "structure", ALL, two_attributes),
    ("two tensors of one name", "structure", ALL, two_tensors),
    ("dropout that drops", "structure", ALL, drop_at_random),
    ("Gemm the other way round", "structure", ALL, attribute("Gemm", transB=0)),
    ("a cast to another type", "structure", ALL, attribute("Cast", to=onnx.TensorProto.INT32)),
    # the contract
    ("renamed input", "signature", ALL, rename_input),
    ("retyped input", "signature", ALL, lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 1)),
    ("swapped outputs", "signature", ALL, swapped_outputs),
    ("a weight as an input", "signature", ALL, weight_as_input),
    ("labels twice", "signature", ALL, lambda m: m.metadata_props.add(key="labels", value='["a", "b"]')),
    ("a label with a space more", "signature", ALL, padded_label),
    ("float32 declared as float16", "signature", ALL, lambda m: m.metadata_props.add(key="dtype", value='"fp16"')),
    ("float32 declared as half-size", "signature", ALL, lambda m: m.metadata_props.add(key="storage", value='"fp16"')),
    ("swapped labels", "signature", ("lenet",), metadata("labels", '["Bag", "Coat"]')),
    ("stale seed", "signature", ("lenet",), metadata("seed", "7")),
    ("another model's name", "signature", ("lenet",), metadata("model", '"other"')),
    ("another checkpoint", "signature", ("lenet",), metadata("checkpoint", '{"file": "x", "sha256": "0"}')),
    ("a better accuracy", "accuracy", ALL, metadata("accuracy", '{"n": 64, "correct": 63, "top1": 0.984375}')),
    # the batch
    ("frozen batch", "batch", ALL, freeze_batch),
    ("one activation's batch fixed", "structure", ("lenet",), freeze_symbol),
    ("softmax over the batch", "parity", ALL, attribute("Softmax", axis=0)),
    # the geometry
    ("stride", "shapes", ALL, attribute("Conv", strides=[2, 2])),
    ("padding", "shapes", ALL, attribute("Conv", pads=[3, 3, 3, 3])),
    ("one-sided padding", "shapes", LENETS, attribute("Conv", pads=[0, 0, 2, 2])),
    ("larger pooling window", "shapes", ALL, attribute("MaxPool|AveragePool", kernel_shape=[4, 4])),
    ("pooling without stride", "shapes", ALL, attribute("MaxPool|AveragePool", strides=[1, 1])),
    ("dilation", "shapes", ALL, attribute("Conv", dilations=[2, 2])),
    ("shifted padding", "parity", LENETS, attribute("Conv", pads=[4, 4, 0, 0])),
    ("dilation with padding to match", "parity", LENETS, attribute("Conv", dilations=[2, 2], pads=[4, 4, 4, 4])),
    ("pooling shifted", "parity", ALL, attribute("MaxPool|AveragePool", kernel_shape=[3, 3], pads=[1, 1, 0, 0])),
    ("nearest instead of bilinear", "parity", SMALL_RESNET, attribute("Resize", mode="nearest")),
    (
        "corners aligned",
        "parity",
        SMALL_RESNET,
        attribute("Resize", coordinate_transformation_mode="align_corners"),
    ),
    (
        "corners of pixels",
        "parity",
        SMALL_RESNET,
        attribute("Resize", coordinate_transformation_mode="asymmetric"),
    ),
    # the weights
    ("flipped kernels", "weights", ALL, change("Conv", 1, lambda w: w[:, :, ::-1])),
    ("transposed kernels", "weights", ALL, change("Conv", 1, lambda w: w.transpose(0, 1, 3, 2))),
    ("permuted channels", "weights", ALL, change("Conv", 1, lambda w: w[::-1])),
    ("permuted inputs", "weights", ALL, change("Gemm", 1, lambda w: np.roll(w, 1, axis=1))),
    ("scaled weights", "weights", ALL, change("Gemm", 1, lambda w: w * 1.001)),
    ("weights rounded to float16", "weights", ALL, change("Gemm", 1, lambda w: w.astype(np.float16))),
    (
        "one weight by 1 %",
        "weights",
        ALL,
        change("Conv", 1, lambda w: w * np.where(np.arange(w.size).reshape(w.shape) == 12 % w.size, 1.01, 1), -1),
    ),
    ("one weight by a bit", "weights", LENETS, change("Conv", 1, lambda w: np.nextafter(w, 9, dtype=np.float32))),
    ("negated bias", "weights", ALL, change("Gemm", 2, np.negative)),
    ("bias of nothing", "weights", ALL, change("Conv", 2, np.zeros_like)),
    ("float16 passed as float32", "weights", ALL, half_weights),
    ("another mean", "weights", ALL, change("Sub", 1, lambda m: m * 1.01)),
    ("another deviation", "weights", ALL, change("Div", 1, lambda s: s * 0.99)),
    ("a factor from nowhere", "parity", ALL, insert_after("Gemm", "Mul", 1.25)),
    ("fold without the bias", "weights", SMALL_RESNET, change("Conv", 2, lambda b: b * 0.5)),
    ("fold with another epsilon", "weights", SMALL_RESNET, other_epsilon),
    ("batch norm with another mean", "weights", SMALL_RESNET, change("BatchNormalization", 3, np.zeros_like)),
    ("batch norm with another variance", "weights", SMALL_RESNET, change("BatchNormalization", 4, lambda v: v * 1.01)),
    # the computation
    ("two layers' weights swapped", "parity", SMALL_RESNET, swap_readers),
    ("Sigmoid becomes Tanh", "parity", ("lenet",), become("Sigmoid", "Tanh")),
    ("Relu becomes LeakyRelu", "parity", ("lenet-modern", "small-resnet"), become("Relu", "LeakyRelu")),
    ("Relu becomes Sigmoid", "parity", ("lenet-modern", "small-resnet"), become("Relu", "Sigmoid")),
    ("activation left out", "parity", ALL, become("Relu|Sigmoid", "Identity")),
    ("average becomes maximum", "parity", ("lenet",), become("AveragePool", "MaxPool", keep=WINDOW)),
    (
        "maximum becomes average",
        "parity",
        ("lenet-modern", "small-resnet"),
        become("MaxPool", "AveragePool", keep=WINDOW),
    ),
    ("missing softmax", "parity", ALL, become("Softmax", "Identity")),
    ("another temperature in the graph", "parity", TEMPERED, change("Div", 1, lambda t: t * 1.001, -1)),
    ("another temperature in the metadata", "parity", TEMPERED, other_temperature),
    ("a temperature that is none", "signature", TEMPERED, lambda m: other_temperature(m, 0.0)),
    ("doubled softmax", "parity", ALL, insert_after("Gemm", "Softmax", axis=1)),
    ("pixels with a sign", "parity", ALL, signed_pixels),
    ("clipped pixels", "parity", ALL, insert_after("Div", "Clip", 0.0, 1.0)),
    ("a product larger by a ten thousandth", "parity", ALL, attribute("Gemm", alpha=1.0001)),
    ("half the product", "parity", ALL, attribute("Gemm", alpha=0.5)),
    ("no bias", "parity", ALL, attribute("Gemm", beta=0.0, nth=-1)),
    ("extra activation", "parity", ALL, insert_after("Div", "Relu")),
    ("rows for columns", "parity", ALL, insert_after("Div", "Transpose", perm=[0, 1, 3, 2])),
    ("mean minus pixel", "parity", ALL, swap_inputs),
    ("product for quotient", "parity", ALL, become("Div", "Mul")),
    ("no shortcut", "parity", SMALL_RESNET, lambda m: node(m, "Add").input.__setitem__(1, node(m, "Add").input[0])),
    ("shortcut subtracted", "parity", SMALL_RESNET, become("Add", "Sub")),
    ("epsilon", "parity", SMALL_RESNET, attribute("BatchNormalization", epsilon=1e-3)),
    ("batch norm in training mode", "parity", SMALL_RESNET, attribute("BatchNormalization", training_mode=1)),
    ("inverted decisions", "decisions", ALL, change("Gemm", 1, np.negative, -1)),
]
# What has no meaning in a float16 graph: its weights are rounded, and no batch norm is folded in it.
NOT_HALF = {
    "weights rounded to float16",
    "float16 passed as float32",
    "one weight by a bit",
    "fold without the bias",
    "fold with another epsilon",
    "float32 declared as float16",
    "float32 declared as half-size",
}
MUTANTS = [
    (name, check, (*networks, *HALF) if "small-resnet" in networks and name not in NOT_HALF else networks, mutate)
    for name, check, networks, mutate in MUTANTS
]
MUTANTS += [
    ("float16 that says nothing of it", "signature", HALF, undeclared),
    ("float16 that says float32", "signature", HALF, metadata("dtype", '"fp32"')),
    (
        "one float16 weight by a bit",
        "weights",
        HALF,
        change("Conv", 1, lambda w: np.nextafter(w, np.float16(9))),
    ),
    (
        "float16 with a fold that is no batch norm's",
        "weights",
        HALF,
        change("BatchNormalization", 1, lambda g: g * 0.99),
    ),
]
# The same for a half-size file; its first nodes are the Casts of its weights.
MUTANTS += [
    (f"half-size: {name}", check, HALF_SIZE, mutate)
    for name, check, mutate in (
        ("it says nothing of it", "signature", undeclared),
        ("it says float32", "signature", metadata("storage", '"fp32"')),
        ("it says float16", "signature", lambda m: m.metadata_props.add(key="dtype", value='"fp16"')),
        ("a better accuracy", "accuracy", metadata("accuracy", '{"n": 64, "correct": 63, "top1": 0.984375}')),
        ("frozen batch", "batch", freeze_batch),
        ("stride", "shapes", attribute("Conv", strides=[2, 2])),
        ("a weight without its Cast", "structure", without_cast),
        ("one weight by a bit", "weights", change("Cast", 0, lambda w: np.nextafter(w, np.float16(9)))),
        ("flipped kernels", "weights", change("Cast", 0, lambda w: w[:, :, ::-1])),
        ("a bias rounded, too", "weights", change("Gemm", 2, lambda b: b.astype(np.float16))),
        ("batch norm with another mean", "weights", change("BatchNormalization", 3, np.zeros_like)),
        ("two layers' weights swapped", "parity", swap_casts),
        ("a product larger by a ten thousandth", "parity", attribute("Gemm", alpha=1.0001)),
        ("pixels rounded on their way", "parity", rounded_pixels),
    )
]

# Accuracies that cannot be so, whatever the file computes.
MUTANTS += [
    (f"an accuracy {name}", "accuracy", ("lenet-modern",), metadata("accuracy", value))
    for name, value in (
        ("that is no number", '{"n": 64, "correct": 5, "top1": NaN}'),
        ("over more images, all right", '{"n": 10000, "correct": 10000, "top1": 1.0}'),
        ("over more images, all wrong", '{"n": 10000, "correct": 0, "top1": 0.0}'),
        ("over fewer images than are given", '{"n": 63, "correct": 63, "top1": 1.0}'),
        ("that contradicts itself", '{"n": 10000, "correct": 2000, "top1": 0.99}'),
        ("with more right than there are", '{"n": 64, "correct": 65, "top1": 1.015625}'),
        ("over true images", '{"n": true, "correct": true, "top1": 1.0}'),
        ("that is a word", '"good"'),
    )
]


def said_of_nothing(model: Model) -> None:
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("ghost", onnx.TensorProto.FLOAT, ["batch", 3]))


def said_to_be_a_list(model: Model) -> None:
    info = model.graph.value_info[3]
    kind = onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, None)
    info.type.CopyFrom(onnx.helper.make_sequence_type_proto(kind))


def said_to_be_whole(model: Model) -> None:
    model.graph.value_info[3].type.tensor_type.elem_type = onnx.TensorProto.INT64


def double_bias(model: Model) -> None:
    """A bias that float32 takes for the right one."""
    found = node(model, "Gemm", nth=-1)
    stored = tensor(model, found.input[2])
    stored.CopyFrom(nph.from_array(nph.to_array(stored).astype(np.float64) + 1e-9, stored.name))
    cast = onnx.helper.make_node("Cast", [stored.name], ["narrow"], name="narrow", to=onnx.TensorProto.FLOAT)
    found.input[2] = "narrow"
    nodes = [cast, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def quantized(model: Model) -> None:
    model.graph.quantization_annotation.add(tensor_name="missing")


def attribute_of_a_function(model: Model) -> None:
    node(model, "Conv").attribute.add(name="group", ref_attr_name="groups", type=onnx.AttributeProto.INT)


# What nothing reads, and what is said of it.
MUTANTS += [
    ("shape of a value that is not there", "structure", LENETS, said_of_nothing),
    ("a value said to be a list", "structure", LENETS, said_to_be_a_list),
    ("a value said to be whole numbers", "structure", LENETS, said_to_be_whole),
    ("a quantization", "self-contained", LENETS, quantized),
    ("devices", "self-contained", ("lenet",), lambda m: m.configuration.add(name="x", num_devices=2)),
    ("an overload", "self-contained", LENETS, lambda m: setattr(node(m, "Conv"), "overload", "mine")),
    ("an attribute of a function", "self-contained", LENETS, attribute_of_a_function),
    ("a bias in float64", "signature", LENETS, double_bias),
    ("a seed that is false", "signature", ("lenet",), metadata("seed", "false")),
    ("epochs that are true", "signature", ("lenet",), metadata("epochs", "true")),
    ("versions of nothing", "signature", ("lenet",), metadata("versions", "null")),
]


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
        nodes.append(onnx.helper.make_node("MatMul", found.input[:2], [inner], name=f"{found.name}_product"))
        nodes.append(onnx.helper.make_node("Add", [inner, found.input[2]], found.output, name=f"{found.name}_sum"))
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def typed_data(model: Model) -> None:
    for stored in model.graph.initializer:
        if stored.data_type == onnx.TensorProto.FLOAT:
            numbers = nph.to_array(stored).ravel().tolist()
            stored.ClearField("raw_data")
            stored.float_data[:] = numbers


def constants_as_nodes(model: Model) -> None:
    nodes = [onnx.helper.make_node("Constant", [], [t.name], value=t) for t in model.graph.initializer]
    nodes += model.graph.node
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)


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
        onnx.helper.make_node("Mul", [found.input[0], "scale"], ["scaled"], name="scaled"),
        onnx.helper.make_node("Add", ["scaled", "shift"], [found.output[0]], name="shifted"),
    ]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    for name in unused:
        model.graph.initializer.remove(tensor(model, name))


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
    ("batch norm as product and sum", SMALL_RESNET, norm_as_product_and_sum),
]
