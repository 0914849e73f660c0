"""10,000 PNG files through `predict_batch` against the loop one writes by hand, in turn, on all cores allowed.

python benchmarks/predict_batch.py [ROUNDS]
"""

import argparse
import statistics
import tempfile
import timeit
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import conditions
import numpy as np
import onnxruntime
from PIL import Image

from runtime import Classifier
from runtime.datasets import fashion_mnist
from runtime.model.registry import find_model

MODEL = "lenet"
BATCH_SIZE = 256


def by_hand(session: Any, paths: list[Path]) -> list[int]:
    """Return the classes by Pillow, numpy and one `session.run` per 256 images, without any checks."""
    answers: list[int] = []
    for start in range(0, len(paths), BATCH_SIZE):
        pictures = [np.asarray(Image.open(path).convert("L")) for path in paths[start : start + BATCH_SIZE]]
        (probabilities,) = session.run(["probabilities"], {"image": np.stack(pictures)[:, None]})
        answers += probabilities.argmax(axis=1).tolist()
    return answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", type=int, nargs="?", default=7)
    rounds = parser.parse_args().rounds
    session = onnxruntime.InferenceSession(find_model(MODEL).path, providers=["CPUExecutionProvider"])
    classifier = Classifier(MODEL, device="cpu")
    methods: dict[str, Callable[[list[Path]], list[int]]] = {
        "predict_batch": lambda paths: [a.index for a in classifier.predict_batch(paths, BATCH_SIZE)],
        "by_hand": lambda paths: by_hand(session, paths),
    }
    with tempfile.TemporaryDirectory() as scratch:
        paths = [Path(scratch) / f"{index:05}.png" for index in range(10_000)]
        for path, image in zip(paths, fashion_mnist.load("test")[0][:, 0], strict=True):
            Image.fromarray(image).save(path)
        answers = {name: method(paths) for name, method in methods.items()}  # the warm-up; not timed
        differing = sum(a != b for a, b in zip(*answers.values(), strict=True))
        timed = {name: partial(timeit.timeit, partial(method, paths), number=1) for name, method in methods.items()}
        seconds = conditions.in_turn(timed, rounds)
    ratio = conditions.median_ratio(seconds["by_hand"], seconds["predict_batch"])
    figures = {
        "what": f"{len(paths):,} PNG files of 28x28, {MODEL}, batches of {BATCH_SIZE}, CPU, in turn; medians",
        "rounds": rounds,
        "images_per_second": {name: round(len(paths) / statistics.median(row)) for name, row in seconds.items()},
        "seconds": {name: [round(value, 3) for value in row] for name, row in seconds.items()},
        "median_ratio": round(ratio, 3),
        "answers_that_differ": differing,  # where the rule on light backgrounds inverts, and the loop does not
    }
    print(figures, conditions.save("predict_batch", figures), sep="\n")


if __name__ == "__main__":
    main()
