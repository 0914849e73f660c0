"""Files that keep the weights of linear layers as int8 or int4: what is promised of them, and wrong ones refused."""

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper as nph
import onnxruntime
import pytest
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from support.exports import content_of, failed, skip_where_openvino_is_held_to_less
from support.graph_edits import Mutation, attribute, change, metadata, node, store_as_float, tensor
from torch import nn

from export import verify
from export.integers import quantize
from export.precision import Precision
from export.verification.backends import open_engine
from runtime import Classifier
from runtime.errors import UsageError
from runtime.evaluation.parity import measure_parity
from zoo.models import create_model
from zoo.publishing.publish import export_trained
from zoo.publishing.verify import find_pair, verify_stored
from zoo.runs import checkpoint
from zoo.runs.trained import Trained

INT8, INT4 = Precision(storage="int8"), Precision(storage="int4")


@pytest.fixture(scope="module")
def contents(trained: Trained) -> dict[str, bytes]:
    return {form.storage: content_of(trained.network, form) for form in (INT8, INT4)}


@pytest.mark.parametrize("storage", ["int8", "int4"])
def test_weights_that_were_rounded_once_round_to_the_same_integers(storage, rng):
    weight = (rng.standard_normal((40, 300)) * np.exp(rng.uniform(-60, 20, (40, 1)))).astype(np.float32)
    weight[3], weight[4, :150] = 0, 0
    once = quantize(weight, storage)
    again = quantize(once.numbers(), storage)

    np.testing.assert_array_equal(again.values, once.values)
    np.testing.assert_array_equal(again.scales, once.scales)
    np.testing.assert_array_equal(once.numbers(), (once.numbers().astype(np.float64)).astype(np.float32))
    largest = np.abs(weight).max(1, keepdims=True)
    assert (np.abs(once.numbers() - weight) <= largest / (250 if storage == "int8" else 13.9)).all()


@pytest.mark.parametrize("storage", ["int8", "int4"])
def test_a_file_in_integers_passes_every_check(storage, trained, contents, pictures):
    report = verify(trained.network, contents[storage], **pictures)
    parity = next(check.measures for check in report.checks if check.name == "parity")

    assert failed(report) == []
    assert report.conditions["precision"] == {"dtype": "fp32", "storage": storage}
    assert parity["read as float32"]["logits"]["tolerance"] < 1e-3  # the graph is held to float32
    assert parity["as quantized"]["logits"]["tolerance"] < parity["logits"]["tolerance"] / 4


@pytest.mark.parametrize("storage", ["int8", "int4"])
def test_onnxruntime_multiplies_by_the_integers_and_openvino_reads_them(storage, contents, pictures, tmp_path):
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "optimized.onnx"), 3
    session = onnxruntime.InferenceSession(contents[storage], options, providers=["CPUExecutionProvider"])
    nodes = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    (ours,) = session.run(["logits"], {"image": pictures["images"][:64]})

    assert nodes.count("MatMulNBits") == 3
    assert "DequantizeLinear" not in nodes
    pytest.importorskip("openvino")
    skip_where_openvino_is_held_to_less()
    (theirs,) = open_engine("openvino", contents[storage]).run(["logits"], {"image": pictures["images"][:64]})
    assert np.abs(ours - theirs).max() < 0.5


def test_a_network_of_another_kind_keeps_its_linear_layers_in_integers(pictures):
    """Layers on sequences, one without a bias, a width that no block divides, and a weight that an embedding shares."""

    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rows = nn.Linear(28, 50, bias=False)
            self.mixed = nn.Sequential(nn.Linear(50, 50), nn.ReLU(), nn.Linear(50, 12))
            self.shared = nn.Embedding(28, 28)
            self.tied = nn.Linear(28, 28, bias=False)
            self.tied.weight = self.shared.weight
            self.head = nn.Linear(28 * 12, 10)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            rows = images.flatten(1, 2).float() / 255 + self.shared(torch.arange(28))
            return self.head(self.mixed(self.rows(self.tied(rows))).flatten(1))  # type: ignore[no-any-return]

    torch.manual_seed(0)
    network = Tokens().eval()
    for form in (INT8, INT4):
        content = content_of(network, form)
        kinds = [tensor.data_type for tensor in onnx.load_from_string(content).graph.initializer]

        assert failed(verify(network, content, **pictures)) == []
        assert kinds.count(onnx.TensorProto.INT8) + kinds.count(onnx.TensorProto.INT4) == 4
        assert not [tensor for tensor in INT8.integers(network) if "tied" in tensor or "shared" in tensor]


def test_what_cannot_be_is_refused_with_the_way_out(trained):
    with pytest.raises(UsageError, match="int4 needs opset 21 or later, not 20"):
        content_of(trained.network, INT4, opset=20)
    with pytest.raises(UsageError, match="stores float16 too: leave out storage int8"):
        Precision("fp16", "int8")
    network = create_model("lenet")
    with torch.no_grad():
        next(p for p in network.parameters() if p.dim() == 2)[0, 0] = torch.inf
    with pytest.raises(UsageError, match="not finite"):
        content_of(network, INT8)


def a_zero_point(model: onnx.ModelProto) -> None:
    reading = node(model, "DequantizeLinear")
    count = nph.to_array(tensor(model, reading.input[1])).size
    model.graph.initializer.append(nph.from_array(np.eye(1, count, 3, dtype=np.int8)[0], "zeros"))
    reading.input.append("zeros")


def one_layer_in_float(model: onnx.ModelProto) -> None:
    reading = node(model, "DequantizeLinear")
    store_as_float(model, reading, tuple(tensor(model, reading.input[1]).dims))


def nibbles_in_the_other_order(model: onnx.ModelProto) -> None:
    for stored in (each for each in model.graph.initializer if each.data_type == onnx.TensorProto.INT4):
        bytes_ = np.frombuffer(stored.raw_data, np.uint8)
        stored.raw_data = ((bytes_ >> 4) | (bytes_ << 4)).tobytes()


def blocks_of_another_size(model: onnx.ModelProto) -> None:
    attribute("DequantizeLinear", block_size=80)(model)
    change("DequantizeLinear", 1, lambda array: array[::5])(model)


DOUBLED = change("DequantizeLinear", 1, lambda a: np.where(np.arange(a.size).reshape(a.shape) == 5, 2 * a, a), nth=1)
WRONG: list[tuple[str, str, Mutation, str]] = [
    ("int8", "one scale doubled", DOUBLED, "weights"),
    ("int8", "one integer moved", change("DequantizeLinear", 0, lambda a: np.where(a == a.max(), a - 1, a)), "weights"),
    ("int8", "one scale for all outputs", change("DequantizeLinear", 1, np.mean), "weights"),
    ("int8", "a zero point", a_zero_point, "weights"),
    (
        "int8",
        "weights of another network",
        change("DequantizeLinear", 0, lambda array: array[:, ::-1], nth=1),
        "weights",
    ),
    ("int8", "one layer in float", one_layer_in_float, "weights"),
    ("int8", "it says int4", metadata("storage", '"int4"'), "signature"),
    ("int4", "one scale doubled", DOUBLED, "weights"),
    ("int4", "nibbles in the other order", nibbles_in_the_other_order, "weights"),
    ("int4", "blocks of another size", blocks_of_another_size, "weights"),
]


@pytest.mark.parametrize(("storage", "name", "damage", "check"), WRONG, ids=[f"{s}-{name}" for s, name, *_ in WRONG])
def test_a_wrong_file_is_refused_by_the_check_that_should(storage, name, damage, check, trained, contents, pictures):
    model = onnx.load_from_string(contents[storage])
    damage(model)
    report = verify(trained.network, model.SerializeToString(deterministic=True), **pictures)

    assert check in failed(report), [(each.name, each.detail) for each in report.checks]
    assert "could not be run" not in next(each.detail for each in report.checks if each.name == check)


def test_dynamic_quantization_fails_the_batch_check(trained, contents, pictures, tmp_path):
    """Its scale is that of the largest number in the whole batch: an image's answer depends on its neighbours'."""
    (tmp_path / "float.onnx").write_bytes(content_of(trained.network, Precision()))
    quantize_dynamic(tmp_path / "float.onnx", tmp_path / "dynamic.onnx", weight_type=QuantType.QInt8)
    model = onnx.load(tmp_path / "dynamic.onnx")
    report = verify(trained.network, model.SerializeToString(deterministic=True), **pictures)

    assert {"batch"} <= set(failed(report)), [(each.name, each.detail) for each in report.checks]


@pytest.mark.slow
@pytest.mark.parametrize(("storage", "max_drop"), [("int8", 0.002), ("int4", 0.01)])
def test_an_export_in_integers_is_verified_from_the_small_checkpoint_beside_it(storage, max_drop, trained, empty_home):
    entry, folder = export_trained(trained, storage=storage, max_drop=max_drop)
    stored = checkpoint.load(folder / "checkpoint.safetensors")
    pair = find_pair("lenet-modern", folder / "model.onnx", folder / "checkpoint.safetensors")
    rounded = Precision(storage=storage).rounded(trained.network).state_dict()

    assert entry["storage"] == storage
    assert entry["rounding"]["n"] == 10_000
    assert verify_stored(pair, images=500, max_drop=max_drop).passed
    assert all(torch.equal(rounded[name], tensor) for name, tensor in pair.trained.network.state_dict().items())
    assert stored.rounded_from == trained.checkpoint.sha256()
    assert (folder / "checkpoint.safetensors").stat().st_size < 0.35 * trained.checkpoint.path.stat().st_size
    assert measure_parity(Classifier(folder, device="cpu")).passed
    assert storage in (folder / "README.md").read_text()
