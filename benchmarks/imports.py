"""What importing the runtime adds to importing what it stands on, numpy and onnxruntime; fresh processes, in turn.

python benchmarks/imports.py
"""

import argparse
import statistics
import subprocess
import sys

import conditions
from startup import measure

ROUNDS = 21
PROGRAMS = {
    "numpy and onnxruntime": "import numpy, onnxruntime",
    "runtime": "import numpy, onnxruntime, runtime",
    "runtime.Classifier": "import numpy, onnxruntime\nfrom runtime import Classifier",
}
HEAVY = {"torch", "onnx", "matplotlib"}


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    commands = {name: [sys.executable, "-c", program] for name, program in PROGRAMS.items()}
    for command in commands.values():
        measure(command)
    rows = []
    for turn in range(ROUNDS):
        order = sorted(commands, reverse=bool(turn % 2))
        rows.append({name: measure(commands[name])[0] for name in order})
    base = "numpy and onnxruntime"
    program = f"import sys\nfrom runtime import Classifier\nprint(*({HEAVY!r} & sys.modules.keys()))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    figures = {
        "what": "whole process that imports and ends, in turn; medians, and medians of the ratios to the first",
        "rounds": ROUNDS,
        "seconds": {name: round(statistics.median(row[name] for row in rows), 4) for name in commands},
        "ratios": {name: round(statistics.median(row[name] / row[base] for row in rows), 4) for name in commands},
        "heavy_modules_loaded": loaded.stdout.split(),
    }
    print(figures, conditions.save("imports", figures), sep="\n")


if __name__ == "__main__":
    main()
