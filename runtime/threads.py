"""How many threads this process may really use."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


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


def cpu_quota(root: Path = CGROUP) -> float | None:
    """Return the CPUs that the control group may use (`docker --cpus`), or None where nothing limits it."""
    try:  # version 2: "<microseconds or max> <period>"
        limit, period = (root / "cpu.max").read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError):
        pass
    try:  # version 1; -1 means no limit
        microseconds = int((root / "cpu" / "cpu.cfs_quota_us").read_text())
        period_us = int((root / "cpu" / "cpu.cfs_period_us").read_text())
        return microseconds / period_us if microseconds > 0 and period_us > 0 else None
    except (OSError, ValueError):
        return None
