"""All that a GPU must show of the runtime, in one command: right, honest about what is missing, and fast.

    python3 benchmarks/cuda_proof.py --output proof --minutes 25        on a machine with a GPU
    python3 benchmarks/cuda_proof.py --output dry --device cpu          the same steps, without one

Runs from a checkout, without installing anything. Each step is a process of its own, and is in `proof.json` when it
ends; started again, the script goes on where it stopped. Exits with 3 if anything that must hold does not.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cuda_steps import HERE, ROOT, Step, steps

from runtime.storage import write_bytes
from runtime.store import read_index

STATE = "proof.json"  # everything, in one file


def run(step: Step, device: str) -> dict[str, Any]:
    """Run a step to its end, or to the end of its time; return what came out of it, and the verdict."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    environment = os.environ | {"PYTHONPATH": path} | step.environment
    began = time.monotonic()
    try:
        done = subprocess.run(
            step.command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=step.seconds, check=False
        )
        code, stdout, stderr = done.returncode, done.stdout, done.stderr
    except subprocess.TimeoutExpired as error:
        code, stdout, stderr = 124, str(error.stdout or ""), f"{error.stderr or ''}\nran longer than {step.seconds} s"
    try:
        document = json.loads(stdout)
    except ValueError:
        document = None
    result: dict[str, Any] = {
        "step": step.name,
        "device": device,
        "command": " ".join(step.command),
        "environment": step.environment,
        "exit_code": code,
        "seconds": round(time.monotonic() - began, 2),
        "document": document,
        "stdout_tail": "" if document is not None else stdout.strip()[-4000:],
        "stderr": stderr.strip()[-4000:],
    }
    return result | {"wrong": step.verdict(result)}


def decisions(model: str, device: str, tf32: bool) -> None:
    """Print which of the 10,000 test images get another class than on the CPU, with the CPU's margin of each."""
    import numpy as np

    from runtime import Classifier, fashion_mnist

    images = fashion_mnist.load("test")[0]
    where = ROOT / "weights" / model
    with Classifier(where, device=device, tf32=tf32) as here, Classifier(where, device="cpu") as cpu:
        found, expected = here.logits(images), cpu.logits(images)
    ranked = np.sort(expected, axis=1)
    flips = np.flatnonzero(found.argmax(axis=1) != expected.argmax(axis=1))
    margins = {int(index): float(ranked[index, -1] - ranked[index, -2]) for index in flips}
    print(json.dumps({"images": len(images), "max_abs_diff": float(np.abs(found - expected).max()), "flips": margins}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=HERE / "results" / "cuda_proof")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=25.0, help="start no step later than this")
    parser.add_argument("--models", nargs="+", default=list(read_index(ROOT / "weights")), help="published models")
    parser.add_argument("--again", nargs="*", default=[], help="steps to run again, by the beginning of their names")
    parser.add_argument("--decisions", help=argparse.SUPPRESS)
    parser.add_argument("--tf32", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.decisions:
        decisions(arguments.decisions, arguments.device, arguments.tf32)
        return
    arguments.output = arguments.output.resolve()
    ends = time.monotonic() + 60 * arguments.minutes
    state = arguments.output / STATE
    results: dict[str, Any] = json.loads(state.read_text())["steps"] if state.exists() else {}
    summary: dict[str, str] = {}
    for step in steps(arguments):
        if step.name not in results or any(step.name.startswith(name) for name in arguments.again):
            if time.monotonic() > ends:
                summary[step.name] = "not run: out of time"
                continue
            results[step.name] = run(step, arguments.device)
        summary[step.name] = results[step.name]["wrong"] or "right"
        print(f"{step.name:<42} {results[step.name]['seconds']:7.1f} s  {summary[step.name]}", flush=True)
        reports = {name: arguments.output / f"{name}.json" for name in ("soak", "compare")}
        document = {
            "summary": summary,
            "reports": {name: json.loads(path.read_text()) for name, path in reports.items() if path.exists()},
            "steps": results,
        }
        write_bytes(state, (json.dumps(document, indent=2) + "\n").encode())
    left = [name for name, verdict in summary.items() if verdict.startswith("not run")]
    wrong = [name for name, verdict in summary.items() if verdict != "right" and name not in left]
    print(f"{len(summary) - len(left) - len(wrong)} right, {len(wrong)} wrong, {len(left)} not run: {state}")
    if wrong:
        raise SystemExit(3)


if __name__ == "__main__":
    main()
