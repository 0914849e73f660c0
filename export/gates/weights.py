"""Gate: every parameter that the network reads is in the file, bit by bit; what else the file holds is listed."""

from export.subject import Finding, GateFailure, Subject

LISTED = 20


def weights(subject: Subject) -> Finding:
    found = subject.provenance
    measures = {
        "tensors": len(found.sources),
        "folded": found.folded,
        "unread": found.unread,
        "unexplained": found.unexplained[:LISTED],
        "problems": found.problems[:LISTED],
    }
    if found.problems:
        more = f" (and {len(found.problems) - 1} more)" if len(found.problems) > 1 else ""
        raise GateFailure(found.problems[0] + more, measures)
    folded = f"; recomputed: {len(found.folded)} batch norms folded into the layer in front" if found.folded else ""
    rounding = f"; rounded as declared, recomputed: {subject.precision}" if subject.precision.rounds else ""
    more = f" and {len(found.unexplained) - 1} more" if len(found.unexplained) > 1 else ""
    beside = f"; beside them and the numbers of the code: {found.unexplained[0]}{more}" if found.unexplained else ""
    return Finding(
        f"{found.held} parameters and buffers are in the file, equal; {len(found.sources)} of its tensors are these or "
        f"numbers of the network's code{beside}{folded}{rounding}",
        measures,
    )
