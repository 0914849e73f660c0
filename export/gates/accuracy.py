"""Gate: the accuracy that the file declares is the one that the torch-free runtime measures."""

from export.subject import Finding, GateFailure, Subject


def accuracy(subject: Subject) -> Finding:
    declared = subject.metadata.fields["accuracy"]
    if declared is None:
        return Finding("the file declares no accuracy")
    correct = int((subject.graph_logits.argmax(1) == subject.labels).sum())
    count = len(subject.labels)
    if count != declared["n"]:
        return Finding(
            f"{correct / count:.4f} on the {count:,} images given; the declared {declared['top1']:.4f} is over "
            f"{declared['n']:,} and was not checked",
            {"n": count, "correct": correct},
        )
    if declared["correct"] != correct or abs(declared["top1"] - correct / count) > 1e-9:
        raise GateFailure(
            f"the file declares {declared['correct']} of {declared['n']} right (top-1 {declared['top1']}), but the "
            f"runtime counts {correct}"
        )
    return Finding(
        f"{correct:,} of {count:,} right: {correct / count:.4f}, as declared", {"n": count, "correct": correct}
    )
