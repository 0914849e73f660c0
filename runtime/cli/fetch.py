"""Download the data set with a progress bar."""

from runtime.cli.console import Bar, note
from runtime.datasets.download import ensure
from runtime.datasets.fashion_mnist import Location, Split, find


def fetch_with_bar(split: Split | None = None) -> Location:
    """Return where a split of Fashion-MNIST is (None: all of it), after getting it if it is nowhere on this machine."""
    if found := find(split):
        return found
    note("Fashion-MNIST is not on this machine: getting it (31 MB, once)")
    with Bar("Fashion-MNIST", total=None) as bar:

        def progress(name: str, done: int, total: int | None) -> None:
            bar.update(description=name, completed=done, total=total)

        return ensure(split, progress=progress)
