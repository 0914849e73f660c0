"""Put a mutant to one check, with what is good about its network computed once."""

import functools
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from support.graph_edits import make_network
from torch import nn

from export import Description
from export.analysis.sandbox import Examination, read_answer
from export.analysis.sandbox_child import examine
from export.bundle.artifact import expectations
from export.convert.exporter import build_graph
from export.precision import Precision
from export.verification.checks import CHECKS
from export.verification.context import CheckFailed, VerificationContext
from runtime.datasets.fashion_mnist import LABELS
from runtime.model.confidence import Confidence

IMAGES = 64


class InProcess(VerificationContext):
    """These files are wrong, not hostile: asking the libraries right here saves a process for each."""

    @functools.cached_property
    def examination(self) -> Examination:
        return read_answer(examine(self.content))


@functools.cache
def good(name: str) -> tuple[nn.Module, bytes, Description]:
    network = make_network(name)
    precision = Precision("fp16" if name.endswith("fp16") else "fp32", "fp16" if "half-size" in name else "fp32")
    confidence = Confidence(1.3) if name.endswith("tempered") else None
    description = Description(name=name, labels=LABELS, seed=0, epochs=1, precision=precision, confidence=confidence)
    return network, build_graph(network, description.metadata(None)), description


def context_of(
    name: str, mutate: Any, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]
) -> VerificationContext:
    network, content, description = good(name)
    model = onnx.load_from_string(content)
    mutate(model)
    return InProcess(
        network, model.SerializeToString(), images[:IMAGES, None].copy(), labels[:IMAGES], expectations(description)
    )


def verdict(check: str, context: VerificationContext) -> str | None:
    """Return why a check refuses the context, None if it does not."""
    try:
        CHECKS[check](context)
    except CheckFailed as failure:
        return str(failure)
    except Exception as error:
        return f"could not be run: {error}"
    return None
