"""The checks that an exported file must pass, in the order they are run: one file each.

A check is a function that takes a `VerificationContext` and returns a `CheckResult`, or raises `CheckFailed` with a
sentence: what was expected, what was found, and where.
"""

from collections.abc import Callable

from export.verification.checks.accuracy import accuracy
from export.verification.checks.batch import batch
from export.verification.checks.decisions import decisions
from export.verification.checks.parity import parity
from export.verification.checks.self_contained import self_contained
from export.verification.checks.shapes import shapes
from export.verification.checks.signature import signature
from export.verification.checks.structure import structure
from export.verification.checks.weights import weights
from export.verification.context import CheckResult, VerificationContext

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
