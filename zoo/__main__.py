"""`zoo` and `python -m zoo`."""

import os
import sys

# `python -m` puts the working folder first in the path, where a user's file may have the name of a module.
if (
    __name__ == "__main__"
    and not sys.flags.safe_path
    and os.path.abspath(sys.path[0]) != os.path.dirname(os.path.dirname(__file__))
):
    del sys.path[0]

import importlib.util

NEEDED = ("torch", "onnx", "onnxscript", "safetensors", "matplotlib")


def main() -> None:
    """Run the command line, or say which extra is missing."""
    try:
        from runtime.cli.console import open_closed_streams
        from runtime.errors import install_line
    except KeyboardInterrupt:
        raise SystemExit("Aborted!") from None
    open_closed_streams()
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        print(
            f"Error: the zoo command needs {', '.join(missing)}, which the base install leaves out: "
            + install_line("zoo"),
            file=sys.stderr,
        )
        raise SystemExit(1)
    try:
        from zoo.cli import zoo
        from zoo.training.memory import keep_freed_memory
    except KeyboardInterrupt:  # later ones are Click's, which ends alike
        raise SystemExit("Aborted!") from None
    keep_freed_memory()
    try:
        zoo(prog_name="zoo")
    except SystemExit as end:
        if "TORCHELASTIC_RUN_ID" in os.environ and isinstance(end.code, int):  # started by torchrun
            from zoo.distributed import hard_exit

            hard_exit(end.code)
        raise


if __name__ == "__main__":
    main()
