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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hidden_library import can_hide, copies, hiding

from runtime.atomic import write_bytes
from runtime.store import read_index

ROOT = Path(__file__).resolve().parents[1]
HERE = ROOT / "benchmarks"
STATE = "proof.json"  # everything, in one file
RUNTIME = [sys.executable, "-m", "runtime"]
# What the CUDA provider is linked to, and parts of cuDNN that are opened when a convolution first runs.
HIDDEN = (
    *("libcudnn.so", "libcurand.so", "libcublas.so", "libcublasLt.so", "libcudart.so", "libcuda.so"),
    *("libcudnn_graph.so", "libcudnn_engines_precompiled.so", "libcudnn_heuristic.so", "libcudnn_ops.so"),
)


@dataclass(frozen=True)
class Step:
    """One child process: `verdict` says of its result what is wrong with it, or nothing."""

    name: str
    command: list[str]
    verdict: Callable[[dict[str, Any]], str]
    environment: dict[str, str]
    seconds: float


def exits_with(code: int, *words: str) -> Callable[[dict[str, Any]], str]:
    """A verdict: this exit code, and these words on stderr."""

    def verdict(result: dict[str, Any]) -> str:
        if result["exit_code"] != code:
            return f"exit code {result['exit_code']}, expected {code}: {result['stderr'][-300:]}"
        missing = [word for word in words if word not in result["stderr"]]
        return f"stderr does not name {', '.join(missing)}" if missing else ""

    return verdict


def all_ran(result: dict[str, Any]) -> str:
    """A verdict on pytest: nothing failed, and on a GPU nothing was skipped."""
    if result["exit_code"]:
        return f"pytest exited with {result['exit_code']}"
    skipped = "skipped" in result["stdout_tail"].rsplit("\n", 2)[-1]
    return "tests were skipped" if skipped and result["device"] != "cpu" else ""


def on_device(result: dict[str, Any]) -> str:
    """A verdict on `runtime info`: every node on the device's own provider, and graphs where they should be."""
    if result["exit_code"]:
        return result["stderr"][-300:]
    document = result["document"]
    wanted = "CPUExecutionProvider" if result["device"] == "cpu" else "CUDAExecutionProvider"
    if list(document["placement"]) != [wanted]:
        return f"nodes are on {document['placement']}"
    return (document["gpu"] or {}).get("notice") or ""


def no_flips(result: dict[str, Any]) -> str:
    if result["exit_code"]:
        return result["stderr"][-300:]
    flips = result["document"]["flips"]
    return f"{len(flips)} of 10,000 images get another class than on the CPU" if flips else ""


def soaked(result: dict[str, Any]) -> str:
    """A verdict on the soak; memory needs minutes to reach its level, and without a GPU it gets seconds."""
    try:
        report = json.loads(result["stdout_tail"].splitlines()[0])
    except (ValueError, IndexError):
        return f"exit code {result['exit_code']}: {result['stderr'][-300:]}"
    if report["errors"] or report["calls_that_differ"]:
        return f"{report['calls_that_differ']} answers differ, errors: {report['errors'][:3]}"
    return "" if report["flat"] or result["device"] == "cpu" else f"memory grew: {report['growth']}"


def steps(arguments: argparse.Namespace) -> Iterator[Step]:
    """All steps, the most valuable first."""
    device, output = arguments.device, arguments.output
    dry = device == "cpu"

    def step(name: str, command: list[str], verdict: Any = None, seconds: float = 300, **environment: str) -> Step:
        return Step(name, command, verdict or exits_with(0), environment, seconds)

    yield step("doctor", [*RUNTIME, "doctor", "--json", "--device", device])
    yield step("selftest", [*RUNTIME, "doctor", "--selftest", "--json", "--device", device])
    yield step(
        "tests",
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-m",
            "cuda",
            "-p",
            "no:cacheprovider",
            str(ROOT / "tests" / "test_cuda.py"),
        ],
        all_ran,
        600,
    )
    for model in arguments.models:
        at = ["-m", str(ROOT / "weights" / model), "--device", device, "--json"]
        yield step(f"info-{model}", [*RUNTIME, "info", *at], on_device)
        for tf32 in (False,) if dry else (False, True):
            suffix, flag = ("-tf32", ["--tf32"]) if tf32 else ("", [])
            yield step(f"parity-{model}{suffix}", [*RUNTIME, "parity", *at, *flag])
            yield step(f"live-parity-{model}{suffix}", [*RUNTIME, "parity", "--live", *at, *flag])
            yield step(f"accuracy-{model}{suffix}", [*RUNTIME, "accuracy", *at, *flag], None, 600)
            decisions = [sys.executable, __file__, "--decisions", model, "--device", device, *flag]
            yield step(f"decisions-{model}{suffix}", decisions, exits_with(0) if tf32 else no_flips, 600)
    yield from missing(step, dry)
    soak = [sys.executable, str(HERE / "soak.py"), "--device", device, "--minutes", "0.2" if dry else "2"]
    yield step("soak", [*soak, "--output", str(output / "soak.json")], soaked, 400)
    for model in arguments.models:
        at = ["-m", str(ROOT / "weights" / model), "--device", device, "--json"]
        quick = (
            ["--min-seconds", "0.1", "--min-runs", "10"] if dry else ["-b", "1", "-b", "8", "-b", "256", "-b", "1024"]
        )
        yield step(f"bench-{model}", [*RUNTIME, "bench", *at, *quick], None, 300)
        yield step(f"sweep-{model}", [*RUNTIME, "bench", "--sweep", *at, *quick], None, 600)
    compare = [
        sys.executable,
        str(HERE / "compare.py"),
        "--device",
        device,
        "--output",
        str(output / "compare.json"),
    ]
    if dry:
        quick = ["--models", "lenet", "--batch-sizes", "1", "8", "--ways", "runtime", "onnxruntime", "torch"]
        yield step("compare", [*compare, *quick, "--min-seconds", "0.2"])
        return
    # Half precision and the small network first: what is claimed of them is judged first. Compiling takes minutes.
    for model, precision in (("resnet18", "fp16"), ("lenet", "fp32"), ("vgg11", "fp16"), ("resnet18", "fp32")):
        yield step(
            f"compare-{model}-{precision}",
            [*compare, "--models", model, "--precisions", precision, "--min-seconds", "0.5"],
            None,
            900,
        )
    yield step("compare-all", [*compare, "--min-seconds", "0.5"], None, 3600)


def missing(step: Any, dry: bool) -> Iterator[Step]:
    """What must be said where something is missing: its name, and exit 4; `auto` answers on the CPU with the reason."""
    parity = [*RUNTIME, "parity", "-m", str(ROOT / "weights" / "lenet"), "--json"]
    auto = exits_with(0, "using the CPU: ")
    yield step("no-gpu", [*parity, "--device", "cuda"], exits_with(4), CUDA_VISIBLE_DEVICES="")
    yield step("no-gpu-auto", parity, auto, CUDA_VISIBLE_DEVICES="")
    if can_hide():
        for library in HIDDEN:
            if copies(library):
                # Without a driver that is what is named; of cuDNN's parts, whatever cuDNN itself says.
                named = () if dry or library.startswith("libcudnn_") else (library,)
                yield step(
                    f"without-{library}", hiding([library], [*parity, "--device", "cuda"]), exits_with(4, *named)
                )
                yield step(f"without-{library}-auto", hiding([library], parity), auto)
    # An onnxruntime without CUDA further down the path, as where both distributions are installed.
    for entry in dict.fromkeys(filter(None, sys.path)):
        capi = Path(entry, "onnxruntime", "capi")
        if capi.is_dir() and not (capi / "libonnxruntime_providers_cuda.so").exists():
            path = os.pathsep.join([entry, str(ROOT), os.environ.get("PYTHONPATH", "")])
            yield step("cpu-onnxruntime", [*parity, "--device", "cuda"], exits_with(4), PYTHONPATH=path)
            yield step("cpu-onnxruntime-auto", parity, auto, PYTHONPATH=path)
            break


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
