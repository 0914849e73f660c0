"""Batch scoring on Ray: whatever is killed half-way, every picture has one row, and the row of the serial program."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from runtime import Classifier

pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")
pytest.importorskip("pyarrow", reason="Ray Data is not installed: pip install -e '.[ray]'")

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "weights" / "lenet"
WITHIN = 400  # seconds; half a minute on two free cores


@pytest.fixture(scope="module")
def pictures(test_images: npt.NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All 10,000 test images as PNG, of which one is no picture."""
    folder = tmp_path_factory.mktemp("pictures")
    for index, image in enumerate(test_images):
        Image.fromarray(image).save(folder / f"{index:05}.png")
    (folder / "00007.png").write_bytes(b"no picture")
    return folder


def started(pictures: Path, results: Path) -> subprocess.Popen[str]:
    command = [sys.executable, ROOT / "examples" / "ray_batch.py", MODEL, pictures, results, "--workers", "2"]
    variables = os.environ | {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    return subprocess.Popen(
        command, env=variables, start_new_session=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN
    while not condition():
        assert time.monotonic() < deadline, "nothing happened in time"
        time.sleep(0.05)


def workers_of(driver: int) -> list[int]:
    """The processes of the scoring actors below the driver, by Ray's own titles for them."""
    table = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    columns = [line.split(None, 2) for line in table.splitlines()]
    rows = [(int(pid), int(parent), title) for pid, parent, title in columns]
    below = {driver}
    while new := {pid for pid, parent, _ in rows if parent in below} - below:
        below |= new
    return [pid for pid, _, title in rows if pid in below and title.startswith("ray::") and "Score" in title]


def parts(results: Path) -> list[Path]:
    return sorted(results.glob("part-*.parquet"))


def rows_of(results: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    return [row for path in parts(results) for row in pq.read_table(path).to_pylist()]


def assert_each_once_and_as_the_serial_program(results: Path, pictures: Path) -> None:
    rows = {row["source"]: row for row in rows_of(results)}
    paths = sorted(map(str, pictures.iterdir()))

    assert len(rows_of(results)) == len(rows) == 10_000
    assert sorted(rows) == paths

    bad = rows.pop(str(pictures / "00007.png"))
    assert (bad["error_kind"], bad["label"]) == ("not_an_image", None)

    readable = [path for path in paths if path in rows]
    with Classifier(MODEL, device="cpu", threads=1) as classifier:
        serial = classifier.predict_batch(readable, topk=1)
    assert [(rows[path]["label"], rows[path]["confidence"]) for path in readable] == [
        (answer.label, answer.confidence) for answer in serial
    ]


def test_a_worker_killed_half_way_loses_nothing_and_doubles_nothing(pictures, tmp_path):
    driver = started(pictures, tmp_path / "results")
    try:
        wait_for(lambda: len(parts(tmp_path / "results")) >= 6 or driver.poll() is not None)
        workers = workers_of(driver.pid)
        os.kill(workers[0], signal.SIGKILL)
        done_before = len(parts(tmp_path / "results"))
        out, err = driver.communicate(timeout=WITHIN)
    finally:
        stop(driver)

    assert len(workers) == 2
    assert done_before < 20, "the worker was killed too late to matter"
    assert driver.returncode == 0, err[-2000:]
    assert f"10000 pictures scored into {tmp_path / 'results'}" in out.splitlines()  # Ray's notes may come after it
    assert_each_once_and_as_the_serial_program(tmp_path / "results", pictures)


def test_a_job_killed_half_way_is_finished_by_the_next_start(pictures, tmp_path):
    first = started(pictures, tmp_path / "results")
    try:
        wait_for(lambda: len(parts(tmp_path / "results")) >= 6 or first.poll() is not None)
    finally:
        stop(first)
    kept = {path: path.stat().st_mtime_ns for path in parts(tmp_path / "results")}
    again = started(pictures, tmp_path / "results")
    try:
        out, err = again.communicate(timeout=WITHIN)
    finally:
        stop(again)

    assert again.returncode == 0, err[-2000:]
    assert 6 <= len(kept) < 20
    assert f"{10_000 - 500 * len(kept)} pictures scored into {tmp_path / 'results'}" in out.splitlines()
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert_each_once_and_as_the_serial_program(tmp_path / "results", pictures)


def test_results_of_another_job_are_not_mixed_with_these(pictures, tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    messages = []
    for folder in ("one", "other"):  # no pictures, so that Ray need not start
        driver = started(tmp_path / folder, tmp_path / "results")
        out, err = driver.communicate(timeout=WITHIN)
        messages.append((driver.returncode, out or err.splitlines()[-1]))

    assert messages[0] == (0, f"0 pictures scored into {tmp_path / 'results'}\n")
    assert messages[1][0] == 1
    assert "belongs to another job" in messages[1][1]


def stop(driver: subprocess.Popen[str]) -> None:
    """End the driver and everything of Ray that it started, without a word."""
    below = subprocess.run(["ps", "-eo", "pid=,sess="], capture_output=True, text=True, check=True).stdout.split("\n")
    for pid, session in (line.split() for line in below if line.strip()):
        if int(session) == driver.pid:
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                continue
    driver.wait()
    for stream in (driver.stdout, driver.stderr):
        if stream is not None:
            stream.close()


@pytest.fixture(scope="module")
def example() -> Any:
    spec = importlib.util.spec_from_file_location("ray_batch", ROOT / "examples" / "ray_batch.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_bucket_that_fails_costs_the_attempt_and_not_the_pictures(example, pictures, tmp_path):
    class Bucket:
        def open_input_stream(self, path: str) -> Any:
            raise (FileNotFoundError if path.endswith("gone.png") else ConnectionResetError)(path)

    score = example.Score(str(MODEL), example.checksum(MODEL), "cpu", str(pictures), str(tmp_path))
    score.pictures = Bucket()

    def batch(*names: str) -> dict[str, Any]:
        return {"shard": np.array([0]), "sources": [[f"shoes/{name}" for name in names]]}

    with pytest.raises(ConnectionResetError):
        score(batch("gone.png", "there.png"))
    assert parts(tmp_path) == []
    score(batch("gone.png"))
    assert [(row["label"], "gone.png" in row["error_message"]) for row in rows_of(tmp_path)] == [(None, True)]


def test_another_file_of_the_same_name_is_another_job(example, pictures, tmp_path):
    model = shutil.copytree(MODEL, tmp_path / "model")
    example.listed(str(model), str(pictures), str(tmp_path / "results"))
    sha256 = example.checksum(model)
    shutil.copy(ROOT / "weights" / "lenet-modern" / "model.onnx", model / "model.onnx")

    with pytest.raises(SystemExit, match="belongs to another job"):
        example.listed(str(model), str(pictures), str(tmp_path / "results"))
    with pytest.raises(RuntimeError, match="is another file on this machine than where the job was started"):
        example.Score(str(model), sha256, "cpu", str(pictures), str(tmp_path))
