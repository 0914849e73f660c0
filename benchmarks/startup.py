"""Whole-process time and memory of `runtime predict a.png` against the shortest script that does the same, in turn.

python benchmarks/startup.py
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import conditions
from PIL import Image

from runtime.datasets import fashion_mnist
from runtime.model.registry import find_model

ROUNDS = 21
MINIMAL = """
import sys
import numpy, onnxruntime
from PIL import Image
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
pixels = numpy.asarray(Image.open(sys.argv[2]).convert("L"))[None, None]
print(session.run(["logits"], {"image": pixels})[0].argmax())
"""


def measure(command: list[str]) -> tuple[float, float]:
    """Run a command to its end; return seconds and its peak memory in MiB."""
    # An installed package has bytecode; with this variable, a checkout would not get any.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    assert status == 0, command
    return seconds, usage.ru_maxrss / 1024


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        picture = Path(scratch) / "a.png"
        Image.fromarray(fashion_mnist.load("test")[0][0, 0]).save(picture)
        minimal = Path(scratch) / "minimal.py"
        minimal.write_text(MINIMAL)
        model = str(find_model("lenet").path)
        commands = {
            "runtime": [str(Path(sys.executable).parent / "runtime"), "predict", "-m", "lenet", str(picture)],
            "minimal": [sys.executable, str(minimal), model, str(picture)],
        }
        for command in commands.values():
            measure(command)
        measured = conditions.in_turn({name: partial(measure, command) for name, command in commands.items()}, ROUNDS)
    columns = {name: tuple(zip(*rows, strict=True)) for name, rows in measured.items()}  # seconds, peak MiB
    figures = {
        name: {"seconds": round(statistics.median(seconds), 4), "peak_mib": round(statistics.median(peak), 1)}
        for name, (seconds, peak) in columns.items()
    }
    ratio, memory = (
        conditions.median_ratio(*both) for both in zip(columns["runtime"], columns["minimal"], strict=True)
    )
    path = conditions.save(
        "startup",
        {
            "what": "whole process: `runtime predict -m lenet a.png` against a minimal script, in turn, medians",
            "rounds": ROUNDS,
            **figures,
            "median_ratio_seconds": round(ratio, 3),
            "median_ratio_memory": round(memory, 3),
        },
    )
    print(f"{figures}\ntime {ratio:.3f}x, memory {memory:.3f}x, written to {path}")


if __name__ == "__main__":
    main()
