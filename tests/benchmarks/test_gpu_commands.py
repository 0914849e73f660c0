"""`make gpu` keeps every result when a rented machine is stopped, and counts only what was run as passed."""

import json
import os
import sys
import time
from pathlib import Path

import pytest
from support.command_line import python

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import gpu  # noqa: E402
from gpu import FAILED, NOT_RUN, PASSED, TIMED_OUT, Command, run_all  # noqa: E402

LATER = time.monotonic() + 1e6


def script(name: str, program: str, seconds: float = 60.0) -> Command:
    return Command(name, ["-c", program], seconds)


def result(folder: Path, name: str) -> dict[str, object]:
    document: dict[str, object] = json.loads((folder / f"{name}.json").read_text())
    return document


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "GRACE_SECONDS", 0.1)


def test_each_result_is_saved_and_what_has_ended_is_not_run_again(tmp_path):
    todo = [
        script("good", f"open({str(tmp_path / 'runs.txt')!r}, 'a').write('good ')"),
        script("bad", f"open({str(tmp_path / 'runs.txt')!r}, 'a').write('bad '); exit('no kernel')"),
        script("last", "print('measured')"),
    ]
    expected = {"good": PASSED, "bad": FAILED, "last": PASSED}

    assert run_all(todo, tmp_path, LATER) == expected
    assert run_all(todo, tmp_path, LATER) == expected
    assert (tmp_path / "runs.txt").read_text() == "good bad "
    assert (result(tmp_path, "bad")["exit_code"], result(tmp_path, "bad")["last_lines"]) == (1, ["no kernel"])
    assert (tmp_path / "last.log").read_text() == "measured\n"
    assert {"gpu", "driver", "versions"} <= result(tmp_path, "last")["conditions"].keys()  # type: ignore[attr-defined]


def test_a_command_that_ran_out_of_time_is_ended_with_its_children_and_run_again(tmp_path):
    """A child that stays alive would hold the GPU's memory and slow down every later measurement."""
    child = "import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(99)'])"
    hanging = script("work", f"{child}; print(p.pid, flush=True); time.sleep(99)", seconds=3.0)

    assert run_all([hanging, script("next", "")], tmp_path, LATER) == {"work": TIMED_OUT, "next": PASSED}
    assert result(tmp_path, "work")["exit_code"] is None
    state = Path("/proc", (tmp_path / "work.log").read_text().strip(), "stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"

    assert run_all([script("work", "print('resumed')")], tmp_path, LATER) == {"work": PASSED}
    assert (tmp_path / "work.log").read_text().endswith("resumed\n")


def test_a_command_gets_no_more_than_the_time_left(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "LEAST_SECONDS", 0.0)
    started = time.monotonic()

    statuses = run_all([script("long", "import time; time.sleep(99)")], tmp_path, started + 0.5)

    assert statuses == {"long": TIMED_OUT}
    assert time.monotonic() - started < 60


def test_a_command_without_time_left_is_not_run_and_not_stored_as_failed(tmp_path):
    todo = [script("work", "")]

    assert run_all(todo, tmp_path, time.monotonic() + 1) == {"work": NOT_RUN}
    assert not (tmp_path / "work.json").exists()
    assert run_all(todo, tmp_path, LATER) == {"work": PASSED}


@pytest.mark.parametrize(
    ("body", "status"),
    [("pytest.skip('there is no GPU')", FAILED), ("pass", PASSED), ("assert False", FAILED)],
)
def test_tests_that_were_all_skipped_have_not_passed(tmp_path, body, status):
    tests = tmp_path / "test_it.py"
    tests.write_text(f"import pytest\n\ndef test_it():\n    {body}\n")
    command = Command("tests", ["-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests)], 60, is_tests=True)

    assert run_all([command], tmp_path, LATER) == {"tests": status}


def test_every_command_of_the_list_is_one_of_this_project(tmp_path):
    """Without a GPU each benchmark gets as far as saying so; a wrong option would be found only on a rented machine."""
    todo = gpu.commands(tmp_path)
    names = [command.name for command in todo]

    assert names[:3] == ["tests", "train_vgg11", "train_resnet18"]
    assert len(set(names)) == len(names)
    assert (ROOT / todo[0].arguments[-1] / "conftest.py").exists()
    by_script = {command.arguments[0]: command.arguments for command in todo[1:]}
    for arguments in by_script.values():
        done = python(*arguments, env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)})
        assert done.returncode in (1, 4), done.stderr
        assert "cuda" in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
