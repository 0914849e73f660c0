"""How many files with one mistake are refused, and by which check; how many correct files are refused.

    python benchmarks/mutation_score.py            # writes results/mutation_score.json

Each mutant goes through every check, and counts as caught only if the check that should refuse it does.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from conditions import save  # noqa: E402
from support.mutant_checks import context_of, verdict  # noqa: E402
from support.mutants import MUTANTS  # noqa: E402
from support.rewrites import EQUIVALENTS  # noqa: E402

from export.verification.checks import CHECKS  # noqa: E402
from runtime.datasets import fashion_mnist  # noqa: E402


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    images, labels = fashion_mnist.load("test")
    rows, alarms, rewrites = [], [], 0
    started = time.perf_counter()
    for name, check, networks, mutate in MUTANTS:
        for network in networks:
            refusals = all_refusals(context_of(network, mutate, images[:, 0], labels))
            row = {"mutant": name, "network": network, "check": check, "caught": check in refusals}
            rows.append(row | {"by": list(refusals), "detail": refusals.get(check)})
    for name, networks, mutate in EQUIVALENTS:
        for network in networks:
            rewrites += 1
            if refusals := all_refusals(context_of(network, mutate, images[:, 0], labels)):
                alarms.append({"rewrite": name, "network": network, "refusals": refusals})
    caught = sum(row["caught"] for row in rows)
    figures: dict[str, Any] = {
        "mutants": len(rows),
        "caught_by_the_right_check": caught,
        "score": caught / len(rows),
        "rewrites": rewrites,
        "rewrites_refused": alarms,
        "seconds": round(time.perf_counter() - started, 1),
        "rows": rows,
    }
    print(save("mutation_score", figures))
    print(f"{caught} of {len(rows)} mutants caught by the right check; {len(alarms)} rewrites refused")


def all_refusals(context: Any) -> dict[str, str]:
    """Run every check; after `self-contained` fails no other is run, as in `verify`."""
    refusals: dict[str, str] = {}
    for check in CHECKS:
        reason = verdict(check, context)
        if reason:
            refusals[check] = reason
            if check == "self-contained":
                break
    return refusals


if __name__ == "__main__":
    main()
