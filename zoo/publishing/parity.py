"""Compare an exported model with the PyTorch network itself, run on the CPU: what `zoo parity` calls."""

import time

import numpy as np
import numpy.typing as npt

from export.verification.context import run_network
from runtime.classifier import Classifier
from runtime.errors import ModelNotFound
from runtime.evaluation.parity import ParityReport, compare_outputs, read_tolerances
from runtime.model.metadata import LOGITS
from zoo.models import create_model
from zoo.runs import checkpoint

NETWORK = "the PyTorch network"
BATCH_SIZE = 64


def measure_live_parity(classifier: Classifier, images: npt.NDArray[np.uint8]) -> ParityReport:
    """Run the network of a model of the zoo in PyTorch on the CPU, and compare the logits.

    The model's checkpoint and verification report are beside its file; images: uint8 (N, 1, 28, 28).

    Raises:
        ModelNotFound: the checkpoint or the report is missing.
        CheckpointError: the checkpoint is damaged, or of another network.
    """
    folder = classifier.path.parent
    path = checkpoint.checkpoint_in(folder)
    if not path.is_file():
        raise ModelNotFound(f"live parity needs the weights in {path}, which is missing; `zoo export` writes it there")
    tolerances = read_tolerances(folder, classifier.sha256, tf32=classifier.tf32)
    network = create_model(classifier.name)
    checkpoint.load(path, model=classifier.name).load_into(network)
    expected, _ = run_network(network.eval(), images, BATCH_SIZE)
    started = time.perf_counter()
    found = {LOGITS: classifier.logits(images)}
    seconds = time.perf_counter() - started
    return compare_outputs(classifier, found, {LOGITS: expected}, tolerances, seconds, NETWORK)
