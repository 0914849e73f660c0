"""Who may import whom: one direction through the packages and their sub-packages, and which libraries each may use.

Read from the source, imports inside functions and for type checking included, and from the running code.
"""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import click
import pytest
from support.command_line import python

from tools.code_map import PAGE, with_map

ROOT = Path(__file__).resolve().parents[1]
SERVING = ("starlette", "uvicorn", "httptools", "orjson", "prometheus_client", "python_multipart")
LIBRARIES = {  # package or sub-package: the libraries beside Python's own; the innermost entry counts
    "runtime": {"numpy", "PIL", "click", "rich", "onnxruntime"},
    "runtime/serving": {"numpy", "anyio", *SERVING},
    "export": {"numpy", "torch", "onnx", "onnx_ir", "onnxscript", "onnxruntime", "google"},
    "zoo": {"numpy", "torch", "safetensors", "matplotlib", "click"},
    "zoo/benchmark": {"numpy", "torch", "onnxruntime", "openvino"},
}
BELOW = {"runtime": {"runtime"}, "export": {"runtime", "export"}, "zoo": {"runtime", "export", "zoo"}}
HEAVY = ("torch", "torchvision", "onnx", "onnxscript", "safetensors", "matplotlib", "zoo", "export", *SERVING)
MOST_NAMES = 15  # at the top of a package: what a newcomer sees first
MOST_FILES = 14  # from a picture to its label


def sources() -> dict[str, Path]:
    """Every module of the three packages by its dotted name."""
    found = {}
    for package in BELOW:
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


SOURCES = sources()


def imports_of(source: str) -> set[str]:
    """The dotted names of everything a source imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.update(
                name if (name := f"{node.module}.{alias.name}") in SOURCES else node.module for alias in node.names
            )
    return names


def room(module: str) -> str:
    """The sub-package of a module, or the module itself at the top of a package."""
    return ".".join(module.split(".")[:2])


def test_imports_go_one_way_through_modules_and_sub_packages():
    modules = {name: imports_of(path.read_text()) & SOURCES.keys() - {name} for name, path in SOURCES.items()}
    rooms: dict[str, set[str]] = {}
    for name, imported in modules.items():
        rooms.setdefault(room(name), set()).update(room(each) for each in imported if room(each) != room(name))
    for graph in (modules, rooms):
        try:
            tuple(TopologicalSorter(graph).static_order())
        except CycleError as error:
            pytest.fail(f"a cycle of imports: {' -> '.join(error.args[1])}")


def test_a_package_imports_only_those_below_it_and_its_own_libraries():
    strays = {}
    for name, path in SOURCES.items():
        place = path.relative_to(ROOT)
        allowed = LIBRARIES[max((each for each in LIBRARIES if place.is_relative_to(each)), key=len)]
        tops = {each.split(".")[0] for each in imports_of(path.read_text())} - set(sys.stdlib_module_names)
        if stray := tops - allowed - BELOW[name.split(".")[0]]:
            strays[name] = stray

    assert strays == {}


@pytest.mark.parametrize("package", BELOW)
def test_the_top_of_a_package_fits_into_one_look(package):
    shown = {path.stem for path in (ROOT / package).iterdir()} - {"__init__", "__main__", "__pycache__", "py"}

    assert len(shown) <= MOST_NAMES, sorted(shown)


def test_the_map_of_the_code_is_that_of_the_code():
    assert PAGE.read_text() == with_map(PAGE.read_text()), "run `python -m tools.code_map`"


def test_only_the_serve_command_imports_the_server():
    importing = {
        name
        for name, path in SOURCES.items()
        if not name.startswith("runtime.serving")
        and any(each.startswith("runtime.serving") for each in imports_of(path.read_text()))
    }

    assert importing == {"runtime.cli.serve"}


def run_blocked(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process in which every heavy library refuses to be imported."""
    block = f"import sys\nfor name in {HEAVY!r}: sys.modules[name] = None\n"
    return python("-c", block + program)


def test_the_runtime_predicts_where_torch_and_onnx_cannot_be_imported():
    done = run_blocked(
        "import numpy\nfrom runtime import Classifier\n"
        "print(Classifier('lenet', device='cpu').logits(numpy.zeros((2, 1, 28, 28), numpy.uint8)).shape)"
    )

    assert (done.stdout, done.stderr) == ("(2, 10)\n", "")


@pytest.mark.parametrize("command", [["runtime", "--help"], ["runtime", "list"], ["runtime", "predict", "--help"]])
def test_commands_that_need_no_session_do_not_load_onnxruntime(command):
    program = (
        f"import sys, runpy\nsys.argv = {command!r}\n"
        "try: runpy.run_module('runtime', run_name='__main__')\nexcept SystemExit as end: assert not end.code, end\n"
        "assert 'onnxruntime' not in sys.modules, 'onnxruntime was loaded'"
    )

    assert run_blocked(program).returncode == 0


@pytest.mark.parametrize(
    ("command", "module"),
    [
        (["predict", "nowhere.png", "--device", "cpu"], "predict"),
        (["list"], "list"),
        (["predict", "--help"], "predict"),
        (["prdict"], None),
        (["--version"], None),
    ],
)
def test_a_command_does_not_wait_for_the_other_commands(command, module):
    program = (
        f"import sys\nfrom runtime.cli import COMMANDS, runtime\n"
        f"try: runtime({command!r})\nexcept SystemExit: pass\n"
        "modules = {place.partition(':')[0] for place in COMMANDS.values()}\n"
        "print(sorted(modules & set(sys.modules)), file=sys.stderr)"
    )
    done = run_blocked(program)

    assert done.stderr.splitlines()[-1] == str([f"runtime.cli.{module}"] if module else [])


def files_entered(program: str) -> list[str]:
    """The project's files that a program imports, without the packages' own `__init__` and `__main__`."""
    program += (
        "\nimport sys\nfound = {name for name, module in sys.modules.items() if name.startswith(('runtime', 'export', "
        "'zoo')) and not str(getattr(module, '__file__', None)).endswith(('__init__.py', '__main__.py', 'None'))}\n"
        "print(*sorted(found), file=sys.stderr)"
    )
    done = python("-c", program)
    return done.stderr.splitlines()[-1].split()


def test_a_picture_passes_few_files_on_its_way_to_a_label():
    picture = ROOT / "runtime" / "serving" / "static" / "examples"
    path = next(picture.glob("*.png"))
    entered = files_entered(
        f"from runtime.cli import runtime\ntry: runtime(['predict', {str(path)!r}])\nexcept SystemExit: pass"
    )

    assert "runtime.imaging.preprocess" in entered
    assert "runtime.imaging.photo" not in entered  # the file of a garment network does not wait for it
    assert len(entered) <= MOST_FILES, entered


def test_every_command_of_the_group_is_found_under_the_name_it_has():
    from runtime.cli import COMMANDS, runtime

    context = click.Context(runtime)
    found = {name: runtime.get_command(context, name) for name in runtime.list_commands(context)}

    assert {name: command and command.name for name, command in found.items()} == {name: name for name in COMMANDS}


def test_zoo_help_does_not_wait_for_torch():
    program = (
        "import sys\nfrom zoo.cli import zoo\n"
        "try: zoo(['--help'])\nexcept SystemExit: pass\n"
        "assert 'torch' not in sys.modules, 'torch was loaded'"
    )
    done = python("-c", program)

    assert (done.returncode, done.stderr) == (0, "")


def test_serve_without_its_extra_names_the_install_line():
    program = (
        "import importlib.util as u\nfind = u.find_spec\n"
        f"u.find_spec = lambda name, *rest: None if name in {SERVING!r} else find(name, *rest)\n"
        "from runtime.cli import runtime\nruntime(['serve'])"
    )
    done = run_blocked(program)

    assert done.returncode == 1
    assert done.stderr == (
        "Error: runtime serve needs httptools, orjson, prometheus_client, python_multipart, starlette, uvicorn, which "
        "the base install leaves out: pip install -e '.[serve]' in a clone of the repository\n"
    )
