"""A half-size file is held to its own rounded weights: what rounding cost is no room for a device, a batch or a bug."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.numpy_helper
import pytest

from export import Description, export_network, verify
from runtime import Classifier
from runtime.datasets.fashion_mnist import LABELS
from runtime.evaluation.parity import OUTPUT_FILES, REPORT, measure_parity, read_tolerances
from zoo.runs.trained import Trained, load_trained

IMAGES = 300


@pytest.fixture(scope="module")
def trained(fashion_mnist_dir: Path) -> Trained:
    return load_trained("lenet-modern")


@pytest.fixture(scope="module")
def pictures(test_images: npt.NDArray[np.uint8], test_labels: npt.NDArray[np.uint8]) -> dict[str, Any]:
    return {"images": test_images[:IMAGES, None].copy(), "labels": test_labels[:IMAGES]}


@pytest.fixture(scope="module")
def folder(trained: Trained, pictures: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    weights = tmp_path_factory.mktemp("half_size")
    description = Description(name="lenet-modern", labels=LABELS)
    export_network(trained.network, weights, description, **pictures, storage="fp16")
    return weights / "lenet-modern"


def test_parity_allows_a_half_size_file_what_it_allows_any_float32_file(folder: Path) -> None:
    digest = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    checks = {check["name"]: check["measures"] for check in json.loads((folder / REPORT).read_text())["checks"]}
    tolerance = read_tolerances(folder, digest)["logits"]

    assert tolerance < checks["parity"]["logits"]["tolerance"] / 100  # that one holds the cost of rounding too
    assert checks["batch"]["max_abs_diff"] < tolerance
    assert measure_parity(Classifier(folder, device="cpu")).passed

    path = folder / OUTPUT_FILES["logits"]
    golden = path.read_bytes()
    answers = onnx.numpy_helper.to_array(onnx.TensorProto.FromString(golden)) + np.float32(0.005)
    path.write_bytes(onnx.numpy_helper.from_array(answers, "logits").SerializeToString())
    try:
        assert not measure_parity(Classifier(folder, device="cpu")).passed
    finally:
        path.write_bytes(golden)


def test_a_half_size_file_with_inferred_shapes_passes_every_check(
    folder: Path, trained: Trained, pictures: dict[str, Any]
) -> None:
    inferred = onnx.shape_inference.infer_shapes(onnx.load(folder / "model.onnx"))
    casts = {info.name for info in inferred.graph.value_info if info.name.endswith("weight_fp32")}
    report = verify(trained.network, inferred.SerializeToString(), **pictures)

    assert casts
    assert report.passed, report.failures
