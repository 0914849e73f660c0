"""Runs a command from whose eyes a library is hidden, and every copy of it, however the loader would look for it.

In a mount namespace of its own, each copy is covered by /dev/null, so that nothing but this command misses it. That
takes root; `can_hide` says whether it works here.
"""

import subprocess
import sys
from pathlib import Path

FOLDERS = ("/usr/local", "/usr/lib", "/usr/lib64", "/lib", "/opt")


def copies(library: str) -> list[Path]:
    """Return every file of that name, or of a version of it, where the loader or a Python package may have it."""
    found: set[Path] = set()
    for entry in filter(None, sys.path):
        for folder in ("nvidia", "torch/lib", "onnxruntime/capi", "tensorrt_libs"):
            found.update(Path(entry, folder).rglob(f"{library}*"))
    listed = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=False).stdout
    for line in listed.splitlines():
        name, _, path = line.partition(" => ")
        if name.split()[:1] and name.split()[0].startswith(library):
            found.add(Path(path.strip()))
    for folder in FOLDERS:
        found.update(Path(folder).glob(f"cuda*/**/{library}*"))
        found.update(Path(folder).glob(f"nvidia*/**/{library}*"))
    return sorted({path.resolve() for path in found if path.exists() and not path.is_dir()})


def hiding(libraries: list[str], command: list[str]) -> list[str]:
    """Return the command that runs `command` without these libraries."""
    covers = [f"mount --bind /dev/null '{path}'" for library in libraries for path in copies(library)]
    return ["unshare", "--mount", "sh", "-c", " && ".join([*covers, 'exec "$@"']), "sh", *command]


def can_hide() -> bool:
    """Whether a namespace of mounts can be had."""
    try:
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", f"mount --bind /dev/null '{__file__}' && ! test -s '{__file__}'"],
            capture_output=True,
            check=False,
        )
    except OSError:
        return False
    return done.returncode == 0
