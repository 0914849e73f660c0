"""Parity: the golden answers come out of this machine's device, and nothing else is taken for them."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import pytest
from support.command_line import call

from runtime import Classifier, ModelInvalid, ModelNotFound
from runtime.evaluation.golden import read_tensor
from runtime.evaluation.parity import INPUT_FILE, OUTPUT_FILES, REPORT, measure_parity, read_tolerances
from runtime.model.registry import SHIPPED

PUBLISHED = Path(__file__).resolve().parents[3] / "weights"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the published lenet, outside any index."""
    return Path(shutil.copytree(PUBLISHED / "lenet", tmp_path / "lenet"))


def parity_of(folder: Path, *arguments: str) -> tuple[int, dict[str, object]]:
    result = call("runtime", "parity", "-m", folder / "model.onnx", "--device", "cpu", "--json", *arguments)
    return result.exit_code, json.loads(result.stdout)


@pytest.mark.parametrize("model", SHIPPED)
def test_a_published_model_passes_well_within_its_measured_tolerance(model):
    report = measure_parity(Classifier(PUBLISHED / model, device="cpu"))

    assert report.passed
    assert report.flips == 0
    assert report.images == 16
    for output in report.outputs:
        assert 0 <= output.max_abs_diff < output.tolerance / 2


def test_the_tolerance_is_the_verified_one_and_pytorchs_own_error(folder):
    checks = {check["name"]: check for check in json.loads((folder / REPORT).read_text())["checks"]}
    measures = checks["parity"]["measures"]["logits"]
    code, document = parity_of(folder)

    assert code == 0
    assert document["tolerance"] == pytest.approx(measures["tolerance"] + measures["noise_floor"])
    assert set(document) == {
        *("model", "passed", "max_abs_diff", "tolerance", "device", "providers", "images", "flips", "outputs"),
        *("file", "sha256", "seconds"),
    }


def test_tf32_is_allowed_its_own_rounding_of_the_factors_and_no_more(folder):
    digest = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    checks = {check["name"]: check for check in json.loads((folder / REPORT).read_text())["checks"]}
    measures = checks["parity"]["measures"]["logits"]
    allowed = read_tolerances(folder, digest, tf32=True)["logits"]

    assert allowed == pytest.approx(measures["tolerance"] + 2**13 * measures["noise_floor"])
    assert 0.01 < allowed < 0.5  # a difference that TF32 makes, and one that it does not


def test_answers_off_by_more_than_the_tolerance_exit_with_3_and_a_sentence(folder):
    path = folder / OUTPUT_FILES["logits"]
    tensor = onnx.TensorProto.FromString(path.read_bytes())
    answers = onnx.numpy_helper.to_array(tensor).copy()
    answers[3, 4] += 0.001
    path.write_bytes(onnx.numpy_helper.from_array(answers, "logits").SerializeToString())
    result = call("runtime", "parity", "-m", folder, "--device", "cpu", "--json")
    document = json.loads(result.stdout)

    assert (result.exit_code, document["passed"]) == (3, False)
    assert document["max_abs_diff"] == pytest.approx(0.001, rel=0.1)
    assert "logits differ by up to 0.0009" in result.stderr


def test_a_golden_nan_is_never_within_the_tolerance(folder):
    path = folder / OUTPUT_FILES["probabilities"]
    answers = np.full((16, 10), np.nan, np.float32)
    path.write_bytes(onnx.numpy_helper.from_array(answers, "probabilities").SerializeToString())
    code, document = parity_of(folder)

    assert (code, document["passed"]) == (3, False)
    assert document["outputs"]["probabilities"]["max_abs_diff"] is None  # type: ignore[index]


@pytest.mark.parametrize("file", [INPUT_FILE, *OUTPUT_FILES.values(), REPORT])
def test_a_missing_file_is_named(folder, file):
    (folder / file).unlink()

    with pytest.raises(ModelNotFound, match=rf"{file}, which is missing"):
        measure_parity(Classifier(folder, device="cpu"))


def test_the_report_of_another_file_is_refused(folder):
    shutil.copy(PUBLISHED / "lenet-modern" / REPORT, folder / REPORT)

    with pytest.raises(ModelInvalid, match="is of another file"):
        measure_parity(Classifier(folder, device="cpu"))


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"conditions": {"onnx_sha256": ""}, "checks": []}'])
def test_a_damaged_report_is_refused(folder, text):
    (folder / REPORT).write_text(text)

    with pytest.raises(ModelInvalid, match="is damaged"):
        measure_parity(Classifier(folder, device="cpu"))


def test_golden_tensors_are_read_as_onnx_reads_them():
    for path in PUBLISHED.glob("*/test_data_set_0/*.pb"):
        tensor = onnx.TensorProto.FromString(path.read_bytes())
        name, array = read_tensor(path)

        assert name == tensor.name
        np.testing.assert_array_equal(array, onnx.numpy_helper.to_array(tensor), strict=True)


def test_every_truncation_and_bit_flip_is_refused_or_still_a_tensor(tmp_path):
    whole = (PUBLISHED / "lenet" / OUTPUT_FILES["logits"]).read_bytes()
    path = tmp_path / "output_0.pb"
    damaged = [whole[:end] for end in range(len(whole))]
    damaged += [whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :] for at in range(20) for bit in range(8)]
    refused = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            name, array = read_tensor(path)
        except ModelInvalid:
            refused += 1
        else:
            assert (type(name), type(array)) == (str, np.ndarray)

    assert refused > len(whole)


@pytest.mark.parametrize(
    "array",
    [np.zeros((16, 10), np.int64), np.zeros((16, 11), np.float32), np.zeros(10, np.float32), np.zeros((3, 10), "f4")],
)
def test_a_tensor_of_another_type_or_shape_is_refused(folder, array):  # type: ignore[type-arg]
    content = onnx.numpy_helper.from_array(array, "logits").SerializeToString()
    (folder / OUTPUT_FILES["logits"]).write_bytes(content)

    with pytest.raises(ModelInvalid, match=r"should be logits|as many golden answers"):
        measure_parity(Classifier(folder, device="cpu"))
