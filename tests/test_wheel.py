"""The wheel: with nothing but the base dependencies beside it, it predicts, offline, with the models it carries."""

import email
import importlib.metadata
import io
import json
import os
import subprocess
import sys
import tarfile
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from runtime import __version__
from runtime.model.registry import SHIPPED

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "runtime" / "serving" / "static"
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


def build(source: Path, into: Path, **variables: str) -> dict[str, bytes]:
    """Build wheel and sdist; return their content by name."""
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(into)]
    subprocess.run(command, check=True, capture_output=True, cwd=source, env=os.environ | variables)
    return {path.name: path.read_bytes() for path in into.iterdir()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist of this checkout."""
    folder = tmp_path_factory.mktemp("dist")
    build(ROOT, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (path,) = built.glob("fashion_zoo-*.whl")
    return path


@pytest.fixture(scope="module")
def empty_environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to import from, with the wheel's content and links to its base requirements, and nothing else."""
    return installed(wheel, requirements_of("fashion-zoo", set()), tmp_path_factory.mktemp("environment"))


def installed(wheel: Path, requirements: set[str], folder: Path) -> Path:
    """Put the wheel's content and links to the requirements into a folder."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    for name in requirements:
        distribution = importlib.metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or [] if file.parts[0] not in ("..", "__pycache__")}:
            link = folder / top
            if not link.exists():
                link.symlink_to(Path(str(distribution.locate_file(top))).resolve())
    return folder


def isolated(environment: Path, home: Path, program: str) -> dict[str, Any]:
    """How to start a program that can import from the environment and the standard library alone."""
    path = f"import sys\nsys.path[:] = [p for p in sys.path if 'site-packages' not in p] + [{str(environment)!r}]\n"
    command = [sys.executable, "-I", "-S", "-c", path + program]
    return {"args": command, "text": True, "cwd": home, "env": {"ZOO_HOME": str(home), "PATH": "/usr/bin:/bin"}}


def run(environment: Path, home: Path, program: str) -> subprocess.CompletedProcess[str]:
    """Run such a program to its end."""
    return subprocess.run(**isolated(environment, home, program), capture_output=True, check=False)


def test_the_base_requirements_are_few_and_hold_one_onnxruntime():
    required = requirements_of("fashion-zoo", set())

    assert not required & {"torch", "torchvision", "onnx", "onnxscript", "matplotlib", "safetensors"}
    assert len(required & set(ONNXRUNTIMES)) == 1


def test_the_wheel_predicts_offline_with_each_model_it_carries(empty_environment, tmp_path, test_images):
    Image.fromarray(test_images[0]).save(tmp_path / "boot.png")
    for model in (None, *SHIPPED):
        arguments = ["predict", "boot.png", "--json", "--device", "cpu", *(["-m", model] if model else [])]
        done = run(empty_environment, tmp_path, f"from runtime.cli import runtime\nruntime({arguments!r})")

        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)[0]["label"] == "Ankle boot"


def test_the_wheels_models_are_found_in_the_wheel(empty_environment, tmp_path):
    done = run(empty_environment, tmp_path, "from runtime.cli import runtime\nruntime(['list', '--json'])")

    assert {(row["name"], row["origin"]) for row in json.loads(done.stdout)} == {(name, "wheel") for name in SHIPPED}


@pytest.mark.parametrize("model", SHIPPED)
def test_the_wheel_carries_what_parity_compares(empty_environment, tmp_path, model):
    arguments = ["parity", "-m", model, "--device", "cpu", "--json"]
    done = run(empty_environment, tmp_path, f"from runtime.cli import runtime\nruntime({arguments!r})")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["passed"] is True


def test_without_the_extra_zoo_names_the_install_line(empty_environment, tmp_path):
    done = run(empty_environment, tmp_path, "from zoo.__main__ import main\nmain()")

    assert done.returncode == 1
    assert done.stderr == (
        "Error: the zoo command needs torch, onnx, onnxscript, safetensors, matplotlib, which the base install leaves "
        "out: pip install -e '.[zoo]' in a clone of the repository\n"
    )


def test_the_wheel_has_the_version_that_the_commands_print(wheel):
    assert wheel.name.startswith(f"fashion_zoo-{__version__}-")


def test_the_wheel_carries_types_license_and_no_tests(wheel):
    names = zipfile.ZipFile(wheel).namelist()

    assert {"runtime/py.typed", "export/py.typed", "zoo/py.typed"} <= set(names)
    assert {"runtime/serving/static/index.html", "export/deploy/browser/model.js"} <= set(names)
    assert any(name.endswith("LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "weights/"))]
    assert wheel.stat().st_size < 2_000_000


def test_no_combination_of_extras_asks_for_two_onnxruntimes():
    from packaging.requirements import Requirement

    lines = [Requirement(line) for line in importlib.metadata.requires("fashion-zoo") or []]
    for system, machine in [("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"), ("win32", "AMD64")]:
        wanted = set()
        for extra in ("", "zoo", "cuda", "serve", "dev"):
            where = {"sys_platform": system, "platform_machine": machine, "extra": extra}
            wanted |= {line.name for line in lines if line.marker is None or line.marker.evaluate(where)}

        assert len(wanted & set(ONNXRUNTIMES)) == 1, (system, machine)


def test_the_same_bytes_are_built_twice_and_from_the_sdist_alone(built, tmp_path):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()
    for path in unpacked.rglob("*"):  # another day, another umask
        path.chmod(0o700 if path.is_dir() else 0o600)
        os.utime(path, (1.7e9, 1.7e9))
    again = build(unpacked, tmp_path / "dist", TZ="Asia/Kathmandu")

    assert again == {path.name: path.read_bytes() for path in built.iterdir()}
    assert len(again) == 2


def test_the_wheel_carries_the_page_whole(wheel):
    page = {f"runtime/serving/static/{path.relative_to(PAGE).as_posix()}" for path in PAGE.rglob("*") if path.is_file()}

    assert len(page) >= 15
    assert page <= set(zipfile.ZipFile(wheel).namelist())


def test_the_installed_wheel_serves_with_the_extra_alone(wheel, tmp_path, test_images):
    from packaging.requirements import Requirement

    (metadata,) = [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".dist-info/METADATA")]
    stated = email.message_from_bytes(zipfile.ZipFile(wheel).read(metadata)).get_all("Requires-Dist", [])
    wanted = [Requirement(line) for line in stated]
    names = {line.name for line in wanted if line.marker is None or line.marker.evaluate({"extra": "serve"})}
    for name in list(names):
        try:
            requirements_of(name, names)
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"the extra serve is not installed: no {name}")
    environment = installed(wheel, names, tmp_path / "environment")
    program = "from runtime.cli import runtime\nruntime(['serve', '--device', 'cpu', '--port', '0'])"
    picture = io.BytesIO()
    Image.fromarray(test_images[0]).save(picture, "PNG")
    with subprocess.Popen(
        **isolated(environment, tmp_path, program), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:"), process.communicate()[1]
        with urllib.request.urlopen(f"{url}/predict", picture.getvalue()) as answer:
            assert json.load(answer)["label"] == "Ankle boot"
        with urllib.request.urlopen(f"{url}/models") as answer:
            assert [model["name"] for model in json.load(answer)] == ["lenet-modern", "lenet"]
        with urllib.request.urlopen(url) as answer:
            assert b"<h1>Fashion Zoo</h1>" in answer.read()
        process.terminate()

        assert process.wait(60) == 0
