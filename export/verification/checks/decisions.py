"""Check: the graph calls every image what the network calls it.

A file with integers is besides held to a budget: how much of its accuracy rounding may cost.
"""

import math
from typing import Any

import numpy as np

from export.verification.accuracy_change import AccuracyChange
from export.verification.context import CheckFailed, CheckResult, VerificationContext
from runtime.model.metadata import LOGITS

LISTED = 20


def decisions(context: VerificationContext) -> CheckResult:
    ours, theirs = context.network_outputs[0], context.graph_logits
    tolerance = context.parity[LOGITS]["tolerance_on_real_images"]
    expected, found = ours.argmax(1), theirs.argmax(1)
    flips = [
        {
            "image": int(index),
            "network": int(expected[index]),
            "graph": int(found[index]),
            "margin": float(ours[index, expected[index]] - ours[index, found[index]]),
        }
        for index in np.flatnonzero(expected != found)
    ]
    # Two logits may each be off by the tolerance, towards each other.
    wrong = [flip for flip in flips if flip["margin"] > 2 * tolerance]
    measures: dict[str, Any] = {
        "images": len(expected),
        "flips": len(flips),
        "lost": int(((expected == context.labels) & (found != context.labels)).sum()),
        "gained": int(((expected != context.labels) & (found == context.labels)).sum()),
        "tolerance": 2 * tolerance,
        "listed": flips[:LISTED],
    }
    change = AccuracyChange(len(expected), len(flips), measures["lost"], measures["gained"])
    measures["p_value"] = change.p_value
    if context.precision.in_integers and change.lost - change.gained > math.ceil(context.max_drop * len(expected)):
        raise CheckFailed(
            f"accuracy drops by {(change.lost - change.gained) / len(expected):.4f}, and {context.max_drop:g} is "
            f"allowed (--max-drop): {change} (McNemar's p {change.p_value:.2g})",
            measures,
        )
    if wrong:
        first = wrong[0]
        raise CheckFailed(
            f"{len(wrong)} of {len(expected)} decisions differ beyond tolerance; the first is image {first['image']}: "
            f"class {first['network']} in the network, {first['graph']} in the graph, margin {first['margin']:.3g}",
            measures,
        )
    widest = max((flip["margin"] for flip in flips), default=0.0)
    words = f", by margins up to {widest:.2g}; {2 * tolerance:.2g} is allowed" if flips else ""
    if context.precision.in_integers:
        words += f"; {change.lost} lost, {change.gained} gained, McNemar's p {change.p_value:.2g}"
    return CheckResult(f"{len(flips)} of {len(expected):,} decisions differ{words}", measures)
