"""A fixture that the tests of the data set share."""

from pathlib import Path

import pytest


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Where a machine with the home of these tests keeps what it has fetched."""
    return tmp_path / "home" / "data"
