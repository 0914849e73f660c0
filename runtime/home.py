"""Where a user's own files live: one folder, `$ZOO_HOME`, with `data`, `runs` and `weights` inside."""

import os
from pathlib import Path


def home() -> Path:
    """Return `$ZOO_HOME`, or `fashion-zoo` in the platform's folder for user data. Creates nothing."""
    if configured := os.environ.get("ZOO_HOME"):
        return Path(configured).expanduser()
    if os.name == "nt":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    else:
        base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "fashion-zoo"
