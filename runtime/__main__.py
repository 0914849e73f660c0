"""`runtime` and `python -m runtime`."""

from runtime.standard_streams import open_closed_streams


def main() -> None:
    """Run the command line."""
    open_closed_streams()
    try:
        from runtime.cli import runtime
    except KeyboardInterrupt:  # later ones are Click's, which ends alike
        raise SystemExit("Aborted!") from None
    runtime(prog_name="runtime")


if __name__ == "__main__":
    main()
