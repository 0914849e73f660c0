"""The Dockerfile, without Docker: what it copies is enough for the wheel, and its commands start a server that it finds
healthy."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.running_server import require_serve

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")


def instructions(name: str) -> list[str]:
    return re.findall(rf"^{name} +(.*)$", DOCKERFILE, re.MULTILINE)


def test_it_serves_as_a_user_without_rights_and_a_check_asks_whether_it_is_ready():
    assert instructions("USER")[-1] not in ("0", "root")
    assert DOCKERFILE.index("\nUSER") > DOCKERFILE.index("pip install")
    assert "/v2/health/ready" in instructions("HEALTHCHECK")[0]
    assert not instructions("ADD")


def test_what_is_copied_and_not_ignored_is_enough_for_the_wheel(tmp_path):
    """Lost otherwise: an image that cannot be built, or a context of gigabytes."""
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [source for line in instructions("COPY") for source in line.split()[:-1]]
    for path in kept:
        assert path.split("/")[0] in copied
        target = tmp_path / "context" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / path).is_dir():
            shutil.copytree(ROOT / path, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / path, target)
    assert {path.split("/")[0] for path in kept} == set(copied)
    assert sum(path.stat().st_size for path in (tmp_path / "context").rglob("*") if path.is_file()) < 10_000_000
    wheels = []
    for source in (ROOT, tmp_path / "context"):
        folder = tmp_path / f"dist-{len(wheels)}"
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
        subprocess.run(command, check=True, capture_output=True, cwd=source)
        (wheel,) = folder.iterdir()
        wheels.append(wheel.read_bytes())

    assert wheels[0] == wheels[1]


@pytest.mark.skipif(os.name != "posix", reason="the image has a POSIX shell")
def test_its_commands_start_a_server_that_its_check_finds_healthy_and_a_stop_ends(tmp_path):
    """Lost otherwise: a container that is restarted for ever, or that waits ten seconds to be killed."""
    require_serve()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (checking,) = instructions("HEALTHCHECK")
    health = json.loads(checking.partition("CMD ")[2])
    assert health[0] == "python"
    environment = os.environ | {
        "PORT": str(port),
        "ZOO_HOME": str(tmp_path / "never-written"),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
    }

    def healthy() -> bool:
        asked = subprocess.run([sys.executable, *health[1:]], env=environment, capture_output=True, check=False)
        return asked.returncode == 0

    assert not healthy()
    arguments = [*json.loads(instructions("ENTRYPOINT")[0]), "-m", "lenet", "--device", "cpu"]
    with subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdout.readline().strip() == f"http://0.0.0.0:{port}".encode(), server.communicate()[1]
        assert healthy()
        began = time.monotonic()
        server.terminate()  # `exec`: the signal reaches the server, not a shell

        assert server.wait(60) == 0
        assert time.monotonic() - began < 30
    assert not healthy()
    assert not (tmp_path / "never-written").exists()
