"""The checks that an exported file must pass, in the order they are run: one file each.

A check is a function that takes a `VerificationContext` and returns a `CheckResult`, or raises `CheckFailed` with a
sentence: what was expected, what was found, and where.
"""

from collections.abc import Callable

from export.gates.accuracy import accuracy
from export.gates.batch import batch
from export.gates.closed_world import self_contained
from export.gates.decisions import decisions
from export.gates.parity import parity
from export.gates.shapes import shapes
from export.gates.signature import signature
from export.gates.structure import structure
from export.gates.weights import weights
from export.subject import CheckResult, VerificationContext

CHECKS: dict[str, Callable[[VerificationContext], CheckResult]] = {
    "self-contained": self_contained,
    "structure": structure,
    "signature": signature,
    "batch": batch,
    "shapes": shapes,
    "weights": weights,
    "parity": parity,
    "decisions": decisions,
    "accuracy": accuracy,
}
