"""Accuracy on pictures as people have them: data set images put into photographs, screenshots, cut-outs and figures.

python benchmarks/pictures.py [--model lenet-modern] [--images 500] [--split test]

The procedure of `runtime.imaging.preprocess` was chosen on the last images of the training set (`--split validation`);
`--split test` reports. Every kind takes the same images; `agreement` is with the answers to the plain images.
"""

import argparse
import resource
import subprocess
import sys
import timeit
from typing import Any

import conditions
import numpy as np
from picture_kinds import KINDS, Levels, encoded, levels_of, photo
from PIL import Image

from runtime import Classifier
from runtime.datasets import fashion_mnist
from runtime.imaging.preprocess import to_pixels


def measure(classifier: Classifier, images: Levels, labels: Levels, name: str, plain: list[int]) -> dict[str, Any]:
    """Return accuracy, agreement with the plain images, and how many pictures were warned about."""
    make, wanted, warned_is_right = KINDS[name]
    rng = np.random.default_rng(18)
    sources = [make(image, rng) for image in images]
    answers = classifier.predict_batch(sources)
    found = np.array([answer.index for answer in answers])
    warned = np.array([bool(answer.warnings) for answer in answers])
    right = found == labels
    kept = float((right | warned).mean()) if warned_is_right else float(right.mean())
    return {
        "accuracy": round(float(right.mean()), 3),
        "agreement": round(float(np.mean(found == plain)) if plain else 1.0, 3),
        "warned": round(float(warned.mean()), 3),
        "right_or_warned": round(float((right | warned).mean()), 3),
        "wanted": wanted,
        "reached": wanted is None or kept >= wanted,
    }


def milliseconds(source: Any, rounds: int) -> float:
    """The median time from a source to its pixels."""
    return round(1000 * float(np.median(timeit.repeat(lambda: to_pixels(source), number=1, repeat=rounds))), 4)


def large_jpeg() -> dict[str, float]:
    """Seconds and MiB that a 48-megapixel JPEG takes, in a process of its own."""
    program = (
        "import sys, time; from pathlib import Path; from runtime.imaging.preprocess import to_pixels\n"
        "peak = lambda: int(Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0])\n"
        "data = sys.stdin.buffer.read(); before = peak(); start = time.perf_counter(); to_pixels(data)\n"
        "print(time.perf_counter() - start, (peak() - before) / 1024)"
    )
    scene = photo(fashion_mnist.load("test")[0][0, 0], np.random.default_rng(0))
    phone = levels_of(scene).resize((8000, 6000), Image.Resampling.BICUBIC).convert("RGB")
    data = encoded(phone, "JPEG", quality=90)
    done = subprocess.run([sys.executable, "-c", program], input=data, capture_output=True, check=True)
    seconds, mebibytes = map(float, done.stdout.split())
    return {"seconds": round(seconds, 3), "mebibytes": round(mebibytes, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="lenet-modern")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--split", choices=["test", "validation"], default="test")
    parser.add_argument("--only", default="", help="part of a kind's name; nothing is saved")
    arguments = parser.parse_args()
    if arguments.split == "test":
        images, labels = fashion_mnist.load("test")
        images, labels = images[: arguments.images, 0], labels[: arguments.images]
    else:
        images, labels = fashion_mnist.load("train")
        images, labels = images[-arguments.images :, 0], labels[-arguments.images :]
    classifier = Classifier(arguments.model, device="cpu", threads=1)
    plain = [answer.index for answer in classifier.predict_batch(list(images))]
    rows = {}
    for name in KINDS:
        if arguments.only in name:
            rows[name] = row = measure(classifier, images, labels, name, plain)
            print(f"{name:42}" + "  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    if arguments.only:
        return
    x = images[0]
    figures = {
        "what": f"{len(images)} images of the {arguments.split} set put into pictures of each kind, {arguments.model}",
        "kinds": rows,
        "milliseconds": {
            "28x28 PNG of the data set": milliseconds(encoded(Image.fromarray(x), "PNG"), 300),
            "28x28 PNG, dark on 225": milliseconds(encoded(levels_of(225 * (1 - x / 255)), "PNG"), 300),
            "320x320 PNG": milliseconds(encoded(levels_of(photo(x, np.random.default_rng(0))), "PNG"), 100),
        },
        "48-megapixel JPEG": large_jpeg(),
        "peak_mebibytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    name = "pictures" if arguments.split == "test" else "pictures_validation"
    print(figures["milliseconds"], figures["48-megapixel JPEG"], conditions.save(name, figures), sep="\n")


if __name__ == "__main__":
    main()
