"""Check: every parameter that the network reads is in the file, bit by bit; what else the file holds is listed."""

from export.verification.activation_scales import activation_problems
from export.verification.context import CheckFailed, CheckResult, VerificationContext
from export.verification.integer_weights import biases_of, integer_problems

LISTED = 20


def weights(context: VerificationContext) -> CheckResult:
    found = context.provenance
    integers = context.integers
    biases = biases_of(context.model.graph, integers, context.trace.tensors)
    problems = integer_problems(context.model.graph, integers, biases) + activation_problems(context) + found.problems
    measures = {
        "tensors": len(found.sources),
        "folded": found.folded,
        "unread": found.unread,
        "unexplained": found.unexplained[:LISTED],
        "problems": problems[:LISTED],
        "integers": {name: f"int{weight.bits} {list(weight.values.shape)}" for name, weight in integers.items()},
    }
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise CheckFailed(problems[0] + more, measures)
    folded = f"; recomputed: {len(found.folded)} batch norms folded into the layer in front" if found.folded else ""
    rounding = f"; rounded as declared, recomputed: {context.precision}" if context.precision.rounds else ""
    more = f" and {len(found.unexplained) - 1} more" if len(found.unexplained) > 1 else ""
    beside = f"; beside them and the numbers of the code: {found.unexplained[0]}{more}" if found.unexplained else ""
    return CheckResult(
        f"{found.held} parameters and buffers are in the file, equal; {len(found.sources)} of its tensors are these or "
        f"numbers of the network's code{beside}{folded}{rounding}",
        measures,
    )
