"""What `Classifier.logits` adds to the `session.run` inside it, on the same array, call by call in turn.

python benchmarks/overhead.py [MODEL...]
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import conditions

from runtime import Classifier, fashion_mnist

CALLS = {1: 3000, 256: 100}


def microseconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - started) / 1000


def measure(classifier: Classifier, pixels: Any, calls: int) -> dict[str, float]:
    """Return medians in microseconds; the overhead is the median of the differences of neighbouring calls."""
    session = classifier._live.session
    ways = [lambda: session.run(["logits"], {"image": pixels}), lambda: classifier.logits(pixels)]
    for _ in range(calls // 10):
        ways[0](), ways[1]()
    rows = []
    for turn in range(calls):
        first = turn % 2  # each is first as often as the other
        times = {way: microseconds(ways[way]) for way in (first, 1 - first)}
        rows.append((times[0], times[1]))
    raw = statistics.median(row[0] for row in rows)
    added = statistics.median(row[1] - row[0] for row in rows)
    return {"raw_us": round(raw, 1), "added_us": round(added, 2), "added_percent": round(100 * added / raw, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", metavar="MODEL", nargs="*", default=["lenet"])
    models = parser.parse_args().models
    images = fashion_mnist.load("test")[0]
    figures: dict[str, Any] = {}
    for model in models:
        with Classifier(model, device="cpu") as classifier:
            figures[model] = {
                f"batch {size}": measure(classifier, images[:size].copy(), calls) for size, calls in CALLS.items()
            }
    what = "Classifier.logits against session.run of the same session on the same array, CPU, in turn; medians"
    print(figures, conditions.save("overhead", {"what": what, "calls": CALLS, "models": figures}), sep="\n")


if __name__ == "__main__":
    main()
