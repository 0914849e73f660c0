"""What the tests on an NVIDIA GPU share. Where there is no usable one they are skipped, with the reason."""

from pathlib import Path

import pytest

from runtime.model.registry import read_index
from runtime.session.device import cuda_problem

WEIGHTS = Path(__file__).resolve().parents[2] / "weights"


@pytest.fixture(scope="session", autouse=True)
def gpu() -> None:
    if problem := cuda_problem():
        pytest.skip(problem)


@pytest.fixture(params=list(read_index(WEIGHTS)))
def model(request: pytest.FixtureRequest) -> Path:
    """The folder of each published model."""
    return WEIGHTS / str(request.param)


@pytest.fixture
def lenet() -> Path:
    return WEIGHTS / "lenet"
