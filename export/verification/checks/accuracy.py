"""Check: the accuracy that the file declares is the one that the torch-free runtime measures.

If fewer images are given than it was declared over, they count as a subset of those: the declared figure must then be
possible.

An app names an answer by the file's labels. So where the network's labels are known, answers are compared by name.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from export.verification.context import CheckFailed, CheckResult, VerificationContext
from runtime.errors import UsageError
from runtime.evaluation.labels import class_indices

_ROUNDING = 1e-9  # of a quotient, as whoever wrote the file printed it


def accuracy(context: VerificationContext) -> CheckResult:
    declared = context.metadata.fields["accuracy"]
    if declared is None:
        return CheckResult("the file declares no accuracy")
    if problem := _malformed(declared):
        raise CheckFailed(problem)
    total, claimed = declared["n"], declared["correct"]
    correct = int((context.graph_logits.argmax(1) == _true_classes(context)).sum())
    count = len(context.labels)
    measures = {"n": count, "correct": correct}
    if count > total:
        raise CheckFailed(
            f"the file declares its accuracy over {total:,} images, and {count:,} were given: verify it on those it "
            "was measured on, or export it again with these",
            measures,
        )
    if count == total and claimed != correct:
        raise CheckFailed(f"the file declares {claimed} of {total} right, but the runtime counts {correct}", measures)
    if correct > claimed or count - correct > total - claimed:
        raise CheckFailed(
            f"the file declares {claimed} of {total} right, which cannot be: of the {count} images given, which "
            f"should be among them, {correct} are right and {count - correct} wrong",
            measures,
        )
    if count < total:
        return CheckResult(
            f"{correct / count:.4f} on the {count:,} images given; the declared {declared['top1']:.4f} is over "
            f"{total:,}: possible, but not measured here",
            measures,
        )
    return CheckResult(f"{correct:,} of {count:,} right: {correct / count:.4f}, as declared", measures)


def _true_classes(context: VerificationContext) -> npt.NDArray[Any]:
    """Return the class of each picture as an index into the file's labels; `context.labels` are the network's."""
    names = context.expected.get("labels")
    if names is None:
        return np.asarray(context.labels)
    try:
        places = class_indices(names, context.metadata.labels, data="the network", model="the file")
    except UsageError as error:
        raise CheckFailed(str(error)) from error
    return np.asarray(places[context.labels])


def _malformed(declared: Any) -> str | None:
    """Say why a declaration is none, or contradicts itself."""
    expected = "the metadata 'accuracy' should be null or {n, correct, top1}"
    if not isinstance(declared, dict) or not {"n", "correct", "top1"} <= declared.keys():
        return f"{expected}, but is {declared!r}"
    n, correct, top1 = (declared[key] for key in ("n", "correct", "top1"))
    if any(isinstance(value, bool) or not isinstance(value, int) for value in (n, correct)) or not 0 <= correct <= n:
        return f"{expected} with two whole numbers, 0 <= correct <= n, but has n {n!r} and correct {correct!r}"
    if n == 0 or isinstance(top1, bool) or not isinstance(top1, int | float):
        return f"{expected} over one image or more, but has n {n!r} and top1 {top1!r}"
    if not abs(top1 - correct / n) <= _ROUNDING:  # so that a NaN is refused
        return f"the file declares {correct} of {n} right, which is {correct / n:.6f}, but a top-1 of {top1!r}"
    return None
