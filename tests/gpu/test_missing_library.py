"""A GPU that cannot be used: exit 4 with what is missing, and with `auto` the CPU's answer with the reason."""

import os
import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest
from support.hidden_library import can_hide, copies, hiding

from runtime.session.device import LINKED_LIBRARIES, OPTIONAL_LIBRARIES

ROOT = Path(__file__).resolve().parents[2]
CUDA_MAJOR = str(getattr(onnxruntime, "cuda_version", "") or "13").split(".")[0]
LINKED = ["libcuda.so.1", *(name.format(cuda=CUDA_MAJOR) for name in LINKED_LIBRARIES)]

pytestmark = pytest.mark.cuda


def parity(*device: str, hidden: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "runtime", "parity", "-m", str(ROOT / "weights" / "lenet"), *device]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return subprocess.run(
        command if hidden is None else hiding(hidden, command),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": path} | environment,
        check=False,
    )


def require_hiding(library: str) -> None:
    if not can_hide():
        pytest.skip("hiding a library takes root, or user namespaces")
    if not copies(library):
        pytest.skip(f"there is no {library} here to hide")


@pytest.mark.parametrize("library", LINKED)
def test_a_library_that_every_network_needs_is_named_where_it_is_missing(library):
    require_hiding(library)
    refused, answered = parity("--device", "cuda", hidden=library), parity(hidden=library)

    assert (refused.returncode, refused.stdout) == (4, ""), refused.stderr
    assert library in refused.stderr
    assert answered.returncode == 0, answered.stderr
    assert "using the CPU: " in answered.stderr
    assert library in answered.stderr


@pytest.mark.parametrize("library", OPTIONAL_LIBRARIES)
def test_without_an_optional_part_of_cudnn_the_gpu_is_right_or_refused(library):
    require_hiding(library)
    asked, answered = parity("--device", "cuda", hidden=library), parity(hidden=library)

    assert asked.returncode in (0, 4), asked.stderr
    assert answered.returncode == 0, answered.stderr


def test_where_no_gpu_is_visible_the_cause_is_named():
    refused, answered = parity("--device", "cuda", CUDA_VISIBLE_DEVICES=""), parity(CUDA_VISIBLE_DEVICES="")

    assert (refused.returncode, refused.stdout) == (4, "")
    assert "the NVIDIA driver finds no usable GPU" in refused.stderr
    assert answered.returncode == 0
    assert "using the CPU: the NVIDIA driver finds no usable GPU" in answered.stderr
