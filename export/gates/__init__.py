"""The gates that an exported file must pass, in the order they are run: one file each.

A gate is a function that takes a `Subject` and returns a `Finding`, or raises `GateFailure`. What it expected, what it
found and where belongs in the sentence of the failure.
"""

from collections.abc import Callable

from export.gates.accuracy import accuracy
from export.gates.batch import batch
from export.gates.closed_world import closed_world
from export.gates.decisions import decisions
from export.gates.parity import parity
from export.gates.shapes import shapes
from export.gates.signature import signature
from export.gates.structure import structure
from export.gates.weights import weights
from export.subject import Finding, Subject

GATES: dict[str, Callable[[Subject], Finding]] = {
    "closed world": closed_world,
    "structure": structure,
    "signature": signature,
    "batch": batch,
    "shapes": shapes,
    "weights": weights,
    "parity": parity,
    "decisions": decisions,
    "accuracy": accuracy,
}
