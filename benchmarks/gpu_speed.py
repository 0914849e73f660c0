"""Training on a GPU against the book's pipeline, in turn in one run, and the time to the book's accuracy."""

import statistics
from typing import Any, get_args

from gpu_bench import TINY_BATCH, TINY_IMAGES, Bench
from gpu_measures import book_speed, compute_limit, engine_speed, seconds_to_accuracy
from zoo.capture import StepKind

from zoo.recipes import recipe_for
from zoo.settings import settle

# The median of D2L's own runs, and the shortest schedule that is expected to get there.
TARGETS: dict[str, tuple[float, dict[str, Any]]] = {
    "lenet": (0.807, {"epochs": 3}),
    "resnet18": (0.913, {"epochs": 4, "ema": 0.0, "erase": 0.0}),
    "vgg11": (0.919, {"epochs": 8, "ema": 0.0, "erase": 0.0}),
}
MEASURED_IMAGES = {"lenet": 60_000, "resnet18": 60_000, "vgg11": 30_000}


def train_speed(bench: Bench, model: str) -> dict[str, Any]:
    """Measure images/s of the whole loop against the book's pipeline, in turn, and the time to its accuracy."""
    images = TINY_IMAGES if bench.tiny else MEASURED_IMAGES[model]
    data = bench.images("train", bench.device)[slice(0, images)]
    precision = settle(model, None, None, {}, 0, False, device=bench.device).precision
    smaller = {"batch_size": TINY_BATCH} if bench.tiny else {}
    recipes = {name: recipe_for(model, name).override(**smaller) for name in ("d2l", "best")}
    on_cuda = bench.device.type == "cuda"
    kinds: dict[str, list[StepKind]] = {name: list(get_args(StepKind)) if on_cuda else ["eager"] for name in recipes}
    if on_cuda and model != "lenet":
        kinds["d2l"].remove("compile")  # compiling a large network takes a minute: once is enough
    epochs = 1 if bench.tiny or model == "vgg11" else 3
    tried: dict[str, dict[str, Any]] = {name: {} for name in recipes}
    for name, recipe in recipes.items():
        for kind in kinds[name]:
            try:
                tried[name][kind] = engine_speed(model, recipe, data, precision, kind, epochs)
            except Exception as error:  # one way that does not work must not hide the others
                tried[name][kind] = {"images_per_second": 0.0, "error": f"{type(error).__name__}: {error}"[:600]}
    fastest = {name: max(tried[name], key=lambda kind: tried[name][kind]["images_per_second"]) for name in recipes}
    rounds = []
    for _ in range(1 if bench.tiny else 2):
        book, load = book_speed(model, images, bench.device)
        ours, by_best = (engine_speed(model, recipes[n], data, precision, fastest[n], epochs) for n in ("d2l", "best"))
        row = {"d2l": round(book, 1), "zoo": ours["images_per_second"], "zoo_best": by_best["images_per_second"]}
        rounds.append(row | {"ratio": round(row["zoo"] / book, 2), "ratio_best": round(row["zoo_best"] / book, 2)})
    measured = bench.result("environment") or {}
    limit = compute_limit(model, measured["bf16_tflops"]) if measured.get("ok") else None
    target, shorter = TARGETS[model]
    reached = seconds_to_accuracy(
        model,
        recipes["best"].override(**shorter),
        0.0 if bench.tiny else target,
        bench.device,
        precision,
        "graph" if on_cuda else "eager",
        images if bench.tiny else 60_000,
    )
    return {
        "what": "images/s of whole epochs, recipe d2l, against the D2L pipeline, in turn; *_best: recipe best",
        "baseline": "torchvision FashionMNIST, ToTensor, DataLoader with 4 workers, eager SGD, batch 128",
        "model": model,
        "images": images,
        "precision": precision,
        "rounds": rounds,
        "median_ratio": statistics.median(row["ratio"] for row in rounds),
        "median_ratio_best": statistics.median(row["ratio_best"] for row in rounds),
        "steps": tried,
        "fastest_step": fastest,
        "book_load": load,
        "compute_limit_images_per_second": limit and round(limit),
        "seconds_to_the_books_accuracy": reached,
    }
