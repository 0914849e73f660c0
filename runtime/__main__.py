"""`runtime` and `python -m runtime`."""


def main() -> None:
    """Run the command line."""
    from runtime.cli import runtime

    runtime(prog_name="runtime")


if __name__ == "__main__":
    main()
