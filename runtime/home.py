"""Where a user's own files live: one folder, `$ZOO_HOME`, with `data`, `runs` and `weights` inside."""

import os
from pathlib import Path

from runtime.errors import UsageError


def home() -> Path:
    """Return `$ZOO_HOME`, or `fashion-zoo` in the platform's folder for user data. Creates nothing.

    Raises:
        UsageError: this user has no home folder and no `$ZOO_HOME`, or it names a user who is not known here.
    """
    if (known := known_home()) is None:
        raise UsageError("this user has no home folder; set $ZOO_HOME to a folder for data, runs and weights")
    return known


def known_home() -> Path | None:
    """Return what `home` does, or None for a user without a home folder, who has no files there to be read.

    Raises:
        UsageError: `$ZOO_HOME` begins with the home folder of a user who is not known here.
    """
    if configured := configured_folder("ZOO_HOME"):
        return configured
    try:
        if os.name == "nt":
            base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
        else:
            base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    except RuntimeError:  # a user without a line in the password file, as in containers, and no $HOME
        return None
    return Path(base) / "fashion-zoo"


def configured_folder(variable: str) -> Path | None:
    """Return the folder that an environment variable names, or None where it is not set.

    Raises:
        UsageError: it begins with the home folder of a user who is not known here.
    """
    if not (value := os.environ.get(variable)):
        return None
    try:
        return Path(value).expanduser()
    except RuntimeError:
        user = Path(value).parts[0]
        raise UsageError(
            f"${variable} is {value!r}, but {user} has no home folder here; write the whole path"
        ) from None
