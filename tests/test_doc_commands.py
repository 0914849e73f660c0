"""Every command and program that README and documentation show runs as it stands, in what looks like a clone."""

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command_line import python
from support.doc_pages import ROOT, Block, blocks, pages
from support.running_server import require_serve

from export.verification.speed import adds_products_in_32_bits

pytestmark = pytest.mark.slow

# `make` and `pip` set a machine up, or would start these very tests: tests/test_docs.py says that what they name is
# there, and the test at the end installs.
SET_UP = ("make ", "pip ")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with links to what a clone holds, so that what the commands write is not in ours."""
    folder = tmp_path_factory.mktemp("clone")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    for name in {Path(path).parts[0] for path in tracked} or {path.name for path in ROOT.iterdir()}:
        (folder / name).symlink_to(ROOT / name)
    return folder


@pytest.fixture(scope="module")
def done() -> set[str]:
    """The commands that have been run: one that several pages show is run once."""
    return set()


def environment(folder: Path) -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "ZOO_HOME": str(folder / ".zoo")}


def commands(block: Block) -> Iterator[str]:
    """The lines of a block, a continued one as one."""
    for line in block.text.replace("\\\n", " ").splitlines():
        if line.strip() and not line.lstrip().startswith("#") and not line.startswith(SET_UP):
            yield line


def run_block(block: Block, folder: Path, done: set[str]) -> str:
    """Run the commands that have not been run yet; a server stays up until the block ends. Returns what they print."""
    printed, server = "", None
    try:
        for command in commands(block):
            if command in done:
                continue
            if command.startswith("runtime serve"):
                require_serve()
                server = subprocess.Popen(
                    command.split(),
                    cwd=folder,
                    env=environment(folder),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
                assert server.stdout is not None
                if not server.stdout.readline():
                    said = server.communicate()[1]
                    if "cannot listen" in said:
                        pytest.skip(f"another program has the port: {said}")
                    pytest.fail(said)
                continue
            ended = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", command],
                cwd=folder,
                env=environment(folder),
                capture_output=True,
                text=True,
                timeout=900,
                check=False,
            )
            assert ended.returncode == 0, f"{command}\n{ended.stdout}\n{ended.stderr}"
            printed += ended.stdout
            done.add(command)
    finally:
        if server is not None:
            server.terminate()
            server.communicate(timeout=60)
    return printed


@pytest.mark.parametrize("page", pages())
def test_the_commands_of_a_page_run_as_they_stand(page, clone, done):
    """Lost otherwise: a reader who types what is printed, and gets an error."""
    if page == "docs/how-to/precision.md" and not adds_products_in_32_bits():
        pytest.skip("this CPU has no VNNI, so the check of parity refuses files in int8")
    for block in blocks(page):
        if block.language == "sh" and not block.reason:
            printed = run_block(block, clone, done)
            if block.output is not None and printed:
                assert printed == block.output
        elif block.language == "python" and not block.reason:
            ended = python("-c", block.text, cwd=clone, env=environment(clone))
            assert ended.returncode == 0, f"{block.text}\n{ended.stderr}"
            assert ended.stdout.strip()


def test_the_first_command_of_the_readme_installs_what_the_second_needs(tmp_path):
    """`pip install -e .` in a fresh environment, then a prediction by a model that no wheel carries, as users do."""
    index = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple").rstrip("/")
    try:
        urllib.request.urlopen(f"{index}/click/", timeout=10).close()
    except OSError as error:
        pytest.skip(f"there is no package index to install from: {error}")
    python = tmp_path / "venv" / "bin" / "python"
    bare = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    for command in (
        [sys.executable, "-m", "venv", tmp_path / "venv"],
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-e", ROOT],
        [python.parent / "runtime", "predict", "-m", "vgg11", ROOT / "examples" / "shoe.png"],
    ):
        ended = subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path, env=bare, timeout=900, check=False
        )
        assert ended.returncode == 0, ended.stderr

    assert "Ankle boot" in ended.stdout
