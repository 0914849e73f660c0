"""Golden tensors: what the PyTorch network answers on real pictures, in ONNX's own test format, so that any engine in
any language can be checked without PyTorch."""

from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper

from export.verification.context import VerificationContext, run_network
from export.verification.evidence import Pixels
from runtime.evaluation.parity import INPUT_FILE, OUTPUT_FILES
from runtime.model.metadata import LOGITS, PROBABILITIES
from runtime.model.spec import INPUT

IMAGES = 16


def golden_tensors(context: VerificationContext) -> dict[str, bytes]:
    """Return the files of `test_data_set_0` by name: one input, and PyTorch's float32 outputs for it.

    A file that computes in float32 from rounded weights answers for these weights, as the checkpoint beside it.
    """
    images: Pixels = context.images[:IMAGES]
    network = context.rounded if context.precision.dtype == "fp32" else context.network
    logits, probabilities = run_network(network, images, temperature=context.temperature)
    arrays: dict[str, tuple[str, np.ndarray[Any, Any]]] = {
        INPUT_FILE: (INPUT, images),
        OUTPUT_FILES[LOGITS]: (LOGITS, logits.astype(np.float32)),
        OUTPUT_FILES[PROBABILITIES]: (PROBABILITIES, probabilities.astype(np.float32)),
    }
    return {
        file: onnx.numpy_helper.from_array(array, name).SerializeToString(deterministic=True)
        for file, (name, array) in arrays.items()
    }
