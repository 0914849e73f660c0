"""Both commands where stdin, stdout or stderr is closed or full."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
FULL = Path("/dev/full")

needs_shell = pytest.mark.skipif(os.name == "nt", reason="Windows' shell closes no descriptors")


def in_shell(redirections: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = f"{shlex.join([sys.executable, *map(str, arguments)])} {redirections}"
    return subprocess.run(["sh", "-c", command], capture_output=True, text=True, cwd=ROOT, check=False)


@needs_shell
def test_with_stderr_closed_a_picture_is_answered_all_the_same(tmp_path, test_images):
    Image.fromarray(test_images[0]).save(tmp_path / "a.png")
    command = ["-m", "runtime", "predict", tmp_path / "a.png", tmp_path / "none.png", "--device", "cpu", "--json"]
    done = in_shell("2>&-", *command)

    assert [answer.get("label") for answer in json.loads(done.stdout)] == ["Ankle boot", None]
    assert done.returncode == 1


@needs_shell
def test_with_stderr_closed_zoo_prints_its_document_alone():
    done = in_shell("2>&-", "-m", "zoo", "verify", "lenet", "--images", "50", "--device", "cpu", "--json")

    assert (done.returncode, json.loads(done.stdout)["passed"]) == (0, True)


@needs_shell
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_no_file_that_is_opened_later_becomes_a_standard_stream(closed, tmp_path):
    program = (
        "import os, sys\n"
        "from runtime.cli.console import open_closed_streams\n"
        "open_closed_streams()\n"
        f"with open({str(tmp_path / 'opened')!r}, 'w') as file:\n"
        "    print('lost', file=sys.stderr, flush=True); print('lost', flush=True); os.write(2, b'lost')\n"
        "    file.write(str(file.fileno()))\n"
    )
    done = in_shell(closed, "-c", program)

    assert done.returncode == 0
    assert (tmp_path / "opened").read_text() == "3"


@pytest.mark.skipif(not FULL.is_char_device(), reason="this platform has no device that is always full")
@pytest.mark.parametrize(
    "arguments", [["runtime", "--help"], ["runtime", "--version"], ["runtime", "list", "-h"], ["zoo", "--version"]]
)
def test_a_help_page_that_does_not_fit_is_a_sentence(arguments):
    with FULL.open("wb") as full:
        run: dict[str, Any] = {"stdout": full, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT, "check": False}
        done = subprocess.run([sys.executable, "-m", *arguments], **run)

    assert (done.returncode, done.stderr) == (1, "Error: No space left on device\n")
