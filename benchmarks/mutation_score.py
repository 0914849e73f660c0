"""How many files with one mistake are refused, and by which check; how many correct files are refused.

    python benchmarks/mutation_score.py            # writes results/mutation_score.json; goes on where it stopped
    python benchmarks/mutation_score.py --sweep    # 5 seeds of every model, random weights, through every check

The sweep takes hours for the large models. results/false_alarms.json is written after each network, and the sweep
continues from there.

Each mutant goes through every check, and counts as caught only if the check that should refuse it does.
"""

import argparse
import functools
import hashlib
import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import torch  # noqa: E402
from conditions import RESULTS, save  # noqa: E402
from support.mutant_checks import context_of, verdict  # noqa: E402
from support.mutants import EQUIVALENTS, MUTANTS  # noqa: E402
from support.number_mutants import NUMBER_MUTANTS, NUMBER_REWRITES  # noqa: E402

from export import Description, verify  # noqa: E402
from export.bundle.artifact import expectations  # noqa: E402
from export.convert.exporter import build_graph  # noqa: E402
from export.verification.checks import CHECKS  # noqa: E402
from runtime.datasets import fashion_mnist  # noqa: E402
from runtime.storage import write_bytes  # noqa: E402
from zoo.models import create_model, list_models  # noqa: E402

SEEDS, SWEPT_IMAGES = 5, 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweep", action="store_true", help="look for false alarms, over seeds and models")
    parser.add_argument("models", nargs="*", help="sweep only these; all by default")
    asked = parser.parse_args()
    if asked.sweep:
        sweep_all(asked.models or list_models())
        return
    score()


def score() -> None:
    """Run every check on every mutant and every rewrite; results of a stopped run of the same code are kept."""
    images, labels = fashion_mnist.load("test")
    partial = RESULTS / "mutation_score.partial.json"
    mutants, rewrites = [*MUTANTS, *NUMBER_MUTANTS], [*EQUIVALENTS, *NUMBER_REWRITES]
    cases = [("mutant", name, check, network, mutate) for name, check, nets, mutate in mutants for network in nets]
    cases += [("rewrite", name, "", network, mutate) for name, nets, mutate in rewrites for network in nets]
    kept = json.loads(partial.read_text()) if partial.exists() else {}
    done: dict[str, Any] = kept["done"] if kept.get("code") == code() else {}
    for kind, name, _, network, mutate in cases:
        key = f"{kind}: {name}, {network}"
        if key in done:
            continue
        started = time.perf_counter()
        refusals = all_refusals(context_of(network, mutate, images[:, 0], labels))
        done[key] = {"refusals": refusals, "seconds": time.perf_counter() - started}
        write_bytes(partial, json.dumps({"code": code(), "done": done}).encode())
    rows, alarms = [], []
    for kind, name, check, network, _ in cases:
        refusals = done[f"{kind}: {name}, {network}"]["refusals"]
        if kind == "mutant":
            row = {
                "mutant": name,
                "network": network,
                "check": check,
                "caught": check in refusals,
                "by": list(refusals),
            }
            rows.append(row | {"detail": refusals.get(check)})
        elif refusals:
            alarms.append({"rewrite": name, "network": network, "refusals": refusals})
    caught = sum(row["caught"] for row in rows)
    figures: dict[str, Any] = {
        "code": code(),
        "mutants": len(rows),
        "caught_by_the_right_check": caught,
        "score": caught / len(rows),
        "rewrites": len(cases) - len(rows),
        "rewrites_refused": alarms,
        "seconds": round(sum(case["seconds"] for case in done.values()), 1),
        "rows": rows,
    }
    print(save("mutation_score", figures))
    partial.unlink()
    print(f"{caught} of {len(rows)} mutants caught by the right check; {len(alarms)} rewrites refused")


@functools.cache
def code() -> str:
    """Return a digest of the code that decides the score: checks, runtime, mutants."""
    mutants = (ROOT / "tests" / "support").glob("*mutant*.py")
    files = [*(ROOT / "export").rglob("*.py"), *(ROOT / "runtime").rglob("*.py"), *mutants]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(files))).hexdigest()


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


def sweep_all(models: list[str]) -> None:
    """Verify networks of every model with random weights; results of an earlier run are kept."""
    path = RESULTS / "false_alarms.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    images, labels = (array[:SWEPT_IMAGES] for array in fashion_mnist.load("test"))
    for name, seed in itertools.product(models, range(SEEDS)):
        if any((row["model"], row["seed"]) == (name, seed) for row in rows):
            continue
        rows.append(sweep(name, seed, images, labels))
        alarms = [row for row in rows if not row["passed"]]
        figures = {"networks": len(rows), "alarms": len(alarms), "images": SWEPT_IMAGES, "rows": rows}
        save("false_alarms", figures)
        print(f"{name}, seed {seed}: {rows[-1]['failures'] or 'passed'}", flush=True)


def sweep(name: str, seed: int, images: Any, labels: Any) -> dict[str, Any]:
    torch.manual_seed(seed)
    network = create_model(name).eval()
    description = Description(name=name, labels=fashion_mnist.LABELS, seed=seed)
    content = build_graph(network, description.metadata(None))
    report = verify(network, content, images=images, labels=labels, expected=expectations(description))
    return {"model": name, "seed": seed, "passed": report.passed, "failures": [c.detail for c in report.failures]}


if __name__ == "__main__":
    main()
