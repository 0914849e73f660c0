"""Numbers in a network's code that float16 does not hold: rounded in the file, right all the same."""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.numpy_helper
import pytest
import torch
from torch import Tensor, nn

from export import Description, verify
from export.convert.exporter import build_graph
from export.precision import Precision
from runtime.datasets.fashion_mnist import LABELS
from zoo.models import create_model

IMAGES = 64


class Standardized(nn.Module):
    """The usual preprocessing, written into the code: a network as anybody writes it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layers: nn.Module = create_model("lenet-modern").network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers((images.float() / 255 - 0.2860) / 0.3530) * 0.1
        return logits


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return Standardized().eval()


@pytest.fixture(scope="module")
def content(network: nn.Module) -> bytes:
    return build_graph(network, Description(name="m", labels=LABELS, precision=Precision("fp16")).metadata(None))


@pytest.fixture(scope="module")
def pictures(test_images: npt.NDArray[np.uint8], test_labels: npt.NDArray[np.uint8]) -> dict[str, Any]:
    return {"images": test_images[:IMAGES, None].copy(), "labels": test_labels[:IMAGES]}


def test_a_float16_file_of_a_network_with_such_numbers_passes_every_check(
    network: nn.Module, content: bytes, pictures: dict[str, Any]
) -> None:
    report = verify(network, content, **pictures)

    assert report.passed, report.failures


def test_another_number_in_its_place_is_refused(network: nn.Module, content: bytes, pictures: dict[str, Any]) -> None:
    model = onnx.load_from_string(content)
    for tensor in model.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        if array.size == 1 and abs(float(array.reshape(())) - 0.2860) < 0.001:
            changed = np.nextafter(array, np.float16(1), dtype=np.float16)
            tensor.CopyFrom(onnx.numpy_helper.from_array(changed, tensor.name))
    report = verify(network, model.SerializeToString(), **pictures)

    assert model.SerializeToString() != content
    assert "parity" in {check.name for check in report.failures}
