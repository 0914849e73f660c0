"""Measure session settings in turn, and report the best for a model on this machine."""

import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from runtime.classifier import Classifier
from runtime.errors import FashionZooError
from runtime.evaluation.benchmark import check_measuring
from runtime.evaluation.parity import measure_parity
from runtime.evaluation.timing import WARM_UP_RUNS, conditions, figures, load_average, timed
from runtime.session.device import available_cpus
from runtime.session.session import ALGORITHMS, Tuning

ROUNDS = 3
MARGIN = 1.02  # a setting must be so many times as fast as the default to be preferred to it


def measure_sweep(
    classifier: Classifier,
    *,
    threads: int | None = None,
    batch_sizes: Sequence[int],
    min_seconds: float,
    min_runs: int,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Open the model with each setting, and time all of them in turn at each batch size.

    On the CPU: how many threads, and whether idle ones spin. On CUDA: cuDNN's algorithm search, channels last, graphs;
    only settings that pass the model's parity may be the best. Nothing is stored: pass the best to `Classifier`.
    Settings are ranked by the geometric mean, over batch sizes, of their speed relative to the default's.
    """
    check_measuring(batch_sizes, min_seconds, min_runs)
    load = load_average()
    rows: list[dict[str, Any]] = []
    opened: list[tuple[dict[str, Any], Classifier]] = []
    for settings, tuning, count in _candidates(classifier.device, threads):
        row: dict[str, Any] = {"settings": settings, "images_per_second": {}, "times_default": None, "error": None}
        rows.append(row)
        try:
            opened.append((row, _opened(classifier, tuning, count)))
        except FashionZooError as error:
            row["error"] = str(error)
    if not opened:
        raise FashionZooError(f"not one setting works here; with the default one: {rows[0]['error']}")
    for batch_size in batch_sizes:
        pixels = classifier.input.random(batch_size)
        samples: dict[int, list[int]] = {}
        for turn, (index, (row, candidate)) in itertools.product(range(ROUNDS), enumerate(opened)):
            if progress is not None:
                progress(1)
            if row["error"] is not None:
                continue
            run = partial(candidate.logits, pixels, batch_size)
            try:
                for _ in range(WARM_UP_RUNS if turn == 0 else 1):
                    run()
                samples.setdefault(index, []).extend(timed(run, min_seconds / ROUNDS, -(-min_runs // ROUNDS)))
            except FashionZooError as error:  # out of memory, say: the others are measured all the same
                row["error"] = str(error)
        for index, (row, _) in enumerate(opened):
            if row["error"] is None:
                row["images_per_second"][str(batch_size)] = figures(batch_size, samples[index])["images_per_second"]
    default = opened[0][0]  # the default settings, or the first that work where those do not
    for row, candidate in opened:
        ratios = [
            row["images_per_second"][size] / speed
            for size, speed in default["images_per_second"].items()
            if row["error"] is None
        ]
        row["times_default"] = round(statistics.geometric_mean(ratios), 4) if ratios else None
        candidate.close()
    if default["error"] is not None:
        raise FashionZooError(f"the first setting that opened failed while it was measured: {default['error']}")
    best = max(opened, key=lambda pair: pair[0]["times_default"] or -math.inf)[0]
    if (best["times_default"] or 0.0) < MARGIN:
        best = default
    return {
        "model": classifier.name,
        "device": classifier.device,
        "rows": rows,
        "best": best["settings"],
        "conditions": conditions(threads)
        | {
            "rounds": ROUNDS,
            "min_seconds": min_seconds,
            "min_runs": min_runs,
            "tf32": classifier.tf32,
            "load_average": {"before": load, "after": load_average()},
        },
    }


def _candidates(device: str, threads: int | None) -> list[tuple[dict[str, Any], Tuning, int | None]]:
    """What to try, the default first: settings by name, and how to open a classifier with them."""
    if device == "cpu":
        most = threads or available_cpus()
        counts = sorted({most, max(1, most // 2), 1}, reverse=True)
        return [
            ({"threads": count, "spin_us": spin}, Tuning(spin_us=spin), count)
            for count, spin in itertools.product(counts, (Tuning().spin_us, 0))
        ]
    tunings = [
        replace(Tuning(), algorithms=algorithms, nhwc=nhwc, graphs=graphs)
        for graphs, nhwc, algorithms in itertools.product((True, False), (False, True), ALGORITHMS)
    ]
    return [(tuning.as_dict(), tuning, threads) for tuning in tunings]


def _opened(classifier: Classifier, tuning: Tuning, threads: int | None) -> Classifier:
    candidate = Classifier(
        classifier.path, device=classifier.device, threads=threads, tf32=classifier.tf32, tuning=tuning
    )
    if classifier.device != "cpu" and not (report := measure_parity(candidate)).passed:
        candidate.close()
        report.require()
    return candidate
