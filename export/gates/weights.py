"""Gate: every parameter of the network is in the file, and nothing is in the file that the network does not hold."""

from export.subject import Finding, GateFailure, Subject

LISTED = 20


def weights(subject: Subject) -> Finding:
    found = subject.provenance
    measures = {
        "tensors": len(found.sources),
        "folded": found.folded,
        "unread": found.unread,
        "problems": found.problems[:LISTED],
    }
    if found.problems:
        more = f" (and {len(found.problems) - 1} more)" if len(found.problems) > 1 else ""
        raise GateFailure(found.problems[0] + more, measures)
    folded = f"; recomputed: {len(found.folded)} batch norms folded into the layer in front" if found.folded else ""
    rounding = f"; rounded as declared, recomputed: {subject.precision}" if subject.precision.rounds else ""
    return Finding(
        f"{found.held} parameters and buffers are in the file, equal, as "
        f"{len(found.sources)} tensors; none comes from elsewhere{folded}{rounding}",
        measures,
    )
