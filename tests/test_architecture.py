"""The floors of the house: who may import whom, in one place, checked from the source and from the running code."""

import ast
import subprocess
import sys
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = {  # folder: what of the project and of the heavy libraries it may import; an inner folder has rules of its own
    "runtime": {"runtime", "numpy", "PIL", "click", "rich", "onnxruntime"},
    "runtime/serving": {
        "runtime",
        "numpy",
        "starlette",
        "anyio",
        "uvicorn",
        "orjson",
        "prometheus_client",
    },
    "export": {"runtime", "export", "numpy", "torch", "onnx", "onnxruntime"},
    "zoo": {"runtime", "export", "zoo", "numpy", "torch", "safetensors", "matplotlib", "click"},
}
# Beside that: the one file that runs what the runtime is compared with, each in a process of its own.
BESIDE = {"zoo/backends.py": {"onnxruntime", "openvino"}}
SERVING = ("starlette", "uvicorn", "httptools", "orjson", "prometheus_client", "python_multipart")
HEAVY = ("torch", "torchvision", "onnx", "onnxscript", "safetensors", "matplotlib", "zoo", "export", *SERVING)


def imports_of(path: Path) -> set[str]:
    """The top-level names of everything a file imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names)


def floor_of(path: Path) -> str:
    """The innermost folder of the matrix that a file is in."""
    return max((folder for folder in FLOORS if path.is_relative_to(ROOT / folder)), key=len)


@pytest.mark.parametrize("package", FLOORS)
def test_a_floor_imports_only_what_the_matrix_allows(package: str) -> None:
    strays = {}
    for path in (ROOT / package).rglob("*.py"):
        name = path.relative_to(ROOT).as_posix()
        if floor_of(path) == package:
            strays[name] = sorted(imports_of(path) - FLOORS[package] - BESIDE.get(name, set()))

    assert {name: imports for name, imports in strays.items() if imports} == {}


def test_the_import_reader_sees_imports_inside_functions(tmp_path: Path) -> None:
    source = tmp_path / "sneaky.py"
    source.write_text("def f():\n    from torch.nn import Module\n    import zoo.models as z\n")

    assert imports_of(source) == {"torch", "zoo"}


def test_only_the_serve_command_knows_the_server() -> None:
    knowing = {
        path.name
        for path in (ROOT / "runtime").rglob("*.py")
        if floor_of(path) == "runtime" and "runtime.serving" in path.read_text()
    }

    assert knowing == {"cli_serve.py"}


def run_blocked(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process in which every heavy library refuses to be imported."""
    block = f"import sys\nfor name in {HEAVY!r}: sys.modules[name] = None\n"
    return subprocess.run(
        [sys.executable, "-c", block + program], capture_output=True, text=True, cwd=ROOT, check=False
    )


def test_the_runtime_predicts_where_torch_and_onnx_cannot_be_imported() -> None:
    done = run_blocked(
        "import numpy\nfrom runtime import Classifier\n"
        "print(Classifier('lenet', device='cpu').logits(numpy.zeros((2, 1, 28, 28), numpy.uint8)).shape)"
    )

    assert (done.stdout, done.stderr) == ("(2, 10)\n", "")


def test_the_block_would_be_noticed() -> None:
    done = run_blocked("import torch")

    assert done.returncode == 1
    assert "torch" in done.stderr


@pytest.mark.parametrize("command", [["runtime", "--help"], ["runtime", "list"], ["runtime", "predict", "--help"]])
def test_commands_that_need_no_session_do_not_load_onnxruntime(command: list[str]) -> None:
    program = (
        f"import sys, runpy\nsys.argv = {command!r}\n"
        "try: runpy.run_module('runtime', run_name='__main__')\nexcept SystemExit as end: assert not end.code, end\n"
        "assert 'onnxruntime' not in sys.modules, 'onnxruntime was loaded'"
    )

    assert run_blocked(program).returncode == 0


@pytest.mark.parametrize(
    ("command", "module"),
    [
        (["predict", "nowhere.png", "--device", "cpu"], "cli_predict"),
        (["list"], "cli_list"),
        (["predict", "--help"], "cli_predict"),
        (["prdict"], None),
        (["--version"], None),
    ],
)
def test_a_command_does_not_wait_for_the_other_commands(command: list[str], module: str | None) -> None:
    program = (
        f"import sys\nfrom runtime.cli import runtime\ntry: runtime({command!r})\nexcept SystemExit: pass\n"
        "print([n for n in sys.modules if n.startswith('runtime.cli_')], file=sys.stderr)"
    )
    done = run_blocked(program)

    assert done.stderr.splitlines()[-1] == str([f"runtime.{module}"] if module else [])


def test_every_command_of_the_group_is_found_under_the_name_it_has() -> None:
    from runtime.cli import COMMANDS, runtime

    context = click.Context(runtime)
    found = {name: runtime.get_command(context, name) for name in runtime.list_commands(context)}

    assert {name: command and command.name for name, command in found.items()} == {name: name for name in COMMANDS}


def test_zoo_help_does_not_wait_for_torch() -> None:
    program = (
        "import sys\nfrom zoo.cli import zoo\n"
        "try: zoo(['--help'])\nexcept SystemExit: pass\n"
        "assert 'torch' not in sys.modules, 'torch was loaded'"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)

    assert (done.returncode, done.stderr) == (0, "")


def test_zoo_without_its_extra_names_the_install_line() -> None:
    program = (
        "import importlib.util as u\nfind = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name in ('torch', 'onnx') else find(name, *rest)\n"
        "from zoo.__main__ import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)

    assert done.returncode == 1
    assert done.stderr == (
        "Error: the zoo command needs torch, onnx, which the base install leaves out: pip install 'fashion-zoo[zoo]'\n"
    )


def test_serve_without_its_extra_names_the_install_line() -> None:
    program = (
        "import importlib.util as u\nfind = u.find_spec\n"
        f"u.find_spec = lambda name, *rest: None if name in {SERVING!r} else find(name, *rest)\n"
        "from runtime.cli import runtime\nruntime(['serve'])"
    )
    done = run_blocked(program)

    assert done.returncode == 1
    assert done.stderr == (
        "Error: runtime serve needs httptools, orjson, prometheus_client, python_multipart, starlette, uvicorn, which "
        "the base install leaves out: pip install 'fashion-zoo[serve]'\n"
    )
