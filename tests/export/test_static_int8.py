"""Files that compute in int8: what is promised of them, and wrong ones refused by the check that should."""

import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.numpy_helper as nph
import onnxruntime
import pytest
import torch
from support.command_line import python
from support.exports import failed
from support.graph_edits import Mutation, change, change_tensor, make_network, node, store_as_float, tensor
from torch import nn

from export import Description, export_network, verify
from export.analysis.folding import fold_batch_norms
from export.bundle import artifact
from export.bundle.diff import diff
from export.convert.calibrate import sha256_of_images
from export.convert.exporter import build_graph
from export.convert.sensitivity import choose_float_layers
from export.precision import Precision
from export.verification.speed import NotFaster, Speed, adds_products_in_32_bits, require_faster
from runtime import Classifier
from runtime.datasets.fashion_mnist import LABELS
from runtime.errors import UsageError
from runtime.evaluation.parity import measure_parity
from runtime.model.registry import read_index
from zoo.models.preprocess import ImageClassifier, Preprocess

# Without VNNI, sums saturate: the check of parity finds that, and refuses the file there.
pytestmark = pytest.mark.skipif(not adds_products_in_32_bits(), reason="this CPU has no VNNI")

IMAGES = 200


@pytest.fixture(scope="module")
def calibration(test_images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Other pictures than those that are verified on; these tests train nothing."""
    return test_images[5000:5096, None].copy()


@pytest.fixture(scope="module")
def network(fashion_mnist_dir: Path) -> nn.Module:
    """Convolutions with batch norms that can be folded and one that cannot, sums, pools, a linear layer."""
    return make_network("small-resnet")


@pytest.fixture(scope="module")
def content(network: nn.Module, calibration: npt.NDArray[np.uint8]) -> bytes:
    return content_of(network, calibration)


def content_of(network: nn.Module, calibration: npt.NDArray[np.uint8], float_layers: tuple[str, ...] = ()) -> bytes:
    described = {"images": len(calibration), "sha256": sha256_of_images(calibration)}
    form = Precision("int8", float_layers=float_layers, calibration=described)
    return build_graph(
        network, Description(name="m", labels=LABELS, precision=form).metadata(None), calibration=calibration
    )


def details(report: Any) -> dict[str, str]:
    return {check.name: check.detail for check in report.failures}


def test_a_file_in_int8_passes_every_check_and_computes_in_int8(network, content, calibration, pictures, tmp_path):
    report = verify(network, content, **pictures, calibration=calibration)
    parity = next(check.measures for check in report.checks if check.name == "parity")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "optimized.onnx"), 3
    onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    nodes = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]

    assert details(report) == {}
    assert report.conditions["precision"]["dtype"] == "int8"
    assert parity["read as float32"]["logits"]["tolerance"] < 1e-4
    assert (nodes.count("QLinearConv"), nodes.count("QLinearAdd"), nodes.count("QGemm")) == (6, 2, 1)
    assert "Conv" not in nodes
    # Floats are the picture, the batch norm that cannot be folded, and its mean; between other layers there are none.
    assert (nodes.count("QuantizeLinear"), nodes.count("DequantizeLinear"), nodes.count("Relu")) == (2, 1, 1)


def test_depthwise_and_grouped_convolutions_clipped_activations_and_global_pooling_are_quantized(calibration, pictures):
    """The parts of MobileNet, ResNeXt and ResNet."""

    class Mobile(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
            self.depth = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, groups=8, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
            self.point = nn.Sequential(nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8))
            self.group = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1, groups=4), nn.Hardswish())
            self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(16, 10))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            x = self.stem(images.float() / 255)
            return self.head(self.group(x + self.point(self.depth(x))))  # type: ignore[no-any-return]

    torch.manual_seed(0)
    network = Mobile().eval()
    made = content_of(network, calibration)
    integers = [t for t in onnx.load_from_string(made).graph.initializer if t.data_type == onnx.TensorProto.INT8]

    assert details(verify(network, made, **pictures, calibration=calibration)) == {}
    assert len([tensor for tensor in integers if "weight_quantized" in tensor.name]) == 5


def test_group_norms_and_attention_stay_in_float32(calibration, pictures):
    class Attentive(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.maps = nn.Sequential(nn.Conv2d(1, 16, 3, 4, 1), nn.GroupNorm(4, 16), nn.SiLU())
            self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
            self.head = nn.Linear(16, 10)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            tokens = self.maps(images.float() / 255).flatten(2).transpose(1, 2)
            return self.head(self.attention(tokens, tokens, tokens)[0].mean(1))  # type: ignore[no-any-return]

    torch.manual_seed(0)
    network = Attentive().eval()
    report = verify(network, content_of(network, calibration), **pictures, calibration=calibration, max_drop=1.0)

    assert details(report) == {}


def test_folding_gives_the_same_network(network, pictures):
    images = torch.from_numpy(pictures["images"][:20])
    folded = fold_batch_norms(network)
    left = [name for name, module in folded.named_modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        difference = float((folded(images) - network(images)).abs().max())

    assert left == ["network.3.0"]  # behind a sum
    assert difference < 1e-5
    assert isinstance(network.get_submodule("network.0.1"), nn.BatchNorm2d)


def test_the_layer_that_costs_most_is_found_and_left_in_float32(calibration, pictures):
    """One of its factors is ten thousand times larger: the others share what is left of 255 steps."""

    class Spiked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(1, 4, 3)
            self.register_buffer("spike", torch.ones(4 * 26 * 26))
            self.spiked = nn.Linear(4 * 26 * 26, 10)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            found = self.first(images.float() / 255).relu().flatten(1)
            return self.spiked((found + 1) * self.spike)  # type: ignore[no-any-return]

    torch.manual_seed(0)
    network = Spiked().eval()
    with torch.no_grad():
        network.spike[5] = 1e4
        network.spiked.weight[:, 5] = 0
    chosen = choose_float_layers(network, calibration, None, max_drop=0.05)
    made = content_of(network, calibration, chosen.precision.float_layers)

    assert chosen.precision.float_layers == ("spiked",)
    assert [step["float_layers"] for step in chosen.curve] == [0, 1]
    assert chosen.sensitivity["spiked"] > 10 * chosen.sensitivity["first"]
    assert details(verify(network, made, **pictures, calibration=calibration)) == {}


@pytest.mark.parametrize(
    ("integers", "rounded"),
    [
        ((), 0),
        (("3.4",), 1),  # what it reads; not the sums of the layers in front
        (("0.0",), 3),  # the picture, the Relu behind it, and the pooling behind that
        (("1.conv1", "1.conv2"), 3),  # the sum behind them is one with a float32 number
    ],
)
def test_only_what_a_layer_in_integers_reads_and_gives_is_rounded(integers, rounded, network, calibration):
    """Lost otherwise: accuracy that no choice of layers in float32 brings back."""
    layers = [name.removesuffix(".weight").removeprefix("network.") for name in Precision("int8").integers(network)]
    floats = tuple(f"network.{layer}" for layer in layers if layer not in integers)
    nodes = [node.op_type for node in onnx.load_from_string(content_of(network, calibration, floats)).graph.node]

    assert nodes.count("QuantizeLinear") == rounded


def stored(name: str, function: Callable[[Any], Any]) -> Mutation:
    return lambda model: change_tensor(tensor(model, name), function)


def weights_of_two_layers_swapped(model: onnx.ModelProto) -> None:
    names = "network.1.conv1.weight_quantized", "network.1.conv2.weight_quantized"
    one, other = (nph.to_array(tensor(model, name)).copy() for name in names)
    stored(names[0], lambda _: other)(model)
    stored(names[1], lambda _: one)(model)


def readers_of_two_layers_swapped(model: onnx.ModelProto) -> None:
    one, other = (n for n in model.graph.node if n.op_type == "Conv" and "network.1." in n.name)
    one.input[1], other.input[1] = other.input[1], one.input[1]


def signed_activations(model: onnx.ModelProto) -> None:
    """S8S8: the same steps, shifted by 128."""
    for name in {found.input[2] for found in model.graph.node if found.op_type == "QuantizeLinear"}:
        zero = nph.to_array(tensor(model, name)).astype(np.int32) - 128
        tensor(model, name).CopyFrom(nph.from_array(zero.astype(np.int8), name))


def one_layer_in_float(model: onnx.ModelProto) -> None:
    """Declared to be int8."""
    read = next(n for n in model.graph.node if n.output[0].startswith("network.1.conv1.weight"))
    store_as_float(model, read, (-1, 1, 1, 1))


def rounded_and_read_with_other_scales(model: onnx.ModelProto) -> None:
    rounded = node(model, "QuantizeLinear", nth=1)
    reader = next(n for n in model.graph.node if rounded.output[0] in n.input)
    scale = nph.to_array(tensor(model, rounded.input[1])) * np.float32(1.5)
    model.graph.initializer.append(nph.from_array(scale, "other_scale"))
    reader.input[1] = "other_scale"


def says_float(model: onnx.ModelProto) -> None:
    for prop in model.metadata_props:
        if prop.key in ("dtype", "storage"):
            prop.value = '"fp32"'


def says_that_a_layer_is_float(model: onnx.ModelProto) -> None:
    prop = next(prop for prop in model.metadata_props if prop.key == "quantization")
    prop.value = prop.value.replace('"float_layers": []', '"float_layers": ["network.1.conv1"]')


def says_other_images(model: onnx.ModelProto) -> None:
    prop = next(prop for prop in model.metadata_props if prop.key == "quantization")
    prop.value = prop.value.replace('"sha256": "', '"sha256": "0')


CONV1 = "network.1.conv1"
WRONG: list[tuple[str, Mutation, str]] = [
    ("an activation scale doubled", change("QuantizeLinear", 1, lambda scale: scale * 2, nth=1), "weights"),
    ("a zero point off by one", change("QuantizeLinear", 2, lambda zero: zero + 1), "weights"),
    (
        "a weight scale doubled",
        stored(f"{CONV1}.weight_scale", lambda s: np.where(np.arange(8) == 3, 2 * s, s)),
        "weights",
    ),
    ("one scale for the whole weight", stored(f"{CONV1}.weight_scale", lambda s: np.full_like(s, s.max())), "weights"),
    ("a weight moved", stored(f"{CONV1}.weight_quantized", lambda w: np.where(w == 127, 126, w)), "weights"),
    ("weights of two layers swapped", weights_of_two_layers_swapped, "weights"),
    ("readers of two layers swapped", readers_of_two_layers_swapped, "parity"),
    ("a bias scale doubled", stored(f"{CONV1}.bias_quantized_scale", lambda scales: 2 * scales), "weights"),
    ("a bias moved", stored(f"{CONV1}.bias_quantized", lambda bias: bias + (np.arange(8) == 2)), "weights"),
    ("no bias", stored("network.3.4.bias_quantized", np.zeros_like), "weights"),
    ("signed activations", signed_activations, "weights"),
    ("one layer in float", one_layer_in_float, "weights"),
    ("rounded and read with other scales", rounded_and_read_with_other_scales, "weights"),
    ("it says float", says_float, "signature"),
    ("it says that a layer is float", says_that_a_layer_is_float, "weights"),
    ("it says other images", says_other_images, "weights"),
]


@pytest.mark.parametrize(("name", "damage", "check"), WRONG, ids=[name for name, *_ in WRONG])
def test_a_wrong_file_is_refused_by_the_check_that_should(name, damage, check, network, content, calibration, pictures):
    model = onnx.load_from_string(content)
    damage(model)
    report = verify(network, model.SerializeToString(deterministic=True), **pictures, calibration=calibration)

    assert check in failed(report), details(report)
    assert "could not be run" not in details(report)[check]


def test_a_file_calibrated_on_other_images_than_it_says_is_refused(network, content, calibration, pictures):
    other = content_of(network, calibration // 2)
    model, honest = onnx.load_from_string(other), onnx.load_from_string(content)
    del model.metadata_props[:]
    model.metadata_props.extend(honest.metadata_props)
    lying = verify(network, model.SerializeToString(deterministic=True), **pictures, calibration=calibration)
    without = verify(network, content, **pictures)
    others = verify(network, content, **pictures, calibration=calibration[:50])

    assert "its range on the calibration images" in details(lying)["weights"]
    assert "no images for that were given" in details(without)["weights"]
    assert "the 50 given" in details(others)["weights"]


SATURATED = """
import sys
import numpy as np
import torch
from torch import nn
from export import Description, verify
from export.convert.calibrate import sha256_of_images
from export.convert.exporter import build_graph
from export.precision import Precision
from runtime.datasets.fashion_mnist import LABELS

class Bright(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(784, 10)
        with torch.no_grad():
            self.layer.weight.copy_(1 - torch.rand(10, 784, generator=torch.Generator().manual_seed(0)) / 10)

    def forward(self, images):
        return self.layer((images.float() / 255).flatten(1))

images, labels = np.load(sys.argv[1]), np.load(sys.argv[2])
form = Precision("int8", calibration={"images": len(images), "sha256": sha256_of_images(images)})
metadata = Description(name="m", labels=LABELS, precision=form).metadata(None)
content = build_graph(Bright().eval(), metadata, calibration=images)
for engine in ("onnxruntime", "openvino"):
    checks = {"images": images, "labels": labels, "calibration": images, "engine": engine, "max_drop": 1.0}
    report = verify(Bright().eval(), content, **checks)
    print(engine, next(check.detail for check in report.checks if check.name == "parity"))
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="only x86 CPUs saturate")
def test_saturation_in_another_engine_is_found_and_named(calibration, tmp_path):
    """Lost otherwise: a file that is right here, and answers otherwise on an older CPU."""
    pytest.importorskip("openvino")
    np.save(tmp_path / "images.npy", calibration)
    np.save(tmp_path / "labels.npy", np.zeros(len(calibration), int))
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = python("-c", SATURATED, tmp_path / "images.npy", tmp_path / "labels.npy", env=environment)
    here, there = done.stdout.splitlines()

    assert here.startswith("onnxruntime logits within")
    assert there.startswith("openvino logits differ from the float64 network with rounded weights")
    assert "ONEDNN_MAX_CPU_ISA=AVX2 allows no VNNI, and sums saturate at 16 bits there" in there


def test_a_budget_of_accuracy_is_kept(network, content, calibration, pictures):
    """Labels are the network's own answers, but where the file differs: each flip is a loss."""
    images = pictures["images"]
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    # Pictures between two classes: mixtures of two that the network tells apart.
    mixed = ((images[:-1].astype(np.uint16) + images[1:]) // 2).astype(np.uint8)
    with torch.no_grad():
        ours = network(torch.from_numpy(mixed)).numpy()
    theirs = session.run(["logits"], {"image": mixed})[0]
    flips = int((ours.argmax(1) != theirs.argmax(1)).sum())
    report = verify(network, content, images=mixed, labels=ours.argmax(1), calibration=calibration, max_drop=0.0)

    assert ("decisions" in failed(report)) is (flips > 0)
    decisions = next(check for check in report.checks if check.name == "decisions")
    assert decisions.measures["lost"] == flips


@pytest.mark.parametrize(
    ("before", "form"),
    [
        (Precision(), Precision("int8")),
        (Precision(storage="fp16"), Precision("int8")),  # with batch norms, which the file in int8 has folded
        (Precision(), Precision(storage="int8")),
    ],
)
def test_a_diff_against_float32_shows_what_each_layer_lost(before, form, network, content, pictures):
    plain, kept = (
        build_graph(network, Description(name="m", labels=LABELS, precision=each).metadata(None))
        for each in (before, Precision(storage="int8"))
    )
    lines = diff(plain, content if form.dtype == "int8" else kept, pictures["images"]).layers
    weights = [line for line in lines if ".weight [" in line]

    assert len(weights) == (7 if form.dtype == "int8" else 1)
    assert max(float(line.split("differs by ")[1].split("%")[0]) for line in lines if "Softmax" not in line) < 10
    assert any(line.startswith("network.3.4.weight [10, 16]: differs by 0.") for line in weights)
    assert any(line.startswith("network.3.4/Gemm: differs by") for line in lines)
    assert diff(plain, plain, pictures["images"]).layers == []


def test_a_diff_folds_the_batch_norm_of_a_convolution_without_bias(calibration):
    """torchvision's networks have no other: unfolded, a weight of a sound file seems to be many times too large."""
    torch.manual_seed(2)
    network = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(6272, 10)
    )
    nn.init.uniform_(network[1].running_var, 4, 9)
    network = ImageClassifier(Preprocess(28), network.eval()).eval()
    unfolded = Precision(storage="fp16")
    plain = build_graph(network, Description(name="m", labels=LABELS, precision=unfolded).metadata(None))

    lines = diff(plain, content_of(network, calibration), calibration).layers

    (line,) = (line for line in lines if line.startswith("network.0.weight ["))
    assert float(line.split("differs by ")[1].split("%")[0]) < 2


def test_a_slower_file_is_refused_by_rounds_and_not_by_one_disturbance():
    require_faster([Speed(1, 3.0, 1.0, slower=3, rounds=12), Speed(64, 3.0, 3.0, slower=8, rounds=12)])
    with pytest.raises(NotFaster, match="2 ms in place of 1 for a batch of 64"):
        require_faster([Speed(1, 3.0, 1.0, slower=0, rounds=12), Speed(64, 1.0, 2.0, slower=12, rounds=12)])


def test_an_exported_int8_model_is_described_and_runs(network, calibration, pictures, tmp_path, monkeypatch):
    given = {"images": pictures["images"], "labels": pictures["labels"], "dtype": "int8"}
    with pytest.raises(UsageError, match="give calibration=images"):
        export_network(network, tmp_path, Description(name="small", labels=LABELS), **given)
    slow = [Speed(1, 1.0, 2.0, slower=12, rounds=12)]
    monkeypatch.setattr(artifact, "measure_speed", lambda *_: slow)
    with pytest.raises(NotFaster):
        export_network(network, tmp_path, Description(name="small", labels=LABELS), **given, calibration=calibration)
    assert not (tmp_path / "small").exists()

    report = export_network(
        network,
        tmp_path,
        Description(name="small", labels=LABELS),
        **given,
        calibration=calibration,
        validation=(pictures["images"][:100], pictures["labels"][:100]),
        purpose="size",
    )
    entry = read_index(tmp_path)["small"]
    card = (tmp_path / "small" / "README.md").read_text()
    with Classifier(tmp_path / "small", device="cpu") as classifier:
        info = classifier.info()
        assert measure_parity(classifier).passed

    assert info["dtype"] == "int8"
    assert info["quantization"]["calibration"] == {"images": 96, "sha256": sha256_of_images(calibration)}
    assert entry["quantization"]["speed"][0]["ratio"] == 0.5
    assert report.conditions["quantization"]["curve"][0]["float_layers"] == 0
    assert len(report.conditions["quantization"]["sensitivity"]) == 7
    assert "at batch 1 0.50 times as fast as float32" in card
    assert "activations calibrated on 96 training images" in card
