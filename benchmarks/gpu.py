"""Run tests, trainings and speed benchmarks on a machine with an NVIDIA GPU, in one resumable command.

    python benchmarks/gpu.py --output DIR --minutes 25

Commands run one after the other. Each writes its output to DIR/NAME.log and, when it ends, its result to DIR/NAME.json;
benchmarks write to DIR/results, trainings to DIR/runs. Started again with the same DIR, only commands that ran out of
time or were not begun are run: trainings continue after their last whole epoch, `compare.py` after its last cell. To
run a command again, delete its DIR/NAME.json.

Exit codes: 0 all passed; 1 a command failed, ran out of time or was not run; 4 there is no usable GPU.
"""

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import conditions

from runtime.session.device import cuda_problem
from runtime.storage import write_bytes

LEAST_SECONDS = 30.0  # a command is not begun with less time left
GRACE_SECONDS = 10.0  # between asking a command to end and ending it
PASSED, FAILED, TIMED_OUT, NOT_RUN = "passed", "failed", "timed out", "not run"


@dataclass(frozen=True)
class Command:
    """One command, run in the root of the repository, with arguments of the Python interpreter, for so many seconds.

    Where it `is_tests`, of pytest, at least one test must pass, not be skipped.
    """

    name: str
    arguments: list[str]
    seconds: float
    is_tests: bool = False


def commands(output: Path) -> list[Command]:
    """Return the commands in order, those whose results matter most first."""
    results, runs = ["--output", str(output / "results")], ["--runs", str(output / "runs")]
    cuda = ["--device", "cuda"]
    found = [Command("tests", ["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/gpu"], 1200, is_tests=True)]
    for model in ("vgg11", "resnet18"):
        training = ["benchmarks/accuracy.py", model, "--recipe", "best", "--seeds", "3", *cuda, *runs, *results]
        found.append(Command(f"train_{model}", training, 3 * 3600))
    compared = ["--output", str(output / "results" / "compare_cuda.json"), "--minutes", "1000000"]
    for model, precisions in (("resnet18", ["fp16", "tf32", "fp32"]), ("lenet", ["fp32", "tf32", "fp16"])):
        comparison = ["benchmarks/compare.py", *cuda, "--models", model, "--precisions", *precisions, *compared]
        found.append(Command(f"compare_{model}", comparison, 3600))
    found.append(Command("compare_vgg11", ["benchmarks/compare.py", *cuda, "--models", "vgg11", *compared], 3600))
    for model in ("lenet", "resnet18", "vgg11"):
        speed = ["benchmarks/train_speed.py", "--model", model, "--rounds", "3", *cuda, *results]
        found.append(Command(f"train_speed_{model}", speed, 1800))
    return found


def run(command: Command, log: Path, seconds: float) -> dict[str, Any]:
    """Run a command for at most so many seconds, end all processes that it started, and return its result."""
    arguments = [sys.executable, *command.arguments]
    path = os.pathsep.join(filter(None, [str(conditions.ROOT), os.environ.get("PYTHONPATH", "")]))
    started, code = time.monotonic(), None
    with log.open("ab") as output:
        before = output.tell()
        process = subprocess.Popen(
            arguments,
            cwd=conditions.ROOT,
            env=os.environ | {"PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(seconds)
            if code is None:
                os.killpg(process.pid, signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(GRACE_SECONDS)
        finally:
            with contextlib.suppress(ProcessLookupError):  # no process of the group is left
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    last = log.read_bytes()[before:].decode(errors="replace").strip().splitlines()[-20:]
    status = TIMED_OUT if code is None else FAILED if code else PASSED
    if command.is_tests and status == PASSED and not re.search(r"\b[1-9]\d* passed\b", "\n".join(last[-1:])):
        status = FAILED
        last.append("no test passed: tests that were all skipped prove nothing")
    taken = round(time.monotonic() - started, 1)
    result = {"name": command.name, "status": status, "exit_code": code, "seconds": taken, "command": arguments}
    return result | {"last_lines": last, "conditions": conditions.conditions()}


def run_all(todo: list[Command], output: Path, ends: float) -> dict[str, str]:
    """Run what has not ended yet, until `ends` on the clock of `time.monotonic`; return the status by name."""
    (output / "results").mkdir(parents=True, exist_ok=True)
    statuses = {}
    for command in todo:
        path, log = output / f"{command.name}.json", output / f"{command.name}.log"
        status = json.loads(path.read_text())["status"] if path.exists() else NOT_RUN
        left = ends - time.monotonic()
        if status in (NOT_RUN, TIMED_OUT) and left >= LEAST_SECONDS:
            print(f"{command.name}: started, output in {log}", flush=True)
            result = run(command, log, min(command.seconds, left))
            write_bytes(path, (json.dumps(result, indent=2) + "\n").encode())
            status = result["status"]
        statuses[command.name] = status
        print(f"{command.name}: {status}", flush=True)
    return statuses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=1e6, help="end after so long")
    arguments = parser.parse_args()
    if problem := cuda_problem():
        print(f"Error: nothing can be measured on cuda: {problem}", file=sys.stderr)
        raise SystemExit(4)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the running command ends too
    output = arguments.output.resolve()
    statuses = run_all(commands(output), output, time.monotonic() + 60 * arguments.minutes)
    raise SystemExit(0 if set(statuses.values()) == {PASSED} else 1)


if __name__ == "__main__":
    main()
