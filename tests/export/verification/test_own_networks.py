"""Networks that users write, of parts that the zoo has not: they pass every check, or are refused in a sentence."""

import io
import warnings
from collections.abc import Callable

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from export import Description, VerificationFailed, export_network, verify
from export.convert.exporter import NotTranslatable, build_graph
from export.precision import Precision
from export.verification.checks.weights import weights as weights_check
from export.verification.context import CheckFailed, VerificationContext
from runtime import InputSpec
from runtime.datasets.fashion_mnist import LABELS
from runtime.errors import UsageError
from runtime.model.metadata import encode_metadata

pytestmark = pytest.mark.slow

IMAGES = 24
DESCRIPTION = Description(name="own", labels=LABELS)


class Pixels(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.float() / 255


class Dense(nn.Module):
    """One linear layer, which each network below uses in its own way."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(784, 10)


class SameLayerTwice(nn.Module):
    """One module under two names, and one weight in two modules."""

    def __init__(self) -> None:
        super().__init__()
        self.first = self.again = nn.Linear(784, 784)
        self.one, self.other = nn.Linear(784, 10), nn.Linear(784, 10)
        self.other.weight = self.one.weight

    def forward(self, images: Tensor) -> Tensor:
        pixels = torch.relu(self.again(torch.relu(self.first(images.float().flatten(1) / 255))))
        total: Tensor = self.one(pixels) + self.other(pixels * pixels)
        return total


class NamesOfTheContract(nn.Module):
    """Parameters called as the file's input and outputs are, and a module as the wrapper around a network."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Linear(784, 10)
        self.image, self.logits, self.probabilities = (nn.Parameter(torch.randn(10)) for _ in range(3))

    def forward(self, images: Tensor) -> Tensor:
        hidden: Tensor = self.classifier(images.float().flatten(1) / 255)
        return torch.relu(hidden * self.image) * self.logits + self.probabilities


class NamesOfTheExporter(nn.Module):
    """Parameters called as PyTorch's exporter calls its values, and a batch norm called by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.dense = nn.BatchNorm1d(784), nn.Linear(392, 10)
        for number in range(4):
            self.register_parameter(f"val_{number}", nn.Parameter(torch.randn(10, 10)))

    def forward(self, images: Tensor) -> Tensor:
        values: Tensor = self.dense(self.norm(input=images.float().flatten(1) / 255)[:, ::2])
        for number in range(4):
            values = values @ self.get_parameter(f"val_{number}")
        return values


class WithoutModules(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(10, 784) * 0.05)
        self.register_buffer("scale", torch.tensor(255.0))

    def forward(self, images: Tensor) -> Tensor:
        return F.linear(images.float().flatten(1) / self.scale, self.weight)


class FunctionalNorm(nn.Module):
    """A batch norm without a module of it, behind a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.dense = nn.Conv2d(1, 4, 3, 4), nn.Linear(196, 10)
        self.register_buffer("mean", torch.randn(4))
        self.register_buffer("variance", torch.rand(4) + 0.5)

    def forward(self, images: Tensor) -> Tensor:
        values = F.batch_norm(self.convolution(images.float() / 255), self.mean, self.variance)
        return self.dense(values.flatten(1))  # type: ignore[no-any-return]


class OneConvolutionTwoNorms(nn.Module):
    """Neither batch norm may be folded: the convolution's result goes into both."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 4, 3, 4)
        self.one, self.other = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.dense = nn.Linear(196, 10)

    def forward(self, images: Tensor) -> Tensor:
        shared = self.convolution(images.float() / 255)
        logits: Tensor = self.dense((self.one(shared) + self.other(shared)).flatten(1))
        return logits


class Cut(nn.Module):
    """Channels split in two, a picture without its edge, every other column, and sums in place of means."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.dense = nn.Conv2d(1, 8, 3, 2), nn.Linear(4, 10)

    def forward(self, images: Tensor) -> Tensor:
        one, other = self.convolution(images.float()[:, :, 2:26, :-1] / 255).chunk(2, 1)
        gated = (one * torch.sigmoid(other))[:, :, 1:, ::2]
        return self.dense(gated.sum((2, 3)) - gated.abs().mean((2, 3)))  # type: ignore[no-any-return]


class PerImage(Dense):
    """Sizes taken from the images, as a plain number and as a symbol."""

    def forward(self, images: Tensor) -> Tensor:
        pixels = (images.float() / 255).reshape(len(images), -1)
        return F.normalize(self.dense(pixels.view(images.shape[0], 784)), dim=1)


class LookedUp(Dense):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(256, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.dense(self.table(images.long()).flatten(1))  # type: ignore[no-any-return]


class Stretched(nn.Module):
    """Grey as three colours, a condition on values, a stretched parameter, a channel by its index."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.dense = nn.Conv2d(3, 4, 3, 4), nn.Linear(49, 10)
        self.offset = nn.Parameter(torch.randn(1, 4, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        colours = (images.float() / 255).repeat(1, 3, 1, 1)
        values = self.convolution(torch.where(colours > 0.5, colours, colours * 0.1))
        values = values + self.offset.expand(images.shape[0], -1, 7, 7)
        return self.dense(values[:, 0].flatten(1))  # type: ignore[no-any-return]


class Attending(nn.Module):
    """Patches, a class token and attention, as in a vision transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 16, 7, 7)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.places = nn.Parameter(torch.randn(1, 17, 16))
        self.layer = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.0, batch_first=True, norm_first=True)
        self.dense = nn.Linear(16, 10)

    def forward(self, images: Tensor) -> Tensor:
        values = self.patches(images.float() / 255).flatten(2).transpose(1, 2)
        values = torch.cat([self.token.expand(values.shape[0], -1, -1), values], 1) + self.places
        return self.dense(self.layer(values)[:, 0])  # type: ignore[no-any-return]


class Recurrent(Dense):
    """Rows one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.dense = nn.LSTM(28, 16, batch_first=True), nn.Linear(16, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.dense(self.rows(images[:, 0].float() / 255)[0][:, -1])  # type: ignore[no-any-return]


class Block(nn.Module):
    """Functions among modules: the name of what they compute is the block's, `3.0`, not that of the layer `0`."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU6())

    def forward(self, values: Tensor) -> Tensor:
        return torch.relu(values + self.layers(values))


class BothOutputs(nn.Module):
    """What a user puts around a network to export it without this package."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.wrapped = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.wrapped(images)
        return logits, logits.softmax(1)


def blocks() -> nn.Module:
    last = [nn.Conv2d(8, 4, 1), nn.Mish(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return chain(nn.Conv2d(1, 8, 3, 2), nn.ReLU(), nn.Sequential(Block(), nn.Hardswish()), *last, nn.Linear(4, 10))


def activations() -> nn.Module:
    """Some that are one operator of ONNX, and some that are several."""
    layers: list[nn.Module] = [nn.Flatten()]
    for size, activation in ((784, nn.Mish()), (16, nn.CELU(0.5)), (16, nn.Softsign()), (16, nn.RMSNorm(16))):
        layers += [nn.Linear(size, 16), activation]
    return chain(*layers, nn.Linear(16, 10))


def chain(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(Pixels(), *layers)


def transposed() -> nn.Module:
    """Shrunk, and grown again in two groups, with a batch norm that is folded into the growing."""
    grown = [nn.ConvTranspose2d(8, 4, 3, 2, groups=2), nn.BatchNorm2d(4), nn.ReLU()]
    return chain(nn.Conv2d(1, 8, 3, 4), *grown, nn.Flatten(), nn.Linear(900, 10))


def separable() -> nn.Module:
    """Each channel by itself, then a mixture of them in groups; a batch norm with neither scale nor shift."""
    mixed = [nn.Conv2d(8, 8, 3, groups=8, bias=False), nn.BatchNorm2d(8, affine=False), nn.ReLU6()]
    return chain(nn.Conv2d(1, 8, 3, 2), *mixed, nn.Conv2d(8, 16, 1, groups=2), nn.AdaptiveMaxPool2d(1), nn.Flatten())


def separable_network() -> nn.Module:
    return nn.Sequential(separable(), nn.Linear(16, 10))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "layer norm and GELU": lambda: chain(
        nn.Flatten(), nn.Linear(784, 32), nn.LayerNorm(32), nn.GELU(), nn.Dropout(0.5), nn.Linear(32, 10)
    ),
    "layer norm without a scale, GELU by tanh": lambda: chain(
        nn.Flatten(), nn.LayerNorm(784, elementwise_affine=False), nn.GELU(approximate="tanh"), nn.Linear(784, 10)
    ),
    "PReLU and SiLU": lambda: chain(nn.Conv2d(1, 4, 3, 4), nn.PReLU(4), nn.SiLU(), nn.Flatten(), nn.Linear(196, 10)),
    "transposed convolution in groups": transposed,
    "separable convolution": separable_network,
    "batch norm of one dimension": lambda: chain(
        nn.Flatten(), nn.Linear(784, 32, bias=False), nn.BatchNorm1d(32, eps=0.1), nn.ReLU(), nn.Linear(32, 10)
    ),
    "the same layer twice": SameLayerTwice,
    "names of the contract": NamesOfTheContract,
    "names of the exporter": NamesOfTheExporter,
    "without modules": WithoutModules,
    "one convolution, two norms": OneConvolutionTwoNorms,
    "a batch norm by function": FunctionalNorm,
    "cut": Cut,
    "more activations": activations,
    "blocks": blocks,
    "sizes per image": PerImage,
    "an embedding": LookedUp,
    "repeat, where, expand, an index": Stretched,
    "attention": Attending,
    "a recurrent layer": Recurrent,
    "enlarged to 31 pixels": lambda: chain(
        nn.Upsample(31, mode="bilinear"), nn.Conv2d(1, 2, 7, 6), nn.Flatten(), nn.Linear(50, 10)
    ),
    "group norm": lambda: chain(nn.Conv2d(1, 4, 3, 4), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(196, 10)),
    "weights in channels-last order": lambda: separable_network().to(memory_format=torch.channels_last),  # type: ignore
    "a mean over height and width": lambda: nn.Sequential(
        Pixels(), nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)
    ),
}


def made(name: str) -> nn.Module:
    """A network in evaluation mode, whose batch norms have statistics of their own."""
    torch.manual_seed(0)
    network = NETWORKS[name]().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -1, 1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 2)  # type: ignore[arg-type]
    return network


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_of_other_parts_passes_every_check(name, pictures):
    network = made(name)
    report = verify(network, build_graph(network, DESCRIPTION.metadata(None)), **pictures)

    assert report.passed, report.failures


class NormalizedByHand(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        variance, mean = torch.var_mean(maps, (2, 3), keepdim=True, unbiased=False)
        return (maps - mean) * torch.rsqrt(variance + 1e-5)


@pytest.mark.parametrize(
    "norm",
    [
        nn.GroupNorm(4, 8),
        nn.GroupNorm(1, 8),
        nn.InstanceNorm2d(8, affine=True),
        nn.LayerNorm([8, 112, 112]),
        NormalizedByHand(),
    ],
    ids=["groups", "one-group", "instance", "layer", "by-hand"],
)
def test_a_normalization_over_many_positions_passes(norm, test_images):
    """Lost otherwise: every network with a GroupNorm on large maps. In a flat picture the rounding errors of a mean add
    up, and the normalization divides what is left by nearly nothing."""
    torch.manual_seed(1)
    layers = [nn.Conv2d(3, 8, 3, 2, 1), norm, nn.SiLU(), nn.Conv2d(8, 8, 3, 2, 1, groups=2), nn.SiLU()]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).eval()
    photo = InputSpec.photo(224)
    images = test_images[:24].reshape(8, 3, 28, 28).repeat(8, 2).repeat(8, 3)
    content = build_graph(network, Description(name="own", labels=list("abcd")).metadata(None), input=photo)
    report = verify(network, content, input=photo, images=images, labels=np.zeros(8, int))

    assert {check.name: check.detail for check in report.failures} == {}


def test_a_half_size_file_of_a_network_that_calls_a_batch_norm_by_keyword_passes(pictures):
    description = Description(name="own", labels=LABELS, precision=Precision("fp32", "fp16"))
    network = made("names of the exporter")
    report = verify(network, build_graph(network, description.metadata(None)), **pictures)

    assert report.passed, report.failures


def test_a_block_of_layers_in_a_file_of_the_older_exporter_is_not_taken_for_another(pictures):
    network, written = made("blocks"), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            BothOutputs(network),
            (torch.zeros(2, 1, 28, 28, dtype=torch.uint8),),
            written,
            input_names=["image"],
            output_names=["logits", "probabilities"],
            dynamic_axes={name: {0: "batch"} for name in ("image", "logits", "probabilities")},
            opset_version=17,
            dynamo=False,
        )
    model = onnx.load_from_string(written.getvalue())
    onnx.helper.set_model_props(model, encode_metadata(DESCRIPTION.metadata(None)))
    report = verify(network, model.SerializeToString(), **pictures)

    assert report.passed, report.failures


def test_a_fold_into_a_transposed_convolution_is_recomputed_group_by_group(pictures):
    network = made("transposed convolution in groups")
    model = onnx.load_from_string(build_graph(network, DESCRIPTION.metadata(None)))
    node = next(node for node in model.graph.node if node.op_type == "ConvTranspose")
    stored = next(tensor for tensor in model.graph.initializer if tensor.name == node.input[1])
    array = onnx.numpy_helper.to_array(stored)
    # The channels of the two groups, taken for each other.
    stored.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(array[:, ::-1]), stored.name))
    context = VerificationContext(network, model.SerializeToString(), pictures["images"], pictures["labels"], {})
    with pytest.raises(CheckFailed, match=r"2 with 3 folded in, weight: "):
        weights_check(context)


def test_the_first_wrong_layer_is_named_though_activations_work_in_place(pictures):
    torch.manual_seed(0)
    first = (nn.Conv2d(1, 8, 3, 2), nn.ReLU(inplace=True), nn.BatchNorm2d(8))
    second = (nn.Conv2d(8, 8, 3, 2), nn.LeakyReLU(0.2, inplace=True), nn.BatchNorm2d(8))
    network = chain(*first, *second, nn.Flatten(), nn.Linear(288, 10)).eval()
    model = onnx.load_from_string(build_graph(network, DESCRIPTION.metadata(None)))
    reads = [node.input[1] for node in model.graph.node if node.op_type == "Conv"][1]
    stored = next(tensor for tensor in model.graph.initializer if tensor.name == reads)
    stored.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(stored) * np.float32(1.001), reads))
    report = verify(network, model.SerializeToString(), **pictures)
    parity = next(check for check in report.failures if check.name == "parity")

    assert "first to leave the network is node '4/Conv', module '4'" in parity.detail


class Twice(Dense):
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.dense(images.float().flatten(1))
        return logits, logits


class Masked(Dense):
    def forward(self, images: Tensor, mask: Tensor) -> Tensor:
        return self.dense(images.float().flatten(1)) * mask  # type: ignore[no-any-return]


class Summed(Dense):
    def forward(self, images: Tensor) -> Tensor:
        return self.dense(images.float().flatten(1)).sum(0)  # type: ignore[no-any-return]


class Undecided(Dense):
    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.dense(images.float().flatten(1))
        return logits / 2 if logits.sum() > 0 else logits


class ForTwo(Dense):
    def forward(self, images: Tensor) -> Tensor:
        return self.dense((images.float() / 255).reshape(2, 784))  # type: ignore[no-any-return]


class AtRandom(Dense):
    def forward(self, images: Tensor) -> Tensor:
        return self.dense(F.dropout(images.float().flatten(1) / 255, training=True))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("network", "error", "sentence"),
    [
        (Twice(), UsageError, "Twice should return logits, one tensor .* but returns a tuple"),
        (Masked(), UsageError, "Masked should map images, uint8 .* but fails: .*missing 1 required .*'mask'"),
        (Summed(), UsageError, r"Summed should map 2 images to logits, float32 \(2, K\), not float32 \(10,\)"),
        (WithoutModules().double(), UsageError, r"weight is float64, and .* from float32: call \.float\(\)"),
        (Undecided(), NotTranslatable, "cannot translate Undecided: .*data-dependent"),
        (ForTwo(), NotTranslatable, r"cannot translate ForTwo: .*'\[2, 784\]' is invalid"),
        (AtRandom(), VerificationFailed, "is a Dropout that drops at random"),
        (nn.Sequential(Pixels(), nn.Flatten(), nn.BatchNorm1d(784, track_running_stats=False), nn.Linear(784, 10)),
         VerificationFailed, "batch: "),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)  # fmt: skip
def test_what_breaks_the_contract_is_refused_in_one_sentence_and_nothing_is_written(
    network, error, sentence, tmp_path, pictures
):
    with pytest.raises(error, match=sentence) as refusal:
        export_network(network, tmp_path, DESCRIPTION, **pictures)

    assert "\n" not in str(refusal.value)
    assert not list(tmp_path.iterdir())


def test_half_a_network_is_not_verified_as_if_it_were_whole(pictures):
    network = made("without modules")
    content = build_graph(network, DESCRIPTION.metadata(None))
    with pytest.raises(UsageError, match="weight is float16"):
        verify(network.half(), content, **pictures)
