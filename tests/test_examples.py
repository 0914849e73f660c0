"""The examples run as they stand, and say what is in the pictures."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "weights" / "lenet" / "model.onnx"


@pytest.mark.parametrize("example", ["plain_onnxruntime", "with_runtime", "thread_pool", "process_pool"])
def test_an_example_names_what_is_in_the_pictures(example, tmp_path, test_images):
    labels = ["Ankle boot", "Pullover", "Trouser"]
    pictures = [tmp_path / f"{index}.png" for index in range(len(labels))]
    for picture, image in zip(pictures, test_images, strict=False):
        Image.fromarray(image).save(picture)
    command = [sys.executable, ROOT / "examples" / f"{example}.py", MODEL, *pictures]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    expected = [f"{picture}: {label}" for picture, label in zip(pictures, labels, strict=True)]
    found = done.stdout.splitlines()
    assert [line[: len(start)] for line, start in zip(found, expected, strict=True)] == expected


def test_the_example_without_this_package_does_not_import_it():
    program = (ROOT / "examples" / "plain_onnxruntime.py").read_text()

    assert "import runtime" not in program
    assert "from runtime" not in program


def test_the_example_with_the_package_goes_on_after_a_bad_picture(tmp_path, test_images):
    Image.fromarray(test_images[0]).save(tmp_path / "boot.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    command = [sys.executable, ROOT / "examples" / "with_runtime.py", MODEL, "bad.png", "boot.png"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False)

    assert done.returncode == 0, done.stderr
    bad, good = done.stdout.splitlines()
    assert bad.startswith("'bad.png' is none of PNG, JPEG")
    assert good == "boot.png: Ankle boot"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Jupyter's own
def test_the_tour_runs_and_the_broken_weight_is_caught(empty_home, monkeypatch):
    """Lost otherwise: the first thing that a reader runs cell by cell."""
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed: pip install -e '.[dev]'")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed: pip install -e '.[dev]'")
    import nbformat

    tour = nbformat.read(ROOT / "examples" / "tour.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in tour.cells), "commit the notebook without outputs"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    nbclient.NotebookClient(tour, timeout=900, resources={"metadata": {"path": str(ROOT / "examples")}}).execute()
    printed = [
        "".join(output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in cell.outputs)
        for cell in tour.cells
        if cell.cell_type == "code"
    ]

    assert "every check passed" in printed[3]
    assert re.search(r"weights\s+FAILED", printed[5])
    assert len(re.findall("FAILED", printed[5])) == 1
    assert "Ankle boot" in printed[6]
