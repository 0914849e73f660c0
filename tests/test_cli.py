"""The two command lines: results on stdout and nothing else there, one sentence an error, the right exit code."""

import csv
import hashlib
import io
import json
import shlex
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from export.gates import GATES
from runtime.cli import runtime
from runtime.console import Command
from zoo.cli import zoo

ROOT = Path(__file__).resolve().parents[1]
GROUPS: dict[str, click.Group] = {"runtime": runtime, "zoo": zoo}


@pytest.fixture(autouse=True)
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))


@pytest.fixture
def pictures(tmp_path: Path, test_images: npt.NDArray[np.uint8]) -> Path:
    """A folder: three good pictures, a bad one, a text file, and a folder with one more picture."""
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    for index in range(3):
        Image.fromarray(test_images[index]).save(folder / f"{index}.png")
    (folder / "bad.png").write_bytes(b"not a picture")
    (folder / "notes.txt").write_text("not a picture, and not called one")
    Image.fromarray(255 - test_images[3]).resize((280, 280)).convert("RGB").save(folder / "more" / "photo.jpg")
    return folder


def call(group: str, *arguments: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(GROUPS[group], [str(argument) for argument in arguments], input=stdin)


def call_process(group: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", group, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def commands() -> list[tuple[str, str]]:
    return [(group, name) for group, command in GROUPS.items() for name in command.commands]


@pytest.mark.parametrize(("group", "name"), commands())
def test_every_command_explains_itself_with_an_example(group: str, name: str) -> None:
    result = call(group, name, "-h")

    assert result.exit_code == 0
    assert f"{group} {name}" in result.output
    assert "Example:" in result.output


def test_predict_names_what_is_in_a_picture(pictures: Path) -> None:
    result = call("runtime", "predict", "-m", "lenet", pictures / "0.png", "--device", "cpu")

    assert result.exit_code == 0
    assert result.stdout.startswith(f"{pictures / '0.png'}: Ankle boot ")
    assert result.stderr == ""


def test_predict_json_is_the_designs_document_and_a_bad_picture_does_not_stop_the_others(pictures: Path) -> None:
    result = call("runtime", "predict", "-m", "lenet", pictures, "-r", "--json", "--topk", "2")
    answers = json.loads(result.stdout)

    assert result.exit_code == 1
    assert [Path(answer["source"]).name for answer in answers] == ["0.png", "1.png", "2.png", "bad.png", "photo.jpg"]
    assert [answer.get("label") for answer in answers] == ["Ankle boot", "Pullover", "Trouser", None, "Trouser"]
    good, bad, photo = answers[0], answers[3], answers[4]
    assert set(good) == {"source", "ok", "label", "index", "confidence", "inverted", "top"}
    assert (good["ok"], good["index"], len(good["top"])) == (True, 9, 2)
    assert set(good["top"][0]) == {"label", "index", "probability"}
    assert set(bad) == {"source", "ok", "error"}
    assert bad["ok"] is False
    assert bad["error"]["kind"] == "not_an_image"
    assert (good["inverted"], photo["inverted"]) == (False, True)
    assert "1 of 5 pictures could not be read" in result.stderr


def test_predict_jsonl_and_csv_say_the_same_as_json(pictures: Path) -> None:
    whole = json.loads(call("runtime", "predict", pictures, "--json").stdout)
    lines = [json.loads(line) for line in call("runtime", "predict", pictures, "--jsonl").stdout.splitlines()]
    rows = list(csv.DictReader(io.StringIO(call("runtime", "predict", pictures, "--csv").stdout)))

    assert lines == whole
    assert [row["label"] for row in rows] == [answer.get("label", "") for answer in whole]
    assert rows[3]["error_kind"] == "not_an_image"


def test_a_source_without_pictures_does_not_stop_the_others(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    sources = [pictures / "0.png", tmp_path / "empty", "@missing.txt", "zz*.png", pictures / "1.png"]
    results = {form: call("runtime", "predict", *sources, *form.split()) for form in ("--json", "--jsonl", "--csv", "")}
    answers = json.loads(results["--json"].stdout)
    rows = list(csv.DictReader(io.StringIO(results["--csv"].stdout)))

    assert {result.exit_code for result in results.values()} == {1}
    assert [answer["source"] for answer in answers] == [str(source) for source in sources]
    assert [answer.get("label") for answer in answers] == ["Ankle boot", None, None, None, "Pullover"]
    assert [answer["error"]["kind"] for answer in answers[1:4]] == ["empty", "missing", "missing"]
    assert "the list missing.txt cannot be read" in answers[2]["error"]["message"]
    assert [json.loads(line) for line in results["--jsonl"].stdout.splitlines()] == answers
    assert [row["error_kind"] for row in rows] == ["", "empty", "missing", "missing", ""]
    assert [line.split()[1] for line in results[""].stdout.splitlines()] == ["Ankle", "Pullover"]
    assert "3 of 5 pictures could not be read" in results[""].stderr


def test_predict_reads_stdin_lists_and_patterns(pictures: Path, tmp_path: Path) -> None:
    picture = (pictures / "1.png").read_bytes()
    listed = tmp_path / "list.txt"
    listed.write_text(f"{pictures / '2.png'}\n\n# a remark\n{pictures / '0.png'}\n")

    assert call("runtime", "predict", "-", stdin=picture).stdout.startswith("-: Pullover")
    answers = json.loads(call("runtime", "predict", f"@{listed}", pictures / "[01].png", "--json").stdout)
    assert [Path(answer["source"]).name for answer in answers] == ["2.png", "0.png", "0.png", "1.png"]


def test_a_light_background_is_inverted_and_said_to_be_unless_forbidden(pictures: Path) -> None:
    photo = pictures / "more" / "photo.jpg"
    as_is = json.loads(call("runtime", "predict", photo, "--json").stdout)[0]
    forbidden = json.loads(call("runtime", "predict", photo, "--json", "--invert", "no").stdout)[0]

    assert (as_is["inverted"], forbidden["inverted"]) == (True, False)
    assert "light background, inverted" in call("runtime", "predict", photo).stdout


ERRORS: list[tuple[str, list[str], int, str]] = [
    ("runtime", ["predict"], 2, "Missing argument"),
    ("runtime", ["predict", "a.png", "--json", "--csv"], 2, "exclude each other"),
    ("runtime", ["predict", "-m", "lenat", "a.png"], 1, "did you mean 'lenet'? Models here: lenet, lenet-modern"),
    ("runtime", ["predict", "-m", "no/such.onnx", "a.png"], 1, "there is no model file at no/such.onnx"),
    ("runtime", ["predict", "missing.png", "--device", "cpu"], 1, "missing.png"),
    ("runtime", ["predict", "*.nothing"], 2, "matches nothing"),
    ("runtime", ["predict", "@nowhere.txt"], 2, "the list nowhere.txt cannot be read"),
    ("runtime", ["info", "--device", "gpu"], 2, "use auto, cpu, cuda or cuda:N"),
    ("runtime", ["accuracy", "-b", "0"], 2, "-b"),
    ("zoo", ["train", "resnet"], 2, "did you mean 'resnext'?"),
    ("zoo", ["train", "lenet", "--recipe", "worst"], 2, "there are: best, d2l"),
    ("zoo", ["train", "lenet", "--lr", "-1"], 2, "lr must be a positive number, not -1.0"),
    ("zoo", ["train", "lenet", "--epochs", "0"], 2, "epochs must be at least 1, not 0"),
    ("zoo", ["train", "lenet", "--batch-size", "60001"], 2, "larger than the 60000 training images"),
    ("zoo", ["train", "lenet", "--device", "tpu"], 2, "use auto, cpu, cuda or cuda:N"),
    ("zoo", ["train", "lenet", "--precision", "fp8"], 2, "'fp8' is not one of 'fp32', 'bf16'"),
    ("zoo", ["train", "lenet", "--seeds", "0"], 2, "0 is not in the range x>=1"),
    ("zoo", ["train", "lenet", "--seed", "4294967295", "--seeds", "2"], 2, "from 0 to 2**32 - 1, not 4294967296"),
    ("zoo", ["train", "lenet", "--val-split", "-b", "50001"], 2, "larger than the 50000 training images"),
    ("zoo", ["export", "lenet-max"], 1, "run `zoo train lenet-max`"),
    ("zoo", ["export", "lenet", "--checkpoint", "nowhere.safetensors"], 1, "no checkpoint at nowhere.safetensors"),
    ("zoo", ["export", "lenet", "--opset", "12"], 2, "the opset should be from 13 to 23, not 12"),
    ("zoo", ["verify", "lenet", "--onnx", "nowhere.onnx"], 1, "no model file at nowhere.onnx"),
    ("zoo", ["verify", "lenet-max"], 1, "make one with `zoo train lenet-max` and `zoo export lenet-max`"),
    ("zoo", ["publish", "lenet"], 1, "run `zoo export lenet` first"),
]


@pytest.mark.parametrize(("group", "arguments", "code", "sentence"), ERRORS)
def test_bad_input_gets_a_sentence_and_its_exit_code_and_nothing_on_stdout(
    group: str, arguments: list[str], code: int, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = call(group, *arguments)

    assert (result.exit_code, result.stdout) == (code, ""), result.output
    assert sentence in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", [["runtime", "accuracy"], ["zoo", "eval", "lenet"], ["zoo", "verify", "lenet"]])
def test_a_device_that_is_not_there_exits_with_4(command: list[str]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    result = call(*command, "--device", "cuda")

    assert (result.exit_code, result.stdout) == (4, "")


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    result = call("runtime", "info", "-m", tmp_path / "no.onnx", "--debug")

    assert result.exit_code == 1
    assert "Traceback" in result.stderr


def test_a_fault_that_nobody_foresaw_is_a_sentence_too() -> None:
    def fail() -> None:
        raise RecursionError("too\n deep")

    command = Command("fail", callback=fail)
    short, long = (CliRunner().invoke(command, arguments) for arguments in ([], ["--debug"]))

    assert (short.exit_code, short.stdout) == (1, "")
    assert short.stderr == "Error: RecursionError: too deep; --debug shows where\n"
    assert "Traceback" in long.stderr
    assert 'raise RecursionError("too' in long.stderr


def test_ctrl_c_while_a_library_in_c_is_imported_is_no_fault_of_that_library() -> None:
    def fail(cause: BaseException) -> None:
        raise ImportError("initialization failed") from cause

    interrupted, broken = (
        CliRunner().invoke(Command("fail", callback=partial(fail, cause)), [])
        for cause in (KeyboardInterrupt(), OSError("no such library"))
    )

    assert (interrupted.exit_code, interrupted.stderr.strip()) == (1, "Aborted!")
    assert broken.stderr == "Error: ImportError: initialization failed; --debug shows where\n"


@pytest.mark.parametrize("arguments", [["list"], ["list", "--json"]])
def test_a_closed_stdout_is_no_crash(arguments: list[str]) -> None:
    command = f"{shlex.quote(sys.executable)} -m runtime {' '.join(arguments)} >&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, cwd=ROOT, check=False)

    assert "Traceback" not in done.stderr
    assert done.returncode == 0


@pytest.mark.parametrize(
    "option", [["--threads", "99999999999"], ["-b", "99999999999999999999"], ["--topk", "99999999999999999999999"]]
)
def test_a_number_beyond_all_sense_is_refused_or_does_no_harm(pictures: Path, option: list[str]) -> None:
    result = call("runtime", "predict", pictures / "0.png", *option)

    assert result.exit_code == (0 if option[0] == "--topk" else 2)
    assert "Traceback" not in result.stderr


def test_a_folder_without_pictures_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = call("runtime", "predict", tmp_path / "empty")

    assert (result.exit_code, result.stdout) == (2, "")
    assert "holds no pictures" in result.stderr


def test_list_and_info_name_the_file_in_use() -> None:
    listed = json.loads(call("runtime", "list", "--json").stdout)
    info = json.loads(call("runtime", "info", "-m", "lenet", "--device", "cpu", "--json").stdout)

    assert {"lenet", "lenet-modern"} <= {row["name"] for row in listed}
    assert info["file"] == str(ROOT / "weights" / "lenet" / "model.onnx")
    assert info["placement"] == {"CPUExecutionProvider": 16}
    assert info["labels"][9] == "Ankle boot"


def test_list_takes_an_entry_that_lacks_its_figures(tmp_path: Path) -> None:
    weights = tmp_path / "home" / "weights"
    weights.mkdir(parents=True)
    (weights / "mine.onnx").write_bytes(b"x")
    entry = {"name": "mine", "file": "mine.onnx", "sha256": "0" * 64, "parameters": None, "accuracy": {"top1": "?"}}
    (weights / "index.json").write_text(json.dumps({"schema": 1, "models": [entry]}))
    result = call("runtime", "list")

    (row,) = [line.split() for line in result.stdout.splitlines() if "mine" in line]
    assert (result.exit_code, row) == (0, ["mine", "-", "-", "1", "user", str(weights / "mine.onnx")])


def test_accuracy_json_is_the_designs_document() -> None:
    report = json.loads(call("runtime", "accuracy", "-m", "lenet", "--device", "cpu", "--json").stdout)

    assert set(report) == {
        *("model", "n", "correct", "top1", "confusion", "device", "providers", "seconds", "images_per_second")
    }
    assert (report["model"], report["n"], report["device"]) == ("lenet", 10_000, "cpu")
    assert report["top1"] == report["correct"] / 10_000 > 0.912
    assert sum(map(sum, report["confusion"])) == 10_000


def test_zoo_list_json_is_the_designs_document() -> None:
    rows = {row["name"]: row for row in json.loads(call("zoo", "list", "--json").stdout)}

    assert {"name", "parameters", "input_size", "accuracy", "published"} <= set(rows["lenet"])
    assert (rows["lenet"]["parameters"], rows["lenet"]["input_size"], rows["lenet"]["published"]) == (61_706, 28, True)


def test_zoo_data_says_where_the_data_is(fashion_mnist_dir: Path) -> None:
    document = json.loads(call("zoo", "data", "--json").stdout)

    assert document == {"folder": str(fashion_mnist_dir), "origin": "environment", "verified": True}


def test_zoo_verify_passes_the_published_model_and_exits_with_3_for_another_models_file(tmp_path: Path) -> None:
    good = call("zoo", "verify", "lenet", "--images", "500", "--json")
    other = ROOT / "weights" / "lenet-modern" / "model.onnx"
    bad = call("zoo", "verify", "lenet", "--onnx", other, "--images", "500", "--json", "-o", tmp_path / "report.json")

    assert (good.exit_code, json.loads(good.stdout)["passed"]) == (0, True)
    document: dict[str, Any] = json.loads(bad.stdout)
    assert (bad.exit_code, document["passed"]) == (3, False)
    assert {"name", "passed", "detail"} <= set(document["checks"][0])
    assert json.loads((tmp_path / "report.json").read_text()) == document


def own_copy(home: Path) -> Path:
    """Copy the published lenet to where the user's exports are; return its file."""
    for name in ("index.json", "lenet"):
        source, target = ROOT / "weights" / name, home / "weights" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    return home / "weights" / "lenet" / "model.onnx"


def test_zoo_verify_reports_every_gate_of_a_damaged_export_and_what_its_checksum_should_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    file = own_copy(tmp_path)
    content = bytearray(file.read_bytes())
    position = content.index(b"Ankle boot")
    content[position] ^= 1
    file.write_bytes(content)
    result = call("zoo", "verify", "lenet", "--images", "100", "--json")
    checks = {check["name"]: check for check in json.loads(result.stdout)["checks"]}

    assert result.exit_code == 3
    assert list(checks) == ["checksum", *GATES]
    assert not checks["checksum"]["passed"]
    assert not checks["signature"]["passed"]
    assert checks["closed world"]["passed"]
    assert hashlib.sha256(content).hexdigest() in checks["checksum"]["detail"]
    assert checks["checksum"]["measures"]["expected"] in (ROOT / "weights" / "index.json").read_text()


@pytest.mark.parametrize("content", [b"", b"garbage"])
def test_zoo_verify_reports_every_gate_of_a_file_that_is_no_model(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "no.onnx").write_bytes(content)
    result = call("zoo", "verify", "lenet", "--onnx", tmp_path / "no.onnx", "--images", "10", "--json")
    document = json.loads(result.stdout)

    assert (result.exit_code, document["passed"]) == (3, False)
    assert [check["name"] for check in document["checks"]] == list(GATES)


def test_a_series_of_seeds_and_its_held_out_images_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zoo import run
    from zoo.data import load_split

    monkeypatch.setattr(run, "load_split", lambda split, device: load_split(split, device)[slice(0, 500)])
    command = [
        "train",
        "lenet-modern",
        "--recipe",
        "d2l",
        "--epochs",
        "1",
        "--val-split",
        "--seed",
        "3",
        "-o",
        tmp_path,
    ]
    series = json.loads(call("zoo", *command, "--seeds", "2", "--json").stdout)
    table = call("zoo", *command, "--seeds", "2", "--resume").stdout
    again = call("zoo", *command, "--seeds", "2", "--resume", "--precision", "bf16")

    assert (series["seeds"], series["measured_on"]) == ([3, 4], "validation")
    assert [row["test_accuracy"] for row in series["runs"]] == [None, None]
    assert f"{series['mean']:.4f} ± {series['standard_deviation']:.4f} on the validation images" in table
    assert (again.exit_code, "started with precision fp32, not bf16" in again.stderr) == (2, True)


def test_eval_prints_the_calibration_error_and_draws_what_it_found(tmp_path: Path) -> None:
    weights = ROOT / "weights" / "lenet" / "checkpoint.safetensors"
    result = call("zoo", "eval", "lenet", "--checkpoint", weights, "-o", tmp_path / "pictures")

    assert result.exit_code == 0
    assert "top-1 0.91" in result.stdout
    assert "calibration error 0.0" in result.stdout
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {"confusion.png", "mistakes.png"}


def test_the_whole_way_from_training_to_a_prediction(pictures: Path, tmp_path: Path) -> None:
    trained = json.loads(call("zoo", "train", "lenet-modern", "--epochs", "1", "--json").stdout)
    unpublished = call("zoo", "export", "lenet-modern", "--json")
    info = json.loads(call("runtime", "info", "-m", "lenet-modern", "--json").stdout)
    answer = json.loads(call("runtime", "predict", "-m", "lenet-modern", pictures / "1.png", "--json").stdout)[0]

    assert set(trained) >= {
        *("model", "recipe", "epochs", "test_accuracy", "seconds", "images_per_second", "checkpoint")
    }
    assert trained["test_accuracy"] > 0.8
    assert json.loads(unpublished.stdout)["accuracy"]["top1"] == pytest.approx(trained["test_accuracy"], abs=2e-4)
    assert (info["origin"], info["epochs"]) == ("user", 1)
    assert answer["label"] == "Pullover"


def test_nothing_that_a_library_prints_reaches_stdout(pictures: Path) -> None:
    program = (
        "import os, sys\nfrom runtime import images\nfrom runtime.cli import runtime\n"
        "original = images.to_pixels\n"
        "def chatty(*a, **k):\n    print('python chatter'); os.write(1, b'native chatter')\n"
        "    return original(*a, **k)\n"
        "import runtime.streaming as s\ns.to_pixels = chatty\n"
        f"runtime(['predict', {str(pictures / '0.png')!r}, '--json', '--device', 'cpu'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)

    assert json.loads(done.stdout)[0]["label"] == "Ankle boot"
    assert "python chatter" in done.stderr
    assert "native chatter" in done.stderr


def test_a_reader_that_leaves_early_is_no_error_of_ours(pictures: Path) -> None:
    command = f"{sys.executable} -m runtime predict {pictures / '0.png'} {pictures / '1.png'} | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT, check=False)

    assert "Traceback" not in done.stderr
    assert "Errno" not in done.stderr


def test_names_with_newlines_and_undecodable_bytes_are_answered(
    pictures: Path, test_images: npt.NDArray[np.uint8]
) -> None:
    import os

    odd = os.fsencode(pictures) + b"/odd\n\xff.png"
    with open(odd, "wb") as file:
        Image.fromarray(test_images[0]).save(file, "PNG")
    command = [sys.executable, "-m", "runtime", "predict", odd, "--jsonl", "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, cwd=ROOT, check=False)
    lines = done.stdout.splitlines()

    assert done.returncode == 0, done.stderr
    assert len(lines) == 1
    assert json.loads(lines[0])["label"] == "Ankle boot"
