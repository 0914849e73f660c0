"""`runtime list`, `info` and `accuracy`: the documents of the design."""

import json

import pytest
from support.command_line import ROOT, call, python

from runtime import __version__

pytestmark = pytest.mark.usefixtures("empty_home")


def test_list_and_info_name_the_file_in_use():
    listed = json.loads(call("runtime", "list", "--json").stdout)
    info = json.loads(call("runtime", "info", "-m", "lenet", "--device", "cpu", "--json").stdout)

    assert {"lenet", "lenet-modern"} <= {row["name"] for row in listed}
    assert info["file"] == str(ROOT / "weights" / "lenet" / "model.onnx")
    assert info["placement"] == {"CPUExecutionProvider": 17}
    assert info["labels"][9] == "Ankle boot"


def test_list_takes_an_entry_that_lacks_its_figures(tmp_path):
    weights = tmp_path / "home" / "weights"
    weights.mkdir(parents=True)
    (weights / "mine.onnx").write_bytes(b"x")
    entry = {"name": "mine", "file": "mine.onnx", "sha256": "0" * 64, "parameters": None, "accuracy": {"top1": "?"}}
    (weights / "index.json").write_text(json.dumps({"schema": 1, "models": [entry]}))
    result = call("runtime", "list")

    (row,) = [line.split() for line in result.stdout.splitlines() if "mine" in line]
    assert (result.exit_code, row) == (0, ["mine", "-", "-", "1", "user", str(weights / "mine.onnx")])


def test_accuracy_json_is_the_designs_document():
    report = json.loads(call("runtime", "accuracy", "-m", "lenet", "--device", "cpu", "--json").stdout)

    assert set(report) == {
        *("model", "n", "correct", "top1", "confusion", "device", "providers", "seconds", "images_per_second")
    }
    assert (report["model"], report["n"], report["device"]) == ("lenet", 10_000, "cpu")
    assert report["top1"] == report["correct"] / 10_000 > 0.912
    assert sum(map(sum, report["confusion"])) == 10_000


@pytest.mark.parametrize("program", ["runtime", "zoo"])
def test_a_checkout_that_is_not_installed_knows_its_version(program):
    block = (
        "import importlib.metadata as installed, runpy, sys\n"
        "def missing(name): raise installed.PackageNotFoundError(name)\n"
        "installed.version = installed.distribution = missing\n"
        f"sys.argv = ['{program}', '--version']\nrunpy.run_module('{program}', run_name='__main__')"
    )
    done = python("-c", block)

    assert (done.returncode, done.stdout, done.stderr) == (0, f"{program}, version {__version__}\n", "")
