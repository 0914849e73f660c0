"""Run a command that does not see a library, in a mount namespace of its own in which /dev/null covers each copy."""

import os
import subprocess
import sys
from pathlib import Path

_UNSHARE = ["unshare", "--mount", *(["--map-root-user"] if os.geteuid() else []), "sh", "-c"]


def copies(library: str) -> list[Path]:
    """Return every file of this name, or of a version of it, where the loader or a Python package may have it."""
    listed = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=False).stdout
    found = {Path(line.partition(" => ")[2]) for line in listed.splitlines() if line.strip().startswith(library)}
    folders = [Path(entry, part) for entry in sys.path if entry for part in ("nvidia", "torch/lib", "onnxruntime/capi")]
    folders += [Path(entry) for entry in os.environ.get("LD_LIBRARY_PATH", "").split(":") if entry]
    folders += [folder for root in ("/usr/local", "/opt") for folder in Path(root).glob("*cuda*")]
    for folder in folders:
        found.update(folder.rglob(f"{library}*"))
    return sorted({path.resolve() for path in found if path.is_file()})


def hiding(library: str, command: list[str]) -> list[str]:
    """Return the command that runs `command` without this library."""
    covers = [f"mount --bind /dev/null '{path}'" for path in copies(library)]
    return [*_UNSHARE, " && ".join([*covers, 'exec "$@"']), "sh", *command]


def can_hide() -> bool:
    """Return whether a mount namespace can be had here: it takes root, or user namespaces."""
    covered = f"mount --bind /dev/null '{__file__}' && ! test -s '{__file__}'"
    try:
        return subprocess.run([*_UNSHARE, covered], capture_output=True, check=False).returncode == 0
    except OSError:
        return False
