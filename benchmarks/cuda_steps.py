"""The steps of `cuda_proof.py`, the most valuable first, and what of each step's result would be wrong."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hidden_library import can_hide, copies, hiding

ROOT = Path(__file__).resolve().parents[1]
HERE = ROOT / "benchmarks"
PROOF = HERE / "cuda_proof.py"
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
            decisions = [sys.executable, str(PROOF), "--decisions", model, "--device", device, *flag]
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
        quick = ["--models", "lenet", "--batch-sizes", "1", "8", "--backends", "runtime", "onnxruntime", "torch"]
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
