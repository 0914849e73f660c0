"""A picture that the tests of `runtime serve` send."""

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from support.pictures import encoded


@pytest.fixture(scope="module")
def boot(test_images: npt.NDArray[np.uint8]) -> bytes:
    return encoded(Image.fromarray(test_images[0]))
