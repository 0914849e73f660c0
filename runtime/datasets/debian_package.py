"""Take files out of a Debian or Ubuntu package without root: apt fetches and verifies it, dpkg-deb unpacks it."""

import os
import shutil
import subprocess
from pathlib import Path

from runtime.errors import DatasetError

TIMEOUT_SECONDS = 600  # for one program
APT_OPTIONS = (
    "APT::Sandbox::User=root",  # else root's apt warns that its user _apt cannot write into our folder
    "APT::Update::Error-Mode=any",  # else an update that reached nothing counts as a success
    "Acquire::Languages=none",
    "Acquire::Retries=1",
    "Acquire::http::Timeout=10",
)


def unpack(package: str, scratch: Path) -> Path:
    """Fetch `package` and return the folder in `scratch` that holds its files as the root of a machine would.

    Nothing is installed and nothing outside `scratch` is written.

    Raises:
        DatasetError: this is no Debian or Ubuntu, or apt cannot get the package; the message is the tool's own.
    """
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise DatasetError("this machine has no apt-get and dpkg-deb")
    if _run(_apt_get(["download", package]), scratch):
        # The machine's package lists, which are root's, are too old, or missing as in most containers: get our own.
        (scratch / "lists" / "partial").mkdir(parents=True)
        (scratch / "cache" / "archives" / "partial").mkdir(parents=True)
        ours = (f"Dir::State::Lists={scratch / 'lists'}", f"Dir::Cache={scratch / 'cache'}")
        update = _run(_apt_get(["update"], *ours), scratch)
        # One dead source fails the update though another may have the package: the download decides.
        if download := _run(_apt_get(["download", package], *ours), scratch):
            raise DatasetError(update or download)
    unpacked = scratch / "unpacked"
    for archive in scratch.glob(f"{package}_*.deb"):
        if complaint := _run(["dpkg-deb", "-x", str(archive), str(unpacked)], scratch):
            raise DatasetError(complaint)
    return unpacked


def _apt_get(action: list[str], *options: str) -> list[str]:
    return ["apt-get", "-q", *(f"-o{option}" for option in APT_OPTIONS + options), *action]


def _run(command: list[str], folder: Path) -> str:
    """Run a program in `folder`, in silence. Return "" if it succeeded, and else the first error it wrote."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"{command[0]} was stopped after {TIMEOUT_SECONDS} seconds"
    if done.returncode == 0:
        return ""
    errors = (
        line.partition(":")[2].strip() for line in done.stderr.splitlines() if line.startswith(("E:", "dpkg-deb:"))
    )
    return next(errors, f"{command[0]} exited with {done.returncode}")
