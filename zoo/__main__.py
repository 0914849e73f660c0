"""`zoo` and `python -m zoo`."""

import importlib.util
import os
import sys

NEEDED = ("torch", "onnx", "onnxscript", "safetensors", "matplotlib", "filelock")


def main() -> None:
    """Run the command line, or say which extra is missing."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        print(
            f"Error: the zoo command needs {', '.join(missing)}, which the base install leaves out: "
            "pip install 'fashion-zoo[zoo]'",
            file=sys.stderr,
        )
        raise SystemExit(1)
    # Idle threads give their core away sooner than OpenMP's 300,000 turns: beside other work on the machine, spinning
    # slows training down several times over. OpenMP reads this when PyTorch is imported.
    os.environ.setdefault("GOMP_SPINCOUNT", "100000")
    from zoo.cli import zoo

    zoo(prog_name="zoo")


if __name__ == "__main__":
    main()
