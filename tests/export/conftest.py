"""Fixtures that the tests of `export` share."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from zoo.runs.trained import Trained, load_trained


@pytest.fixture(scope="module")
def pictures(
    request: pytest.FixtureRequest, test_images: npt.NDArray[np.uint8], test_labels: npt.NDArray[np.uint8]
) -> dict[str, Any]:
    """The first `IMAGES` images of the test split and their labels, as `verify` takes them; 300 by default."""
    count = getattr(request.module, "IMAGES", 300)
    return {"images": test_images[:count, None].copy(), "labels": test_labels[:count]}


@pytest.fixture(scope="module")
def trained(fashion_mnist_dir: Path) -> Trained:
    """The published LeNet: trained weights, whose decisions have margins."""
    return load_trained("lenet-modern")
