"""float16 files, and float32 files that keep their weights as float16: what is promised of each, on real pictures."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.numpy_helper
import onnxruntime
import pytest
import torch
from support.command_line import call
from support.exports import content_of, failed
from support.graph_edits import make_network
from torch import nn

from export import Description, export_network, verify
from export.analysis.references import in_half
from export.precision import Precision, precision_in
from export.verification.accuracy_change import AccuracyChange
from runtime import Classifier
from runtime.datasets.fashion_mnist import LABELS
from runtime.errors import UsageError
from runtime.evaluation.parity import OUTPUT_FILES, REPORT, measure_parity, read_tolerances
from runtime.model.registry import read_index
from zoo.models import create_model
from zoo.publishing import publish
from zoo.publishing.publish import NotPublishable, export_trained, publish_exported
from zoo.runs import checkpoint
from zoo.runs.trained import Trained

pytestmark = pytest.mark.slow

HALF_SIZE = Precision(storage="fp16")


@pytest.fixture(scope="module")
def half(trained: Trained, pictures: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an index and an export that computes in float16."""
    folder = tmp_path_factory.mktemp("half")
    description = Description(name="lenet-modern", labels=LABELS)
    export_network(trained.network, folder, description, **pictures, dtype="fp16")
    return folder


def answers(content: bytes, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"image": images})[0]  # type: ignore[no-any-return]


def test_a_float16_file_computes_in_float16_between_the_edges_of_the_contract(half):
    model = onnx.shape_inference.infer_shapes(onnx.load(half / "lenet-modern" / "model.onnx"))
    types = {info.name: info.type.tensor_type.elem_type for info in model.graph.value_info}
    wide = {name for name, kind in types.items() if kind != onnx.TensorProto.FLOAT16}

    assert precision_in(model, types) == Precision("fp16")
    assert wide == set()
    assert {tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) > 1} == {
        onnx.TensorProto.FLOAT16
    }
    assert [info.type.tensor_type.elem_type for info in [*model.graph.input, *model.graph.output]] == [2, 1, 1]


def test_the_runtime_takes_it_under_the_contract_and_says_what_it_is(half, pictures):
    entry = read_index(half)["lenet-modern"]
    with Classifier(half / "lenet-modern", device="cpu") as classifier:
        assert classifier.info()["dtype"] == "fp16"
        assert classifier.logits(pictures["images"]).dtype == np.float32
        assert measure_parity(classifier).passed
    assert (entry["dtype"], entry["storage"]) == ("fp16", "fp16")
    assert entry["bytes"] < 0.55 * 250_000
    assert "float16" in (half / "lenet-modern" / "README.md").read_text()


def test_its_tolerance_is_eight_times_what_the_same_rounding_costs_pytorch(half, trained):
    report = json.loads((half / "lenet-modern" / "verification.json").read_text())
    (parity,) = (check["measures"] for check in report["checks"] if check["name"] == "parity")
    row, plain = parity["logits"], parity["read as float32"]["logits"]

    assert report["conditions"]["precision"] == {"dtype": "fp16", "storage": "fp16"}
    assert row["tolerance"] == 8 * row["noise_floor"]
    assert 0 < row["max_abs_diff"] <= row["tolerance"]
    assert plain["tolerance"] < row["noise_floor"] / 20  # the graph itself is held to float32


def test_the_reference_in_float16_rounds_every_result_and_changes_no_weight(pictures):
    network = Precision("fp16").rounded(make_network("small-resnet"))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    seen: list[torch.Tensor] = []
    for module in network.modules():
        module.register_forward_hook(lambda module, inputs, output: seen.append(output))
    images = torch.from_numpy(pictures["images"][:4])
    with torch.inference_mode():
        logits, exact = in_half(network)(images), network(images)

    assert all(torch.equal(value, value.half().float()) for value in seen[: len(seen) // 2])
    assert 0 < float((logits - exact).abs().max()) < 0.01
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("name", ["lenet-modern", "small-resnet"])
def test_half_size_storage_is_to_the_bit_the_network_whose_weights_were_rounded(name, pictures, tmp_path):
    network = make_network(name)
    content = content_of(network, HALF_SIZE)
    model, rounded = onnx.load_from_string(content), HALF_SIZE.rounded(network).state_dict()
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    halves = {key for key, array in stored.items() if array.dtype == np.float16}

    assert halves == {key for key, tensor in rounded.items() if tensor.dim() > 1}
    assert all(np.array_equal(stored[key].astype(np.float32), rounded[key].numpy()) for key in halves)
    # What a runtime has once it has folded the casts: the same nodes, with the rounded weights as float32.
    widened = onnx.ModelProto.FromString(content)
    wide = {n.input[0]: n.output[0] for n in widened.graph.node if n.op_type == "Cast" and n.input[0] in halves}
    for tensor in widened.graph.initializer:
        if tensor.name in wide:
            tensor.CopyFrom(onnx.numpy_helper.from_array(rounded[tensor.name].numpy(), wide[tensor.name]))
    nodes = [node for node in model.graph.node if not (node.op_type == "Cast" and node.input[0] in halves)]
    del widened.graph.node[:]
    widened.graph.node.extend(nodes)

    np.testing.assert_array_equal(
        answers(content, pictures["images"]), answers(widened.SerializeToString(), pictures["images"])
    )
    if name == "lenet-modern":  # no batch norm, which an ordinary export would fold
        plain = content_of(HALF_SIZE.rounded(network), Precision())
        np.testing.assert_array_equal(answers(content, pictures["images"]), answers(plain, pictures["images"]))


@pytest.mark.parametrize("name", ["lenet-modern", "small-resnet"])
def test_a_runtime_folds_the_casts_of_half_size_storage_when_it_loads(name, tmp_path):
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    content = content_of(make_network(name), HALF_SIZE)
    onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    optimized = onnx.load(tmp_path / "optimized.onnx").graph
    casts = [node.input[0] for node in optimized.node if node.op_type == "Cast"]

    assert len([node for node in onnx.load_from_string(content).graph.node if node.op_type == "Cast"]) > 4
    assert casts == ["image"]
    assert not [tensor.name for tensor in optimized.initializer if tensor.data_type == onnx.TensorProto.FLOAT16]
    # The runtime folds the batch norms too, which the export has left as they are.
    assert "BatchNormalization" not in {node.op_type for node in optimized.node}


def test_a_file_is_held_to_the_dtype_that_is_asked_for(trained, half, pictures):
    content = (half / "lenet-modern" / "model.onnx").read_bytes()

    assert failed(verify(trained.network, content, **pictures)) == []
    assert failed(verify(trained.network, content, **pictures, dtype="fp16")) == []
    assert failed(verify(trained.network, content, **pictures, dtype="fp32")) == ["signature"]
    with pytest.raises(UsageError, match="dtype must be one of fp32, fp16, int8, not 'half'"):
        verify(trained.network, content, **pictures, dtype="half")


def test_a_half_size_file_is_proved_against_the_trained_weights_and_against_the_rounded(trained, pictures):
    content = content_of(trained.network, HALF_SIZE)
    of_rounded = verify(HALF_SIZE.rounded(trained.network), content, **pictures)

    assert failed(verify(trained.network, content, **pictures)) == []
    assert failed(of_rounded) == []
    assert of_rounded.checks[6].measures["logits"]["tolerance"] < 1e-3


def test_what_rounding_costs_is_no_room_for_a_device_a_batch_or_a_bug(trained, pictures, tmp_path):
    """A half-size file is held to its own rounded weights, like any float32 file."""
    description = Description(name="lenet-modern", labels=LABELS)
    export_network(trained.network, tmp_path, description, **pictures, storage="fp16")
    folder = tmp_path / "lenet-modern"
    digest = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    checks = {check["name"]: check["measures"] for check in json.loads((folder / REPORT).read_text())["checks"]}
    tolerance = read_tolerances(folder, digest)["logits"]

    assert tolerance < checks["parity"]["logits"]["tolerance"] / 100  # that one holds the cost of rounding too
    assert checks["batch"]["max_abs_diff"] < tolerance
    assert measure_parity(Classifier(folder, device="cpu")).passed

    path = folder / OUTPUT_FILES["logits"]
    shifted = onnx.numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes())) + np.float32(0.005)
    path.write_bytes(onnx.numpy_helper.from_array(shifted, "logits").SerializeToString())
    assert not measure_parity(Classifier(folder, device="cpu")).passed


class Standardized(nn.Module):
    """The usual preprocessing, written into the code: its numbers are not float16's."""

    def __init__(self) -> None:
        super().__init__()
        self.layers: nn.Module = create_model("lenet-modern").network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers((images.float() / 255 - 0.2860) / 0.3530) * 0.1  # type: ignore[no-any-return]


def test_numbers_in_the_code_may_be_rounded_to_float16_but_not_changed(pictures):
    torch.manual_seed(1)
    network = Standardized().eval()
    content = content_of(network, Precision("fp16"))
    model = onnx.load_from_string(content)
    for tensor in model.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        if array.size == 1 and abs(float(array.reshape(())) - 0.2860) < 0.001:
            changed = np.nextafter(array, np.float16(1), dtype=np.float16)
            tensor.CopyFrom(onnx.numpy_helper.from_array(changed, tensor.name))

    assert failed(verify(network, content, **pictures)) == []
    assert model.SerializeToString() != content
    assert "parity" in failed(verify(network, model.SerializeToString(), **pictures))


def test_a_weight_beyond_float16_is_named():
    network = create_model("lenet")
    with torch.no_grad():
        next(network.parameters())[0, 0, 0, 0] = 70_000

    with pytest.raises(UsageError, match=r"network\.0\.weight holds 70000, and float16 ends at 65504"):
        content_of(network, HALF_SIZE)


class Overflowing(nn.Module):
    """Its weights are small, its sums are not; they are whole numbers, which float32 adds exactly in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(784, 10)
        nn.init.constant_(self.dense.weight, 2.0)
        nn.init.zeros_(self.dense.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.dense(images.float().flatten(1))  # type: ignore[no-any-return]


def test_a_network_whose_activations_are_beyond_float16_is_refused(pictures):
    content = content_of(Overflowing(), Precision("fp16"))
    report = verify(Overflowing(), content, **pictures)
    parity = next(check for check in report.checks if check.name == "parity")

    assert not parity.passed
    assert "logits are beyond float16 already in PyTorch: export it as fp32" in parity.detail


@pytest.mark.parametrize(
    ("lost", "gained", "loss"),
    [(0, 0, False), (3, 1, False), (5, 0, False), (6, 0, True), (0, 9, False), (20, 5, True)],
)
def test_accuracy_has_moved_where_mcnemars_test_says_so(lost, gained, loss):
    assert AccuracyChange(10_000, lost + gained, lost, gained).is_loss is loss


def test_mcnemars_test_is_a_coins():
    assert AccuracyChange(100, 10, lost=8, gained=2).p_value == pytest.approx(2 * (1 + 10 + 45) / 1024)


@pytest.fixture
def exported(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A half-size export in a home of its own, beside an empty repository."""
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    (tmp_path / "repository").mkdir()
    monkeypatch.setattr(publish, "repository_weights", lambda: tmp_path / "repository")
    export_trained(trained, storage="fp16")
    return tmp_path / "repository"


def test_a_published_half_size_model_carries_a_half_size_checkpoint_that_is_its_network(exported, trained):
    entry, folder = publish_exported("lenet-modern")
    stored = checkpoint.load(folder / "checkpoint.safetensors")
    network = create_model("lenet-modern")
    stored.load_into(network)
    rounded = HALF_SIZE.rounded(trained.network).state_dict()

    assert all(torch.equal(rounded[name], tensor) for name, tensor in network.state_dict().items())
    assert stored.rounded_from == trained.checkpoint.sha256()
    assert (folder / "checkpoint.safetensors").stat().st_size < 0.6 * trained.checkpoint.path.stat().st_size
    assert entry["storage"] == "fp16"
    assert entry["rounding"]["n"] == 10_000
    assert Classifier(folder, device="cpu").info()["storage"] == "fp16"
    assert measure_parity(Classifier(folder, device="cpu")).passed


def test_publish_refuses_what_lost_accuracy_or_has_no_room_and_leaves_the_repository_as_it_was(exported, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(publish, "MAX_WEIGHTS", 200_000)
        with pytest.raises(NotPublishable, match="would hold"):
            publish_exported("lenet-modern")
    index = exported.parent / "home" / "weights" / "index.json"
    document = json.loads(index.read_text())
    document["models"][0]["rounding"] |= {"lost": 12, "gained": 1}
    index.write_text(json.dumps(document))
    with pytest.raises(NotPublishable, match="12 lost, 1 gained, which chance does not explain"):
        publish_exported("lenet-modern")

    assert not list(exported.iterdir())


def test_the_commands_take_a_dtype_and_refuse_another(trained, half, fashion_mnist_dir, tmp_path):
    file, weights = str(half / "lenet-modern" / "model.onnx"), str(trained.checkpoint.path)
    verifying = ["verify", "lenet-modern", "--onnx", file, "--checkpoint", weights, "--images", "32", "--dtype"]
    refused = call("zoo", *verifying, "fp32")
    export = ["export", "lenet-modern", "-o", str(tmp_path), "--dtype"]
    unknown = call("zoo", *export, "int2")
    mixed = call("zoo", *export, "fp16", "--storage", "fp32")

    assert refused.exit_code == 3
    assert "'dtype' should be 'fp32', but is 'fp16'" in " ".join(refused.stdout.split())
    assert (unknown.exit_code, mixed.exit_code) == (2, 2)
    assert "stores float16 too" in mixed.output
    assert not list(tmp_path.iterdir())
