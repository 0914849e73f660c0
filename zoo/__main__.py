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
    # Idle threads soon give their core away instead of spinning on it. Beside other work on the machine, spinning slows
    # training down several times over; alone, it gains some percent. OpenMP reads this when PyTorch is imported.
    os.environ.setdefault("GOMP_SPINCOUNT", "100000")
    from zoo.cli import zoo

    zoo(prog_name="zoo")


if __name__ == "__main__":
    main()
