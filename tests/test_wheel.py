"""The wheel: with nothing but the base dependencies beside it, it predicts, offline, with the models it carries."""

import importlib.metadata
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from runtime.store import SHIPPED

ROOT = Path(__file__).resolve().parents[1]
ONNXRUNTIMES = ("onnxruntime-gpu", "onnxruntime")


def requirements_of(name: str, seen: set[str]) -> set[str]:
    """A distribution's requirements, and theirs, without extras."""
    from packaging.requirements import Requirement

    for line in importlib.metadata.requires(name) or []:
        requirement = Requirement(line)
        marker = requirement.marker
        if requirement.name not in seen and (marker is None or marker.evaluate({"extra": ""})):
            seen.add(requirement.name)
            requirements_of(requirement.name, seen)
    return seen


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", str(ROOT), "--no-deps", "--no-build-isolation", "-q", "-w", folder]
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"})
    (built,) = folder.glob("fashion_zoo-*.whl")
    return built


@pytest.fixture(scope="module")
def empty_environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to import from, with the wheel's content and links to its base requirements, and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    for name in requirements_of("fashion-zoo", set()):
        distribution = importlib.metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or [] if file.parts[0] not in ("..", "__pycache__")}:
            link = folder / top
            if not link.exists():
                link.symlink_to(Path(str(distribution.locate_file(top))).resolve())
    return folder


def run(environment: Path, home: Path, program: str) -> subprocess.CompletedProcess[str]:
    """Run a program that can import from the environment and the standard library alone, without a network proxy."""
    path = f"import sys\nsys.path[:] = [p for p in sys.path if 'site-packages' not in p] + [{str(environment)!r}]\n"
    command = [sys.executable, "-I", "-S", "-c", path + program]
    variables = {"ZOO_HOME": str(home), "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, capture_output=True, text=True, cwd=home, env=variables, check=False)


def test_the_base_requirements_are_few_and_hold_one_onnxruntime() -> None:
    required = requirements_of("fashion-zoo", set())

    assert not required & {"torch", "torchvision", "onnx", "onnxscript", "matplotlib", "safetensors"}
    assert len(required & set(ONNXRUNTIMES)) == 1


def test_the_wheel_predicts_offline_with_each_model_it_carries(
    empty_environment: Path, tmp_path: Path, test_images: npt.NDArray[np.uint8]
) -> None:
    Image.fromarray(test_images[0]).save(tmp_path / "boot.png")
    for model in (None, *SHIPPED):
        arguments = ["predict", "boot.png", "--json", "--device", "cpu", *(["-m", model] if model else [])]
        done = run(empty_environment, tmp_path, f"from runtime.cli import runtime\nruntime({arguments!r})")

        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)[0]["label"] == "Ankle boot"


def test_the_wheels_models_are_found_in_the_wheel(empty_environment: Path, tmp_path: Path) -> None:
    done = run(empty_environment, tmp_path, "from runtime.cli import runtime\nruntime(['list', '--json'])")

    assert {(row["name"], row["origin"]) for row in json.loads(done.stdout)} == {(name, "wheel") for name in SHIPPED}


@pytest.mark.parametrize("model", SHIPPED)
def test_the_wheel_carries_what_parity_compares(empty_environment: Path, tmp_path: Path, model: str) -> None:
    arguments = ["parity", "-m", model, "--device", "cpu", "--json"]
    done = run(empty_environment, tmp_path, f"from runtime.cli import runtime\nruntime({arguments!r})")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["passed"] is True


def test_without_the_extra_zoo_names_the_install_line(empty_environment: Path, tmp_path: Path) -> None:
    done = run(empty_environment, tmp_path, "from zoo.__main__ import main\nmain()")

    assert done.returncode == 1
    assert "pip install 'fashion-zoo[zoo]'" in done.stderr


def test_the_wheel_carries_types_license_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()

    assert {"runtime/py.typed", "export/py.typed", "zoo/py.typed"} <= set(names)
    assert any(name.endswith("LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "weights/"))]
    assert wheel.stat().st_size < 2_000_000


def test_no_combination_of_extras_asks_for_two_onnxruntimes() -> None:
    from packaging.requirements import Requirement

    lines = [Requirement(line) for line in importlib.metadata.requires("fashion-zoo") or []]
    for system, machine in [("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"), ("win32", "AMD64")]:
        wanted = set()
        for extra in ("", "zoo", "cuda", "dev"):
            where = {"sys_platform": system, "platform_machine": machine, "extra": extra}
            wanted |= {line.name for line in lines if line.marker is None or line.marker.evaluate(where)}

        assert len(wanted & set(ONNXRUNTIMES)) == 1, (system, machine)
