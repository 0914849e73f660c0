"""How many threads this process may use: its affinity, cut to the quota of its control group and of all above it."""

from pathlib import Path

import pytest

from runtime.session import device
from runtime.session.device import cpu_quota


def files(root: Path, contents: dict[str, str]) -> Path:
    for name, content in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


@pytest.mark.parametrize(
    ("own", "contents", "quota"),
    [
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        # systemd's CPUQuota on a unit: the limit is in the unit's own folder, and not in the root.
        ("0::/system.slice/app.service\n", {"system.slice/app.service/cpu.max": "50000 100000"}, 0.5),
        # A pod's limit, above the container that sets none.
        ("0::/pod/app\n", {"pod/cpu.max": "200000 100000", "pod/app/cpu.max": "max 100000"}, 2.0),
        ("0::/pod/app\n", {"pod/cpu.max": "200000 100000", "pod/app/cpu.max": "100000 100000"}, 1.0),
        # In a container the path may be the host's; what is mounted is the container's own group.
        ("0::/docker/0123\n", {"cpu.max": "300000 100000"}, 3.0),
        ("0::/../outside\n", {"cpu.max": "300000 100000"}, 3.0),
        # Version 1 beside it, whose files are others.
        ("4:cpu,cpuacct:/a/b\n0::/a\n", {"a/cpu.max": "250000 100000"}, 2.5),
        # Damaged, empty, absent.
        ("nonsense\n::::\n", {"cpu.max": "many"}, None),
        ("0::/\n", {"cpu.max": "100000 0"}, None),
        ("", {"cpu.max": "100000 100000"}, 1.0),
        ("", {}, None),
    ],
)
def test_the_smallest_quota_on_the_way_up_counts(tmp_path, own, contents, quota):
    (tmp_path / "own").write_text(own)

    assert cpu_quota(files(tmp_path / "cgroup", contents), tmp_path / "own") == quota


@pytest.mark.parametrize(("quota", "expected"), [(None, 8), (0.5, 1), (1.5, 2), (64.0, 8)])
def test_the_quota_is_rounded_up_and_never_exceeds_the_affinity(monkeypatch, quota, expected):
    monkeypatch.setattr(device, "cpu_quota", lambda: quota)
    monkeypatch.setattr(device, "_affinity", lambda: 8)

    assert device.available_cpus() == expected
