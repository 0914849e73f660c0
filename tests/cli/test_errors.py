"""Whatever goes wrong in either command is one sentence and the right exit code."""

import shlex
import subprocess
import sys
from functools import partial

import pytest
from click.testing import CliRunner
from support.command_line import ROOT, call

from runtime.cli.console import Command

pytestmark = pytest.mark.usefixtures("empty_home")


ERRORS: list[tuple[str, list[str], int, str]] = [
    ("runtime", ["predict"], 2, "Missing argument"),
    ("runtime", ["predict", "a.png", "--json", "--csv"], 2, "exclude each other"),
    ("runtime", ["predict", "-m", "lenat", "a.png"], 1, "did you mean 'lenet'? Models here: lenet, lenet-modern"),
    ("runtime", ["predict", "-m", "nin", "a.png"], 1, "'nin' on this machine; models here: lenet, "),
    ("runtime", ["predict", "-m", "nin", "a.png"], 1, "; `zoo train` and `zoo export` make others"),
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
    ("zoo", ["train", "lenet", "--device", "mps"], 4, "Apple's GPUs are not supported; use --device cpu"),
    ("runtime", ["info", "--device", "mps:0"], 4, "Apple's GPUs are not supported; use cpu"),
    ("zoo", ["train", "lenet", "--precision", "fp8"], 2, "'fp8' is not one of 'fp32', 'bf16'"),
    ("zoo", ["train", "lenet", "--seeds", "0"], 2, "0 is not in the range x>=1"),
    ("zoo", ["train", "lenet", "--seed", "4294967295", "--seeds", "2"], 2, "from 0 to 2**32 - 1, not 4294967296"),
    ("zoo", ["train", "lenet", "--val-split", "-b", "50001"], 2, "larger than the 50000 training images"),
    ("zoo", ["export", "lenet-max"], 1, "run `zoo train lenet-max`"),
    ("zoo", ["export", "lenet", "--checkpoint", "nowhere.safetensors"], 1, "no checkpoint at nowhere.safetensors"),
    ("zoo", ["export", "lenet", "--opset", "12"], 2, "should be from 18 to 23, as PyTorch's exporter writes, not 12"),
    ("zoo", ["verify", "lenet", "--onnx", "nowhere.onnx"], 1, "no model file at nowhere.onnx"),
    ("zoo", ["verify", "lenet", "-o", f"{__file__}/report.json"], 1, f"{__file__}/report.json: "),
    ("runtime", ["predict", "a.png", "--show", f"{__file__}/seen.png"], 1, f"{__file__}/seen.png: "),
    ("zoo", ["verify", "lenet-max"], 1, "make one with `zoo train lenet-max` and `zoo export lenet-max`"),
    ("zoo", ["publish", "lenet"], 1, "run `zoo export lenet` first"),
]


@pytest.mark.parametrize(("group", "arguments", "code", "sentence"), ERRORS)
def test_bad_input_gets_a_sentence_and_its_exit_code_and_nothing_on_stdout(
    group, arguments, code, sentence, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    result = call(group, *arguments)

    assert (result.exit_code, result.stdout) == (code, ""), result.output
    assert sentence in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", [["runtime", "accuracy"], ["zoo", "eval", "lenet"], ["zoo", "verify", "lenet"]])
def test_a_device_that_is_not_there_exits_with_4(command):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    result = call(*command, "--device", "cuda")

    assert (result.exit_code, result.stdout) == (4, "")


def test_a_fault_that_nobody_foresaw_is_a_sentence_too():
    def fail() -> None:
        raise RecursionError("too\n deep")

    command = Command("fail", callback=fail)
    short, long = (CliRunner().invoke(command, arguments) for arguments in ([], ["--debug"]))

    assert (short.exit_code, short.stdout) == (1, "")
    assert short.stderr == "Error: RecursionError: too deep; --debug shows where\n"
    assert "Traceback" in long.stderr
    assert 'raise RecursionError("too' in long.stderr


def test_ctrl_c_while_a_library_in_c_is_imported_is_no_fault_of_that_library():
    def fail(cause: BaseException) -> None:
        raise ImportError("initialization failed") from cause

    interrupted, broken = (
        CliRunner().invoke(Command("fail", callback=partial(fail, cause)), [])
        for cause in (KeyboardInterrupt(), OSError("no such library"))
    )

    assert (interrupted.exit_code, interrupted.stderr.strip()) == (1, "Aborted!")
    assert broken.stderr == "Error: ImportError: initialization failed; --debug shows where\n"


@pytest.mark.parametrize("arguments", [["list"], ["list", "--json"]])
def test_a_closed_stdout_is_no_crash(arguments):
    command = f"{shlex.quote(sys.executable)} -m runtime {' '.join(arguments)} >&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, cwd=ROOT, check=False)

    assert "Traceback" not in done.stderr
    assert done.returncode == 0


@pytest.mark.parametrize("letter", ["A", "a b", "\u00e9", "/x"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["predict", "-m", "lenet", "LONG"],
        ["predict", "-m", "LONG", "x.png"],
        ["predict", "--device", "LONG", "x.png"],
        ["predict", "--topk", "LONG", "x.png"],
        ["accuracy", "LONG"],
        ["serve", "--host", "LONG"],
        ["LONG"],
        ["predict", "--LONG"],
    ],
)
def test_a_name_of_a_hundred_thousand_letters_is_not_printed_whole(arguments, letter):
    """Without the cut, the sentence on what is wrong is lost in a screenful of base64."""

    result = call("runtime", *[argument.replace("LONG", letter * 100_000) for argument in arguments])

    assert result.exit_code in (1, 2)
    assert "rror: " in result.output
    assert len(result.output) < 5000
    if " " not in letter:
        assert len(result.output) < 1000
