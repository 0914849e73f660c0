"""Fixtures that the tests of `zoo` share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.small_runs import small_split

from zoo.runs import run


@pytest.fixture(scope="module")
def few_images(fashion_mnist_dir: Path) -> Iterator[None]:
    """Training runs see the first 1,000 images of each split."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "load_split", small_split)
        yield
