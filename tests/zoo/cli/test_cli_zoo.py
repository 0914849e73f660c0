"""The commands of `zoo`, from training to a proved export."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import pytest
from support.command_line import ROOT, call

from export.verification.checks import CHECKS

pytestmark = pytest.mark.usefixtures("empty_home")


def test_zoo_list_json_is_the_designs_document():
    rows = {row["name"]: row for row in json.loads(call("zoo", "list", "--json").stdout)}

    assert {"name", "parameters", "input_size", "accuracy", "published"} <= set(rows["lenet"])
    assert (rows["lenet"]["parameters"], rows["lenet"]["input_size"], rows["lenet"]["published"]) == (61_706, 28, True)


def test_zoo_data_says_where_the_data_is(fashion_mnist_dir):
    document = json.loads(call("zoo", "data", "--json").stdout)

    assert document == {"folder": str(fashion_mnist_dir), "origin": "environment", "verified": True}


def test_zoo_verify_passes_the_published_model_and_exits_with_3_for_another_models_file(tmp_path):
    good = call("zoo", "verify", "lenet", "--images", "500", "--json")
    other = ROOT / "weights" / "lenet-modern" / "model.onnx"
    bad = call("zoo", "verify", "lenet", "--onnx", other, "--images", "500", "--json", "-o", tmp_path / "report.json")

    assert (good.exit_code, json.loads(good.stdout)["passed"]) == (0, True)
    document: dict[str, Any] = json.loads(bad.stdout)
    assert (bad.exit_code, document["passed"]) == (3, False)
    assert {"name", "passed", "detail"} <= set(document["checks"][0])
    assert json.loads((tmp_path / "report.json").read_text()) == document


def test_zoo_verify_gives_json_that_every_reader_takes_of_a_file_whose_logits_are_no_numbers(tmp_path):
    model = onnx.load(ROOT / "weights" / "lenet" / "model.onnx")
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "network.0.weight")
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * np.float32("nan"), weight.name))
    onnx.save(model, tmp_path / "nan.onnx")
    report = tmp_path / "report.json"
    result = call("zoo", "verify", "lenet", "--onnx", tmp_path / "nan.onnx", "--images", "10", "--json", "-o", report)

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    document = json.loads(result.stdout, parse_constant=refuse)
    (parity,) = [check for check in document["checks"] if check["name"] == "parity"]
    assert (result.exit_code, parity["passed"], parity["measures"]["logits"]["max_abs_diff"]) == (3, False, None)
    assert json.loads(report.read_text(), parse_constant=refuse) == document


def own_copy(home: Path) -> Path:
    """Copy the published lenet to where the user's exports are; return its file."""
    for name in ("index.json", "lenet"):
        source, target = ROOT / "weights" / name, home / "weights" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    return home / "weights" / "lenet" / "model.onnx"


def test_zoo_verify_reports_every_check_of_a_damaged_export_and_what_its_checksum_should_be(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    file = own_copy(tmp_path)
    content = bytearray(file.read_bytes())
    position = content.index(b"Ankle boot")
    content[position] ^= 1
    file.write_bytes(content)
    result = call("zoo", "verify", "lenet", "--images", "100", "--json")
    checks = {check["name"]: check for check in json.loads(result.stdout)["checks"]}

    assert result.exit_code == 3
    assert list(checks) == ["checksum", *CHECKS]
    assert not checks["checksum"]["passed"]
    assert not checks["signature"]["passed"]
    assert checks["self-contained"]["passed"]
    assert hashlib.sha256(content).hexdigest() in checks["checksum"]["detail"]
    assert checks["checksum"]["measures"]["expected"] in (ROOT / "weights" / "index.json").read_text()


def test_zoo_verify_holds_a_file_named_by_path_against_its_index_too(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    file = own_copy(tmp_path)
    file.write_bytes((ROOT / "weights" / "lenet-modern" / "model.onnx").read_bytes())
    monkeypatch.chdir(file.parent)
    result = call("zoo", "verify", "lenet", "--onnx", "model.onnx", "--images", "10", "--json")
    first = json.loads(result.stdout)["checks"][0]

    assert (result.exit_code, first["name"], first["passed"]) == (3, "checksum", False)


@pytest.mark.parametrize("content", [b"", b"garbage"])
def test_zoo_verify_reports_every_check_of_a_file_that_is_no_model(tmp_path, content):
    (tmp_path / "no.onnx").write_bytes(content)
    result = call("zoo", "verify", "lenet", "--onnx", tmp_path / "no.onnx", "--images", "10", "--json")
    document = json.loads(result.stdout)

    assert (result.exit_code, document["passed"]) == (3, False)
    assert [check["name"] for check in document["checks"]] == list(CHECKS)


def test_a_series_of_seeds_and_its_held_out_images_from_the_command_line(tmp_path, monkeypatch):
    from zoo.data.dataset import load_split
    from zoo.runs import run

    monkeypatch.setattr(run, "load_split", lambda split, device: load_split(split, device)[slice(0, 500)])
    seeded = ["--epochs", "1", "--val-split", "--seed", "3", "-o", tmp_path]
    command = ["train", "lenet-modern", "--recipe", "d2l", *seeded]
    series = json.loads(call("zoo", *command, "--seeds", "2", "--json").stdout)
    table = call("zoo", *command, "--seeds", "2", "--resume").stdout
    again = call("zoo", *command, "--seeds", "2", "--resume", "--precision", "bf16")

    assert (series["seeds"], series["measured_on"]) == ([3, 4], "validation")
    assert [row["test_accuracy"] for row in series["runs"]] == [None, None]
    assert f"{series['mean']:.4f} ± {series['standard_deviation']:.4f} on the validation images" in table
    assert (again.exit_code, "started with precision fp32, not bf16" in again.stderr) == (2, True)


def test_eval_prints_the_calibration_error_and_draws_what_it_found(tmp_path):
    weights = ROOT / "weights" / "lenet" / "checkpoint.safetensors"
    result = call("zoo", "eval", "lenet", "--checkpoint", weights, "-o", tmp_path / "pictures")

    assert result.exit_code == 0
    assert "top-1 0.91" in result.stdout
    assert "calibration error 0.0" in result.stdout
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {
        "confusion.png",
        "mistakes.png",
        "reliability.png",
    }


@pytest.mark.slow
def test_the_whole_way_from_training_to_a_prediction(picture_folder, tmp_path):
    trained = json.loads(call("zoo", "train", "lenet-modern", "--epochs", "1", "--json").stdout)
    unpublished = call("zoo", "export", "lenet-modern", "--json")
    info = json.loads(call("runtime", "info", "-m", "lenet-modern", "--json").stdout)
    answer = json.loads(call("runtime", "predict", "-m", "lenet-modern", picture_folder / "1.png", "--json").stdout)[0]

    assert set(trained) >= {
        *("model", "recipe", "epochs", "test_accuracy", "seconds", "images_per_second", "checkpoint")
    }
    assert trained["test_accuracy"] > 0.8
    assert json.loads(unpublished.stdout)["accuracy"]["top1"] == pytest.approx(trained["test_accuracy"], abs=2e-4)
    assert (info["origin"], info["epochs"]) == ("user", 1)
    assert answer["label"] == "Pullover"
