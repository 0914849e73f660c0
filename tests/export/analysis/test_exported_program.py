"""Shapes without numbers: the batch stays a symbol through every layer, or the code that stops it is told on."""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.numpy_helper
import pytest
import torch
from support.exports import content_of
from torch import Tensor, nn

from export.analysis.exported_program import trace
from export.verification.checks.shapes import shapes
from export.verification.context import CheckFailed, VerificationContext
from zoo.models import create_model

pytestmark = pytest.mark.slow


def context_of(network: nn.Module, content: bytes) -> VerificationContext:
    images: npt.NDArray[np.uint8] = np.zeros((2, 1, 28, 28), np.uint8)
    return VerificationContext(network, content, images, np.zeros(2, np.uint8), {})


class Dense(nn.Module):
    """What the broken networks below share."""

    def __init__(self, inputs: int = 784, outputs: int = 10) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, outputs)


class ForFive(Dense):
    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.dense(images.float().reshape(5, 784))
        return logits


class ForSeven(Dense):
    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.dense(images.float().reshape(7, 784))
        return logits


class HalfAnImage(Dense):
    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.dense(images.float().reshape(-1, 392)).reshape(-1, 10)
        return logits


class UpToSixtyFour(Dense):
    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.dense(images.float().flatten(1))
        return logits / 2 if images.shape[0] > 64 else logits


class LooksAtValues(Dense):
    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.dense(images.float().flatten(1))
        return logits / 2 if logits.sum() > 1e9 else logits


@pytest.mark.parametrize("name", ["lenet", "vgg11", "resnet18", "googlenet"])  # of 28, 224 and 96 pixels; branches
def test_the_batch_is_a_symbol_in_front_of_every_layer(name):
    found = trace(create_model(name).eval())

    assert found.problem is None
    assert {call.after[0] for call in found.calls} == {"batch"}


def test_the_shapes_are_those_of_real_images():
    network = create_model("lenet").eval()
    found = trace(network)
    seen: list[tuple[int, ...]] = []
    for call in found.calls:
        call.module.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape[1:])))
    network(torch.zeros(1, 1, 28, 28, dtype=torch.uint8))

    assert [call.after[1:] for call in found.calls] == seen


def test_the_table_has_the_symbol_in_all_three_sources():
    network = create_model("lenet").eval()
    table = shapes(context_of(network, content_of(network))).measures["table"]
    row = next(row for row in table if row["module"] == "network.3")

    assert row["torch"] == row["formula"] == row["onnx"] == ("batch", 16, 10, 10)


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (ForFive(), "not the same for any batch: the code takes the number of images for a constant"),
        (ForSeven(), r"not the same for any batch: PyTorch cannot follow the code: .*'\[7, 784\]' is invalid"),
        (UpToSixtyFour(), "not the same for any batch: the code asks for 2 <= batch and batch <= 64"),
        (LooksAtValues(), "not the same for any batch: PyTorch cannot follow the code: .*data-dependent"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_a_network_that_freezes_or_reshapes_the_batch_fails_the_check(network, reason, capfd):
    content = content_of(nn.Sequential(nn.Flatten(), ToFloat(), nn.Linear(784, 10)))
    with pytest.raises(CheckFailed, match=reason):
        shapes(context_of(network, content))

    assert capfd.readouterr().err == ""


def test_halves_of_images_as_a_batch_of_their_own_are_followed():
    """As the windows of a Swin transformer are: their number is a multiple of the batch."""
    network = HalfAnImage(392, 5).eval()

    assert [call.after for call in trace(network).calls] == [("2*batch", 5)]
    assert shapes(context_of(network, content_of(network)))


class ToFloat(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.float()


class AsksForTheLength(Dense):
    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.dense(images.float().reshape(len(images), -1))
        return logits


def test_code_that_asks_for_the_length_is_followed_for_any_number_of_images(capfd):
    found = trace(AsksForTheLength().eval())

    assert found.problem is None
    assert [call.after for call in found.calls] == [("batch", 10)]
    assert capfd.readouterr().err == ""


def test_it_says_what_a_network_reads():
    """Else a file could do without a parameter, or a float16 file be read with the wrong constants."""
    torch.manual_seed(0)
    layers = [ToFloat(), nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.LeakyReLU(0.25), nn.Flatten(), nn.Linear(1352, 10)]
    network = nn.Sequential(*layers)
    network.register_parameter("spare", nn.Parameter(torch.ones(3)))
    found = trace(network.eval())

    assert [(norm.name, norm.layer, norm.layer_bias) for norm in found.norms] == [("2", "1.weight", "1.bias")]
    assert {"spare", "2.num_batches_tracked"} == set(found.unread)
    assert set(found.tensors) == set(network.state_dict()) - set(found.unread)
    assert 0.25 in found.scalars


def test_a_reshape_in_the_file_that_freezes_the_batch_is_shown_in_its_column():
    network = create_model("lenet").eval()
    model = onnx.load_from_string(content_of(network))
    reshape = next(node for node in model.graph.node if node.op_type == "Reshape")
    sizes = next(tensor for tensor in model.graph.initializer if tensor.name == reshape.input[1])
    sizes.CopyFrom(onnx.numpy_helper.from_array(np.array([3, 400]), sizes.name))
    with pytest.raises(CheckFailed, match=r"PyTorch gives \(batch, 400\), the file computes \(3, 400\)") as failure:
        shapes(context_of(network, model.SerializeToString()))
    row: dict[str, Any] = next(row for row in failure.value.measures["table"] if row["kind"] == "Flatten")

    assert (row["torch"], row["onnx"]) == (("batch", 400), (3, 400))
