"""A command runs no file of the folder it is started in, however that file is called."""

import os
import subprocess
from pathlib import Path

import pytest
from support.command_line import python

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
# Names that people give to scripts of their own, and those of modules that commands and their children need.
NAMES = ("export", "runtime", "zoo", "json", "torch", "numpy", "onnx", "onnxruntime", "click", "rich", "PIL", "random")
CHECKPOINT = ROOT / "weights" / "lenet" / "checkpoint.safetensors"
QUICK = ["--device", "cpu", "--batch-size", "1", "--min-seconds", "0", "--min-runs", "1", "--json"]
STARTS_CHILDREN = {
    "cold starts": ["runtime", "bench", "-m", "lenet", *QUICK],
    "other backends": ["zoo", "bench", "lenet", *QUICK, "--compare", "onnxruntime,torch"],
    "live parity": ["zoo", "parity", str(ROOT / "weights" / "lenet"), "--device", "cpu"],
    "sandbox": ["zoo", "verify", "lenet", "--images", "16"],
    "export": ["zoo", "export", "lenet", "--checkpoint", str(CHECKPOINT), "-o", "weights"],
}


class Folder:
    """A working folder with a Python file of each name; one that is imported leaves its name behind."""

    def __init__(self, path: Path) -> None:
        self.path, self._marker = path, path / "imported.txt"
        for name in NAMES:
            (path / f"{name}.py").write_text(
                f"with open({str(self._marker)!r}, 'a') as file:\n    file.write({name!r})\n"
            )

    def run(self, *command: object) -> subprocess.CompletedProcess[str]:
        variables = os.environ | {"PYTHONPATH": str(ROOT), "ZOO_HOME": str(self.path / "home")}
        return python(*command, cwd=self.path, env=variables, timeout=300)

    def imported(self) -> str:
        return self._marker.read_text() if self._marker.exists() else ""


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    (tmp_path / "work").mkdir()
    return Folder(tmp_path / "work")


@pytest.mark.parametrize("name", STARTS_CHILDREN)
def test_neither_a_command_nor_its_children_import_a_file_of_the_users(folder, tmp_path, fashion_mnist_dir, name):
    program, *arguments = STARTS_CHILDREN[name]
    script = tmp_path / program  # as pip writes it: Python puts its folder first, not the working folder
    script.write_text(f"from {program}.__main__ import main\nmain()\n")
    done = folder.run(script, *arguments)

    assert (done.returncode, folder.imported()) == (0, ""), done.stderr
    assert "not run" not in done.stderr


@pytest.mark.parametrize("arguments", [["runtime", "list"], ["runtime", "parity", "-m", "lenet"], ["zoo", "list"]])
@pytest.mark.parametrize("flags", [[], ["-P"]])
def test_python_m_imports_nothing_there_but_what_has_the_name_of_the_package_itself(folder, arguments, flags):
    if not flags:
        (folder.path / f"{arguments[0]}.py").unlink()  # Python looks for it there before a line of ours is run
    done = folder.run(*flags, "-m", *arguments)

    assert (done.returncode, folder.imported()) == (0, ""), done.stderr


def test_python_m_in_a_checkout_finds_the_packages_beside_each_other():
    program = (
        "import runpy, sys; sys.argv = ['zoo', 'list']; runpy.run_module('zoo', run_name='__main__', alter_sys=True)"
    )
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for command in (["-m", "zoo", "list"], ["-c", program]):
        done = python(*command, env=variables)
        assert (done.returncode, "lenet" in done.stdout) == (0, True), done.stderr
