"""Golden tensors: what the PyTorch network answers on real pictures, in ONNX's own test format, so that any engine in
any language can be checked without PyTorch."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper

from export.verification.context import VerificationContext, run_network
from export.verification.evidence import Pixels
from runtime.model import spec

FOLDER = "test_data_set_0"
IMAGES = 16


def golden_tensors(context: VerificationContext) -> dict[str, bytes]:
    """Return the files of `test_data_set_0` by name: one input, and PyTorch's float32 outputs for it.

    A file that computes in float32 from rounded weights answers for these weights, as the checkpoint beside it.
    """
    images: Pixels = context.images[:IMAGES]
    network = context.rounded if context.precision.dtype == "fp32" else context.network
    logits, probabilities = run_network(network, images, temperature=context.temperature)
    arrays: dict[str, tuple[str, np.ndarray[Any, Any]]] = {
        "input_0.pb": (spec.INPUT, images),
        "output_0.pb": (spec.LOGITS, logits.astype(np.float32)),
        "output_1.pb": (spec.PROBABILITIES, probabilities.astype(np.float32)),
    }
    return {
        str(Path(FOLDER) / file): onnx.numpy_helper.from_array(array, name).SerializeToString(deterministic=True)
        for file, (name, array) in arrays.items()
    }
