"""Networks from elsewhere: their own input, normalised in the graph; what cannot be exported is refused by name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from export import Description, export_network, verify
from export.convert.exporter import build_graph
from runtime import Classifier
from runtime.datasets.fashion_mnist import LABELS
from runtime.errors import UsageError
from runtime.model.metadata import FORMAT_1, INPUT_CONTRACT_1
from runtime.model.registry import read_index
from runtime.model.spec import InputSpec

pytestmark = pytest.mark.slow

PHOTO = InputSpec.photo((20, 24), mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
FLOATS = InputSpec.photo(16, datatype="FP32", mean=None, std=None, channels=1)
NAMES = ("cat", "dog", "bird")
DESCRIPTION = Description(name="own", labels=NAMES)


def small(channels: int = 3, classes: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(channels, 8, 3, 2, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, classes)).eval()


def pictures(spec: InputSpec, count: int = 6) -> dict[str, Any]:
    return {"input": spec, "images": spec.random(count, seed=1), "labels": np.arange(count) % 3}


def test_a_network_of_rgb_photographs_is_exported_with_its_normalisation_inside(tmp_path):
    """Whoever runs the file elsewhere gives it pixels as they are, and gets what the network says in PyTorch."""
    network, asked = small(), pictures(PHOTO)
    report = export_network(network, tmp_path, DESCRIPTION, **asked)
    session = onnxruntime.InferenceSession(tmp_path / "own" / "model.onnx")
    (logits,) = session.run(["logits"], {"image": asked["images"]})
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (PHOTO.mean, PHOTO.std))
    with torch.no_grad():
        expected = network((torch.from_numpy(asked["images"]) / 255 - mean) / std)
    metadata = session.get_modelmeta().custom_metadata_map
    stored = {tensor.name for tensor in onnx.load(tmp_path / "own" / "model.onnx").graph.initializer}

    assert report.passed
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    assert InputSpec.from_dict(json.loads(metadata["input"])) == PHOTO
    assert {"0.weight", "5.weight", "5.bias"} <= stored
    assert set(network.state_dict()) == set(small().state_dict())
    assert not network._forward_pre_hooks


def test_the_card_of_anybodys_network_says_nothing_that_was_not_given(tmp_path):
    export_network(small(), tmp_path, DESCRIPTION, **pictures(PHOTO))
    card, entry = (tmp_path / "own" / "README.md").read_text(), read_index(tmp_path)["own"]

    assert "Classifies 20x24 RGB pictures into 3 classes:" in card
    assert not [word for word in ("MIT", "license", "Fashion", "garment", "Trained") if word in card]
    assert entry["inputs"] == [{"name": "image", "shape": ["batch", 3, 20, 24], "datatype": "UINT8"}]
    assert entry["license"] is None


def test_a_network_that_ends_in_a_log_softmax_keeps_its_probabilities(tmp_path):
    """As PyTorch's own example for MNIST ends: the softmax of the logarithms of probabilities is these."""
    network = nn.Sequential(small(), nn.LogSoftmax(1))
    given = pictures(PHOTO)
    report = export_network(network, tmp_path, DESCRIPTION, **given)
    with Classifier(tmp_path / "own" / "model.onnx", device="cpu") as classifier:
        found = classifier.probabilities(given["images"])
        logits = torch.from_numpy(classifier.logits(given["images"]))

    assert report.passed
    np.testing.assert_allclose(found, logits.exp(), rtol=1e-5)


def test_a_file_of_floats_passes_every_check():
    network = small(1)
    report = verify(network, build_graph(network, DESCRIPTION.metadata(None), input=FLOATS), **pictures(FLOATS))

    assert report.passed, report.failures


class Thresholded(nn.Module):
    """Decides by values: where an engine's threshold lies is known on the pictures of parity alone."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = small()

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(torch.where(images > 0.25, images, torch.zeros_like(images)))


def test_an_operator_that_jumps_is_listed_as_not_proved_and_others_are_not():
    """A user reads what the checks do not vouch for, and no more."""
    reports = []
    for network in (Thresholded(), small()):
        content = build_graph(network, DESCRIPTION.metadata(None), input=PHOTO)
        reports.append(verify(network.eval(), content, **pictures(PHOTO)))

    assert [each["operator"] for each in reports[0].as_dict()["not_proved"]] == ["Greater"]
    assert reports[1].as_dict()["not_proved"] == []


class Tables(nn.Module):
    """A bias looked up in a table of parameters, which exporters compute beforehand, as in a Swin transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = small(classes=8)
        self.table, self.scale = nn.Parameter(torch.randn(9, 3)), nn.Parameter(torch.randn(1))
        self.register_buffer("places", torch.randint(9, (8,)))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images) @ (self.table[self.places] * self.scale.exp()).relu()


def test_parameters_that_an_exporter_computes_with_beforehand_are_found_and_a_changed_one_is_missed():
    torch.manual_seed(0)
    network = Tables().eval()
    content = build_graph(network, DESCRIPTION.metadata(None), input=PHOTO)
    report = verify(network, content, **pictures(PHOTO))
    with torch.no_grad():
        network.table += 0.5
    changed = verify(network, content, **pictures(PHOTO))

    assert report.passed, report.failures
    assert "weights" in {failure.name for failure in changed.failures}


class Query(nn.Module):
    """A learned query that is expanded over the batch and handed to a module, as in attention pooling (CLIP)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.query = nn.Conv2d(3, 8, 4, 4), nn.Parameter(torch.randn(1, 1, 8))
        self.attention, self.norm = nn.MultiheadAttention(8, 2, batch_first=True), nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        places = self.stem(images).flatten(2).transpose(1, 2)
        query = self.query.expand(images.shape[0], -1, -1)
        return self.head(self.attention(self.norm(query), places, places, need_weights=False)[0].flatten(1))


class Windows(nn.Module):
    """Windows by a module whose last reshape an exporter merges with the code's next one, as in VOLO and MobileViT."""

    def __init__(self, windows: nn.Module, size: int) -> None:
        super().__init__()
        self.stem, self.windows, self.head = nn.Conv2d(3, 8, 4, 4), windows, nn.Linear(size, 3)

    def forward(self, images: Tensor) -> Tensor:
        values = self.windows(self.stem(images))
        return self.head(values.reshape(values.shape[0], 8, -1, 30).softmax(-1).mean((1, 3)))


class Position(nn.Module):
    """Scale and bias of attention, computed from parameters alone and alike in both layers, as in Swin v2."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 3)
        self.register_buffer("places", torch.linspace(-1, 1, 60).reshape(30, 2))
        self.biases = nn.ModuleList(nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 30)) for _ in range(2))
        self.scales = nn.ParameterList(nn.Parameter(torch.full((1, 1, 1), 2.3)) for _ in range(2))

    def forward(self, images: Tensor) -> Tensor:
        values = self.stem(images).flatten(2).transpose(1, 2)
        for bias, scale in zip(self.biases, self.scales, strict=True):
            scores = values @ values.transpose(1, 2) * scale.clamp(max=4.6).exp()
            values = (scores + 16 * torch.sigmoid(bias(self.places))).softmax(-1) @ values
        return self.head(values.mean(1))


@pytest.mark.parametrize(
    "make",
    [
        Query,
        Position,
        lambda: Windows(nn.Unfold(3, padding=1), 9),
        lambda: Windows(nn.Flatten(2), 1),
        lambda: Windows(nn.Sequential(nn.Flatten(2), nn.Unflatten(2, (5, 6))), 1),
    ],
    ids=["an expanded query", "position biases", "unfold", "flatten", "unflatten"],
)
def test_constructions_of_other_libraries_pass_every_check(make):
    """Networks that nobody here has listed are what users bring."""
    torch.manual_seed(0)
    network = make().eval()
    spec = InputSpec.photo((20, 24))
    report = verify(network, build_graph(network, DESCRIPTION.metadata(None), input=spec), **pictures(spec))

    assert report.passed, report.failures


class Masked(nn.Module):
    """A mask by the differences of whole numbers, as a Swin transformer makes it for shifted windows."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        places = self.stem(images).flatten(2).transpose(1, 2)
        region = places.new_zeros(30)
        region[10:20], region[20:] = 1, 2
        mask = region.unsqueeze(0) - region.unsqueeze(1)
        mask = mask.masked_fill(mask != 0, -100.0).masked_fill(mask == 0, 0.0)
        scores = places @ places.transpose(1, 2) + mask
        return self.head((scores.softmax(-1) @ places).mean(1))


def test_the_tolerance_does_not_take_a_mask_for_an_inexact_sum():
    """With every 0 of the mask moved, the tolerance was as large as the logits, and a wrong file passed."""
    torch.manual_seed(0)
    network, spec = Masked().eval(), InputSpec.photo((20, 24))
    content = build_graph(network, DESCRIPTION.metadata(None), input=spec)
    report = verify(network, content, **pictures(spec))
    parity = next(check.measures["logits"] for check in report.checks if check.name == "parity")

    assert report.passed, report.failures
    assert parity["tolerance"] < 1e-3


@pytest.mark.parametrize(
    ("other", "check"),
    [
        (InputSpec.photo((20, 24), mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.31)), "parity"),
        (InputSpec.photo((20, 24), mean=(0.4, 0.5, 0.3), std=(0.2, 0.25, 0.3)), "parity"),
        (InputSpec.photo((20, 24), mean=(0, 0, 0), std=(1, 1, 1)), "signature"),
    ],
)
def test_a_file_with_another_normalisation_is_refused_though_it_declares_the_right_one(other, check):
    network = small()
    model = onnx.load_from_string(build_graph(network, DESCRIPTION.metadata(None), input=other))
    declared = next(prop for prop in model.metadata_props if prop.key == "input")
    if check == "parity":
        declared.value = json.dumps(PHOTO.as_dict())
    report = verify(network, model.SerializeToString(), **pictures(PHOTO))

    assert check in {failure.name for failure in report.failures}


def pruned() -> nn.Module:
    network = small()
    prune.l1_unstructured(network[0], "weight", 0.5)
    return network


def with_layer(layer: nn.Module) -> nn.Module:
    network = small()
    network[5] = layer
    return network


def remembering() -> nn.Module:
    network = small()
    network[2].register_forward_hook(lambda module, given, values: setattr(module, "last", values))
    network.train()(torch.randn(2, 3, 20, 24))
    return network


class Shared(nn.Module):
    """Sigmoids as the outputs of a layer's own code, which no module shows."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = small()

    def forward(self, images: Tensor) -> Tensor:
        return torch.sigmoid(self.layers(images)).reshape(-1, 3)


class ByHand(Shared):
    def forward(self, images: Tensor) -> Tensor:
        powers = torch.exp(self.layers(images))
        return powers / powers.sum(1, keepdim=True)


WRONG_NETWORKS = {
    "softmax": (lambda: nn.Sequential(small(), nn.Softmax(1)), "ends in a softmax.*probabilities already"),
    "sigmoid": (Shared, "ends in a sigmoid.*torch.nn.Identity"),
    "softmax by hand": (ByHand, "ends in a softmax"),
    "TorchScript": (lambda: torch.jit.trace(small(), torch.zeros(1, 3, 20, 24)), "is TorchScript: give the nn.Module"),
    "a state_dict": (lambda: small().state_dict(), "an nn.Module with its weights, not a OrderedDict.*load_state_dict"),
    "lazy": (lambda: with_layer(nn.LazyLinear(3)), r"5.weight has no size yet.*network\(images\) once"),
    "meta": (lambda: small().to("meta"), "0.weight has no numbers"),
    "quantised": (
        lambda: torch.ao.quantization.quantize_dynamic(small(), {nn.Linear}),
        "5 is quantised: give the float32 network",
    ),
    "pruned": (pruned, r"0 computes its weight anew .*utils.prune.remove\(module, 'weight'\)"),
    "weight_norm": (lambda: with_layer(weight_norm(nn.Linear(8, 3))), r"5 .*remove_weight_norm\(module, 'weight'\)"),
    "spectral_norm": (lambda: with_layer(spectral_norm(nn.Linear(8, 3))), "5 .*remove_spectral_norm"),
    "parametrised": (
        lambda: with_layer(parametrizations.weight_norm(nn.Linear(8, 3))),
        r"5 computes its weight anew .*remove_parametrizations\(module, 'weight'\) on it first",
    ),
    "a stored activation": (remembering, "2 keeps the result of a computation in .last.*delete it"),
    "too few labels": (lambda: small(classes=4), "names 3 labels, but Sequential tells 4 classes apart"),
    "another input": (lambda: small(1), r"should map normalised images, float32 \(2, 3, 20, 24\), .*InputSpec.photo"),
}


WRONG_ARGUMENTS: dict[str, tuple[dict[str, Any], str]] = {
    "a preprocess by name": ({"input": "photo"}, "input: expected an InputSpec, .* found str"),
    "grey calibration images": (
        {"dtype": "int8", "calibration": np.zeros((2, 1, 20, 24), np.uint8)},
        r"calibration: expected uint8 \(N, 3, 20, 24\), found uint8 \(2, 1, 20, 24\)",
    ),
    "a negative drop": ({"max_drop": -1}, "max_drop: expected a share .* found -1"),
}


@pytest.mark.parametrize("name", WRONG_ARGUMENTS)
def test_an_argument_that_makes_no_sense_is_named(name, tmp_path):
    arguments, sentence = WRONG_ARGUMENTS[name]
    with pytest.raises(UsageError, match=sentence):
        export_network(small(), tmp_path, DESCRIPTION, **pictures(PHOTO) | arguments)


def test_a_path_is_no_file_to_verify():
    with pytest.raises(UsageError, match="model: expected the bytes of an ONNX file"):
        verify(small(), "model.onnx", **pictures(PHOTO))  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", WRONG_NETWORKS)
def test_a_network_that_cannot_be_exported_is_refused_with_the_remedy(name, tmp_path):
    make, sentence = WRONG_NETWORKS[name]
    with pytest.raises(UsageError, match=sentence) as refusal:
        export_network(make(), tmp_path, DESCRIPTION, **pictures(PHOTO))

    assert "\n" not in str(refusal.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"images": PHOTO.random(6).astype(np.float32)}, r"images: expected uint8 \(N, 3, 20, 24\), found float32"),
        ({"images": PHOTO.random(6).transpose(0, 2, 3, 1)}, r"images: expected .* found uint8 \(6, 20, 24, 3\)"),
        ({"images": PHOTO.random(0), "labels": []}, "images: there should be one or more"),
        ({"images": ["cat.png"] * 6}, "images: expected a numpy array"),
        ({"labels": np.arange(5) % 3}, "labels should be as many as images, but there are 5 and 6"),
        ({"labels": np.eye(3)[[0, 1, 2] * 2]}, r"labels should be whole numbers \(N,\).*\(6, 3\)"),
        ({"labels": np.arange(1, 7)}, "labels should be from 0 to 2, .* but are from 1 to 6"),
        ({"labels": ["cat"] * 6}, "labels should be whole numbers"),
    ],
)
def test_wrong_pictures_and_labels_are_refused_by_name_and_not_blamed_on_the_file(wrong, sentence):
    network = small()
    content = build_graph(network, DESCRIPTION.metadata(None), input=PHOTO)
    with pytest.raises(UsageError, match=sentence):
        verify(network, content, **(pictures(PHOTO) | wrong))


def test_a_file_of_format_1_verifies_as_before():
    """Files that were published before there was an `InputSpec` stay provable."""
    from runtime.datasets import fashion_mnist
    from zoo.runs.trained import load_trained

    folder = Path(__file__).parents[2] / "weights" / "lenet"
    network = load_trained("lenet", folder / "checkpoint.safetensors").network
    new = onnx.load(folder / "model.onnx")
    stored = {prop.key: json.loads(prop.value) for prop in new.metadata_props if prop.key != "confidence"}
    model = onnx.load_from_string(build_graph(network, stored))
    stored |= {"format": FORMAT_1, "input": INPUT_CONTRACT_1}
    onnx.helper.set_model_props(model, {key: json.dumps(value) for key, value in stored.items()})
    content = model.SerializeToString()
    images, labels = fashion_mnist.load("test")
    report = verify(
        network,
        content,
        images=images[:64],
        labels=labels[:64],
        expected={"labels": list(LABELS)},
    )
    assert report.passed, report.failures
