"""`runtime` and `python -m runtime`."""

import os
import sys

# `python -m` puts the working folder first, and a file of the user's there may have the name of a module needed below.
if (
    __name__ == "__main__"
    and not sys.flags.safe_path
    and os.path.abspath(sys.path[0]) != os.path.dirname(os.path.dirname(__file__))
):
    del sys.path[0]


def main() -> None:
    """Run the command line."""
    try:
        from runtime.cli import runtime
        from runtime.cli.console import open_closed_streams
    except KeyboardInterrupt:  # later ones are Click's, which ends alike
        raise SystemExit("Aborted!") from None
    open_closed_streams()
    runtime(prog_name="runtime")


if __name__ == "__main__":
    main()
