"""`zoo bench` and `zoo parity`: backends give the same logits and are timed in turn."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from support.command_line import call

from export.description import CHECKPOINT_FILE as CHECKPOINT
from runtime import Classifier
from zoo.benchmark.compare import OURS, BackendFailed, Worker, compare, take_turns

LENET = Path(__file__).resolve().parents[3] / "weights" / "lenet"


def worker(backend: str, file: Path = LENET / "model.onnx") -> Worker:
    checkpoint = LENET / CHECKPOINT if backend.startswith("torch") else None
    return Worker(backend, file, "cpu", threads=1, network="lenet", checkpoint=checkpoint)


@pytest.mark.parametrize("backend", ["onnxruntime", "torch", "openvino"])
def test_another_backend_gives_the_same_logits(backend, test_images):
    if backend == "openvino":
        pytest.importorskip("openvino")
    pixels = test_images[:20, None].copy()
    with worker(backend) as other, Classifier(LENET, device="cpu") as classifier:
        np.testing.assert_allclose(other.logits(pixels), classifier.logits(pixels), atol=1e-4)
        assert set(other.cold_start_ms) == {"import", "session", "first_run", "total"}
        assert other.version[0].isdigit()


def test_live_parity_runs_the_network_and_fails_for_other_weights(tmp_path):
    arguments = ["parity", "--device", "cpu", "--json"]
    result = call("zoo", *arguments, LENET)
    document = json.loads(result.stdout)

    assert (result.exit_code, document["passed"], document["flips"]) == (0, True, 0)
    assert (document["reference"], document["images"]) == ("the PyTorch network", 512)
    assert 0 < document["max_abs_diff"] < document["tolerance"]

    other = shutil.copytree(LENET, tmp_path / "lenet")
    weights = load_file(other / CHECKPOINT)
    with safe_open(other / CHECKPOINT, "numpy") as file:
        header = file.metadata()
    weights["network.11.bias"][3] += 0.01
    save_file(weights, other / CHECKPOINT, header)
    result = call("zoo", *arguments, other)
    assert result.exit_code == 3
    assert json.loads(result.stdout)["max_abs_diff"] == pytest.approx(0.01, rel=0.1)


def test_live_parity_without_the_weights_names_them(tmp_path):
    shutil.copytree(LENET, tmp_path / "lenet")
    (tmp_path / "lenet" / CHECKPOINT).unlink()
    result = call("zoo", "parity", "--device", "cpu", tmp_path / "lenet")

    assert result.exit_code == 1
    assert "live parity needs the weights in " in result.stderr


def test_backends_are_timed_in_turn_with_all_their_runs_and_the_first_is_the_measure():
    with worker(OURS) as ours, worker("onnxruntime") as other:
        rows = take_turns([ours, other], 4, 0, 10)

    assert list(rows) == [OURS, "onnxruntime"]
    assert rows[OURS]["times_ours"] == 1.0
    for row in rows.values():
        assert (row["batch_size"], row["runs"], row["device_mib"]) == (4, 10, None)
        assert 0 < row["latency_ms"]["p50"] <= row["latency_ms"]["p99"]
        assert row["resident_mib"] > 20


def test_a_backend_whose_process_ends_leaves_the_others_running():
    with worker(OURS) as ours, worker("onnxruntime") as other:
        other._process.kill()
        rows = take_turns([ours, other], 1, 0, 5)

    assert rows["onnxruntime"]["error"].startswith("onnxruntime ended: ")
    assert rows[OURS]["runs"] == 5


def test_a_backend_that_cannot_run_says_why():
    with pytest.raises(BackendFailed, match="torch-graph: only a GPU replays graphs"):
        worker("torch-graph")
    with pytest.raises(BackendFailed, match=r"onnxruntime: .*nowhere"):
        worker("onnxruntime", Path("nowhere.onnx"))


def test_a_backend_without_its_weights_is_named_and_not_run(tmp_path):
    file = tmp_path / "model.onnx"
    file.write_bytes((LENET / "model.onnx").read_bytes())
    report = compare(
        ["torch"], file, "cpu", threads=1, tf32=False, network="lenet", batch_sizes=[1], min_seconds=0, min_runs=5
    )

    assert list(report["backends"]) == [OURS]
    assert report["not_run"]["torch"].startswith("torch needs the weights in ")


def test_an_unknown_backend_is_a_usage_error_before_anything_is_measured():
    result = call("zoo", "bench", "lenet", "--compare", "tensorflow")

    assert result.exit_code == 2
    assert "there is no backend 'tensorflow'; expected some of runtime" in result.stderr


def test_bench_compares_on_the_command_line():
    arguments = ["bench", str(LENET), "--device", "cpu", "-b", "2", "--min-seconds", "0", "--min-runs", "5"]
    result = call("zoo", *arguments, "--compare", "onnxruntime", "--json")
    compared = json.loads(result.stdout)

    assert result.exit_code == 0
    assert set(compared["batches"][0]) == {"runtime", "onnxruntime"}
    text = call("zoo", *arguments, "--compare", "onnxruntime,torch-graph")
    assert "times ours" in text.stdout
    assert "not run: torch-graph: only a GPU" in text.stderr
