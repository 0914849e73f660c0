"""The one command for a GPU machine: it keeps each step, goes on where it stopped, and really hides what it hides."""

import ctypes
import json
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


def two_steps(log: Path, works: bool) -> Any:
    from cuda_steps import Step, exits_with

    def steps(_arguments: Namespace) -> Iterator[Step]:
        for name, code in (("first", "print('{}')"), ("second", "" if works else "exit('no kernel')")):
            program = f"open({str(log)!r}, 'a').write('{name} ')\n{code}"
            yield Step(name, [sys.executable, "-c", program], exits_with(0), {}, 60)

    return steps


@pytest.mark.usefixtures("benchmarks")
def test_a_proof_is_saved_step_by_step_and_goes_on_with_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cuda_proof

    log = tmp_path / "log"
    monkeypatch.setattr(sys, "argv", ["cuda_proof.py", "--output", str(tmp_path), "--device", "cpu", "--minutes", "1"])
    monkeypatch.setattr(cuda_proof, "steps", two_steps(log, works=False))
    with pytest.raises(SystemExit) as end:
        cuda_proof.main()
    state = json.loads((tmp_path / "proof.json").read_text())

    assert end.value.code == 3
    assert state["summary"]["first"] == "right"
    assert state["summary"]["second"].startswith("exit code 1, expected 0: no kernel")
    assert (state["steps"]["first"]["document"], state["steps"]["first"]["exit_code"]) == ({}, 0)

    monkeypatch.setattr(cuda_proof, "steps", two_steps(log, works=True))
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--again", "sec"])
    cuda_proof.main()
    assert log.read_text() == "first second second "


@pytest.mark.usefixtures("benchmarks")
def test_every_step_of_the_proof_is_a_command_of_this_project() -> None:
    from cuda_steps import steps

    arguments = Namespace(device="cuda", output=Path("out"), models=["lenet", "resnet18"])
    found = {step.name: step.command for step in steps(arguments)}

    assert len(found) == len(list(steps(arguments))), "two steps share a name"
    assert {"doctor", "tests", "no-gpu", "soak", "sweep-lenet", "compare-resnet18-fp16", "compare-all"} <= set(found)
    for model in ("lenet", "resnet18"):
        for what in ("parity", "live-parity", "accuracy", "decisions"):
            assert "--tf32" not in found[f"{what}-{model}"]
            assert "--tf32" in found[f"{what}-{model}-tf32"]


@pytest.mark.usefixtures("benchmarks")
def test_tests_that_were_skipped_on_a_gpu_are_no_proof() -> None:
    from cuda_steps import all_ran

    result = {"exit_code": 0, "device": "cuda", "stdout_tail": "SKIPPED [1] x\n3 passed, 1 skipped in 0.1s"}

    assert all_ran(result) == "tests were skipped"
    assert all_ran(result | {"stdout_tail": "4 passed in 0.1s"}) == ""
    assert all_ran(result | {"device": "cpu"}) == ""


@pytest.mark.usefixtures("benchmarks")
def test_a_hidden_library_cannot_be_loaded_by_the_command_and_by_nobody_else_missed() -> None:
    from hidden_library import can_hide, copies, hiding

    library = "libbz2.so"
    if not can_hide():
        pytest.skip("hiding a library takes root and a namespace of mounts")
    if not copies(library):
        pytest.skip(f"this system has no {library} to hide")
    name = "libbz2.so.1.0"
    command = [sys.executable, "-c", f"import ctypes; ctypes.CDLL({name!r}); print('loaded')"]
    seen = subprocess.run(command, capture_output=True, text=True, check=False)
    if seen.returncode:
        pytest.skip(f"{name} cannot be loaded here")
    unseen = subprocess.run(hiding([library], command), capture_output=True, text=True, check=False)

    assert unseen.returncode == 1
    assert name in unseen.stderr
    ctypes.CDLL(name)
