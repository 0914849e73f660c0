"""Files that are wrong in one thing, with the check that should say so."""

import json

import numpy as np
import onnx
import onnx.numpy_helper as nph
from onnx import TensorProto
from onnx.helper import make_attribute, make_node, make_opsetid
from support.graph_edits import (
    ALL,
    HALF,
    HALF_SIZE,
    LENETS,
    SMALL_RESNET,
    TEMPERED,
    Model,
    Mutation,
    attribute,
    become,
    change,
    insert_after,
    metadata,
    node,
    put_behind,
    put_in_front,
    tensor,
)

WINDOW, STRIDES = ("kernel_shape", "strides", "pads"), make_attribute("strides", [1, 1])


def other_temperature(model: Model, factor: float = 1.001) -> None:
    prop = next(prop for prop in model.metadata_props if prop.key == "confidence")
    declared = json.loads(prop.value)
    prop.value = json.dumps(declared | {"temperature": declared["temperature"] * factor})


def swap_readers(op_type: str, index: int) -> Mutation:
    """Two nodes of one operator read each other's stored tensor, which has the same shape."""

    def mutate(model: Model) -> None:
        shapes = {stored.name: tuple(stored.dims) for stored in model.graph.initializer}
        by_shape: dict[tuple[int, ...], onnx.NodeProto] = {}
        for found in model.graph.node:
            if found.op_type != op_type or found.input[index] not in shapes:
                continue
            other = by_shape.setdefault(shapes[found.input[index]], found)
            if other is not found:
                found.input[index], other.input[index] = other.input[index], found.input[index]
                return

    return mutate


def swap_layers(model: Model) -> None:
    """An activation and the pooling behind it change places, and the shape between them is another."""
    relu, pool = node(model, "Relu"), node(model, "MaxPool")
    relu.op_type, pool.op_type = pool.op_type, relu.op_type
    relu.attribute.extend(pool.attribute)
    del pool.attribute[:]


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
    put_behind(model, stored.name, make_node("Cast", [stored.name], ["wide"], name="wide", to=onnx.TensorProto.FLOAT))


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


def two_tensors(model: Model) -> None:
    stored = tensor(model, node(model, "Conv").input[1])
    model.graph.initializer.append(nph.from_array(2 * nph.to_array(stored), stored.name))


def weight_as_input(model: Model) -> None:
    """A caller could then put his own in its place."""
    stored = model.graph.initializer[0]
    model.graph.input.append(onnx.helper.make_tensor_value_info(stored.name, stored.data_type, stored.dims))


def drop_at_random(model: Model) -> None:
    read = node(model, "Gemm", nth=-1).input[0]
    dropout = make_node("Dropout", [read, "ratio", "training"], ["dropped"], name="dropout")
    put_behind(model, read, dropout, ratio=np.array(0.5, np.float32), training=np.array(True))


def signed_pixels(model: Model) -> None:
    """The light half of the pixels becomes negative."""
    node(model, "Cast").input[0] = "signed"
    put_in_front(model, make_node("Cast", ["image"], ["signed"], name="signed", to=onnx.TensorProto.INT8))


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


def rounded_pixels(model: Model) -> None:
    """A value goes through float16 and back: the types at both ends are what they were."""
    name = node(model, "Div").output[0]
    narrow = make_node("Cast", [name], ["narrow"], name="narrow", to=onnx.TensorProto.FLOAT16)
    wide = make_node("Cast", ["narrow"], ["wide"], name="wide", to=onnx.TensorProto.FLOAT)
    put_behind(model, name, narrow, wide)


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
    ("dead branch", "structure", ALL, lambda m: m.graph.node.append(make_node("Relu", ["logits"], ["x"]))),
    ("unused tensor", "structure", ("lenet",), lambda m: m.graph.initializer.append(nph.from_array(np.ones(3), "x"))),
    ("doubled node name", "structure", ("lenet",), lambda m: setattr(m.graph.node[1], "name", m.graph.node[0].name)),
    ("stale shape", "structure", ALL, stale_shape),
    ("newer opset", "structure", ("lenet",), lambda m: setattr(m.opset_import[0], "version", 25)),
    ("ancient IR version", "structure", ("lenet",), lambda m: setattr(m, "ir_version", 2)),
    ("two versions of the operators", "structure", ALL, lambda m: m.opset_import.append(make_opsetid("ai.onnx", 13))),
    ("one attribute twice", "structure", ALL, lambda m: node(m, "Conv").attribute.append(STRIDES)),
    ("two tensors of one name", "structure", ALL, two_tensors),
    ("dropout that drops", "structure", ALL, drop_at_random),
    ("Gemm the other way round", "structure", ALL, attribute("Gemm", transB=0)),
    ("a cast to another type", "structure", ALL, attribute("Cast", to=onnx.TensorProto.INT32)),
    # the contract
    ("renamed input", "signature", ALL, rename_input),
    ("retyped input", "signature", ALL, lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 1)),
    (
        "an input of two images",
        "signature",
        ("lenet",),
        lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", 2),
    ),
    ("swapped outputs", "signature", ALL, swapped_outputs),
    ("a weight as an input", "signature", ALL, weight_as_input),
    ("labels twice", "signature", ALL, lambda m: m.metadata_props.add(key="labels", value='["a", "b"]')),
    ("a label with a space more", "signature", ALL, padded_label),
    ("float32 declared as float16", "signature", ALL, lambda m: m.metadata_props.add(key="dtype", value='"fp16"')),
    ("float32 declared as half-size", "signature", ALL, lambda m: m.metadata_props.add(key="storage", value='"fp16"')),
    ("swapped labels", "signature", ("lenet",), metadata("labels", '["Bag", "Coat"]')),
    ("labels that are not JSON", "signature", ("lenet",), metadata("labels", "Bag, Coat")),
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
    ("pooling before the activation", "shapes", ("lenet-modern",), swap_layers),
    ("shifted padding", "parity", LENETS, attribute("Conv", pads=[4, 4, 0, 0])),
    ("dilation with padding to match", "parity", LENETS, attribute("Conv", dilations=[2, 2], pads=[4, 4, 4, 4])),
    ("pooling shifted", "parity", ALL, attribute("MaxPool|AveragePool", kernel_shape=[3, 3], pads=[1, 1, 0, 0])),
    ("nearest instead of bilinear", "parity", SMALL_RESNET, attribute("Resize", mode="nearest")),
    ("corners aligned", "parity", SMALL_RESNET, attribute("Resize", coordinate_transformation_mode="align_corners")),
    ("corners of pixels", "parity", SMALL_RESNET, attribute("Resize", coordinate_transformation_mode="asymmetric")),
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
    ("two layers' weights swapped", "parity", SMALL_RESNET, swap_readers("Conv", 1)),
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
    ("one float16 weight by a bit", "weights", HALF, change("Conv", 1, lambda w: np.nextafter(w, np.float16(9)))),
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
        ("two layers' weights swapped", "parity", swap_readers("Cast", 0)),
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


def attribute_of_a_function(model: Model) -> None:
    node(model, "Conv").attribute.add(name="group", ref_attr_name="groups", type=onnx.AttributeProto.INT)


# What nothing reads, and what is said of it.
MUTANTS += [
    ("shape of a value that is not there", "structure", LENETS, said_of_nothing),
    ("a value said to be a list", "structure", LENETS, said_to_be_a_list),
    ("a value said to be whole numbers", "structure", LENETS, said_to_be_whole),
    ("a quantization", "self-contained", LENETS, lambda m: m.graph.quantization_annotation.add(tensor_name="missing")),
    ("devices", "self-contained", ("lenet",), lambda m: m.configuration.add(name="x", num_devices=2)),
    ("an overload", "self-contained", LENETS, lambda m: setattr(node(m, "Conv"), "overload", "mine")),
    ("an attribute of a function", "self-contained", LENETS, attribute_of_a_function),
    ("a bias in float64", "signature", LENETS, nearly_double),
    ("a seed that is false", "signature", ("lenet",), metadata("seed", "false")),
    ("epochs that are true", "signature", ("lenet",), metadata("epochs", "true")),
    ("versions of nothing", "signature", ("lenet",), metadata("versions", "null")),
]


# A number, a shape or a batch that is wrong and hard to see.
MUTANTS += [
    ("a double that is no float", "weights", ALL, nearly_double),
    ("the darkest pixel of the batch subtracted", "batch", ALL, darkest_subtracted(neighbours=False)),
    ("the darkest pixel of neighbours subtracted", "batch", ALL, darkest_subtracted(neighbours=True)),
    ("a softmax steadied by the batch", "batch", ALL, steadied_by_the_batch),
    ("the channels said to be the batch", "structure", ALL, said_of_axis(1)),
    ("the width said to be the batch", "structure", ALL, said_of_axis(3)),
    ("a shape said twice", "structure", ALL, said_once_more),
    ("another license", "signature", ("lenet",), metadata("license", '"GPL-3.0"')),
]
