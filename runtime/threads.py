"""How many threads this process may really use."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def available_cpus() -> int:
    """Return the processors this process may run on: its affinity, cut to the container's CPU quota; at least 1."""
    allowed = _affinity()
    quota = cpu_quota()
    return max(1, min(allowed, math.ceil(quota) if quota else allowed))


def explain_threads() -> str:
    """Return in words why `available_cpus` is what it is."""
    reasons = [f"the machine has {os.cpu_count() or 1} processors", f"this process may run on {_affinity()}"]
    if quota := cpu_quota():
        reasons.append(f"its control group grants the time of {quota:g}")
    return ", ".join(reasons)


def _affinity() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_quota(root: Path = CGROUP, own: Path = OWN_CGROUP) -> float | None:
    """Return the CPUs that the control group may use (`docker --cpus`), or None where nothing limits it.

    A group is held to its parents' quotas too, so the smallest on the way up counts. Within a container, the path in
    `/proc/self/cgroup` may be the host's, and then only the mounted root is there to be read: it is the container's.
    """
    quotas = []
    for unified, path in _own_groups(own):
        folders = _upwards(root if unified else root / "cpu", path)
        quotas += [_quota_v2(folder) if unified else _quota_v1(folder) for folder in folders]
    return min((quota for quota in quotas if quota), default=None)


def _own_groups(own: Path) -> list[tuple[bool, str]]:
    """This process's groups that may hold a CPU quota, and both roots: whether it is of version 2, and its path."""
    try:
        lines = own.read_text().splitlines()
    except (OSError, ValueError):
        lines = []
    found = [tuple(line.split(":", 2)) for line in lines if line.count(":") >= 2]
    own_groups = [
        (not controllers, path) for _, controllers, path in found if "cpu" in (controllers or "cpu").split(",")
    ]
    return [*own_groups, (True, "/"), (False, "/")]


def _upwards(root: Path, path: str) -> list[Path]:
    """The group's folder and all above it, up to the root; a path that leads out of the root is the root."""
    parts = [part for part in path.split("/") if part]
    if ".." in parts:  # a group outside of this namespace
        parts = []
    return [root.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]


def _quota_v2(folder: Path) -> float | None:
    try:  # "<microseconds or max> <period>"
        limit, period = (folder / "cpu.max").read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_v1(folder: Path) -> float | None:
    try:  # -1 means no limit
        limit = int((folder / "cpu.cfs_quota_us").read_text())
        return max(0, limit) / int((folder / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError, ZeroDivisionError):
        return None
