"""Accuracy on corrupted test images, by kind, severity and model: the kinds of Fashion-MNIST-C and ImageNet-C
(Hendrycks and Dietterich, Benchmarking neural network robustness, 2019), written from their description.

    python -m benchmarks.robustness [--images 1000] [MODEL ...]

writes benchmarks/results/robustness.json, which `python -m tools.plots` draws. Images are the first ones of the test
set, given to the network as they are: no framing mends them.
"""

import argparse
import io
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from benchmarks.conditions import save
from runtime import Classifier
from runtime.datasets import fashion_mnist
from runtime.model.registry import read_index, repository_weights

Pixels = np.ndarray[Any, np.dtype[Any]]  # uint8 (N, 28, 28)
Corruption = Callable[[Pixels, np.random.Generator], Pixels]


def _levels(values: Pixels) -> Pixels:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def _each(change: Callable[[Image.Image], Image.Image]) -> Corruption:
    return lambda images, rng: np.stack([np.asarray(change(Image.fromarray(image))) for image in images])


def _gaussian(deviation: float) -> Corruption:
    return lambda images, rng: _levels(images + rng.normal(0, deviation, images.shape))


def _shot(photons: float) -> Corruption:
    return lambda images, rng: _levels(rng.poisson(images / 255 * photons) / photons * 255)


def _impulse(share: float) -> Corruption:
    def corrupt(images: Pixels, rng: np.random.Generator) -> Pixels:
        hit, white = rng.random(images.shape) < share, rng.random(images.shape) < 0.5
        return np.where(hit, np.where(white, 255, 0), images).astype(np.uint8)

    return corrupt


def _affine(turn: float = 0, scale: float = 1, shear: float = 0, shift: float = 0) -> Corruption:
    """Degrees, factor of the size, share of the height, pixels; about the centre, each sign drawn for each image."""

    def corrupt(images: Pixels, rng: np.random.Generator) -> Pixels:
        changed = []
        for image, (one, other) in zip(images, rng.choice([-1, 1], (len(images), 2)), strict=True):
            cos, sin = np.cos(np.deg2rad(turn * one)) / scale, np.sin(np.deg2rad(turn * one)) / scale
            (a, b), (c, d) = np.array([[cos, sin], [-sin, cos]]) @ np.array([[1, shear * one], [0, 1]])
            e, f = shift * one, shift * other
            about = (a, b, 14 - 14 * (a + b) + e, c, d, 14 - 14 * (c + d) + f)
            size = (28, 28)
            changed.append(np.asarray(Image.fromarray(image).transform(size, Image.Transform.AFFINE, about, 2)))
        return np.stack(changed)

    return corrupt


def _jpeg(quality: int) -> Corruption:
    def change(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return _each(change)


def _stripe(width: int) -> Corruption:
    def corrupt(images: Pixels, rng: np.random.Generator) -> Pixels:
        begins = rng.integers(6, 22 - width, len(images))
        columns = np.arange(28)
        hit = (columns >= begins[:, None]) & (columns < begins[:, None] + width)
        return np.where(hit[:, None], 255, images).astype(np.uint8)

    return corrupt


def _occlusion(side: int) -> Corruption:
    def corrupt(images: Pixels, rng: np.random.Generator) -> Pixels:
        changed = images.copy()
        for image, (top, left) in zip(changed, rng.integers(2, 27 - side, (len(images), 2)), strict=True):
            image[top : top + side, left : left + side] = 0
        return changed

    return corrupt


KINDS: dict[str, list[Corruption]] = {
    "gaussian noise": [_gaussian(level) for level in (10, 25, 50)],
    "shot noise": [_shot(photons) for photons in (60, 25, 8)],
    "impulse noise": [_impulse(share) for share in (0.02, 0.06, 0.15)],
    "blur": [_each(lambda image, r=r: image.filter(ImageFilter.GaussianBlur(r))) for r in (0.6, 1.0, 1.6)],  # type: ignore[misc]
    "contrast": [lambda images, rng, c=c: _levels(images * c) for c in (0.6, 0.35, 0.15)],  # type: ignore[misc]
    "brightness": [lambda images, rng, b=b: _levels(images + b) for b in (25.0, 60.0, 110.0)],  # type: ignore[misc]
    "rotation": [_affine(turn=turn) for turn in (8, 16, 30)],
    "scale": [_affine(scale=scale) for scale in (0.9, 0.75, 0.55)],
    "translation": [_affine(shift=shift) for shift in (1.5, 3, 5)],
    "shear": [_affine(shear=shear) for shear in (0.1, 0.25, 0.45)],
    "JPEG": [_jpeg(quality) for quality in (50, 20, 8)],
    "stripe": [_stripe(width) for width in (1, 2, 4)],
    "occlusion": [_occlusion(side) for side in (5, 8, 12)],
}


def accuracy(classifier: Classifier, images: Pixels, labels: Pixels) -> float:
    return float((classifier.logits(np.ascontiguousarray(images[:, None])).argmax(1) == labels).mean())


def main() -> None:
    weights = repository_weights()
    assert weights is not None
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="*", default=list(read_index(weights)))
    parser.add_argument("--images", type=int, default=1000)
    asked = parser.parse_args()
    pixels, labels = fashion_mnist.load("test")
    images, labels, results = pixels[: asked.images, 0], labels[: asked.images], {}
    for model in asked.models:
        classifier = Classifier(model, device="cpu")
        found = {
            kind: [accuracy(classifier, f(images, np.random.default_rng(0)), labels) for f in levels]
            for kind, levels in KINDS.items()
        }
        mean = float(np.mean(list(found.values())))
        results[model] = {"clean": accuracy(classifier, images, labels), "mean": mean, "corrupted": found}
        print(f"{model}: clean {results[model]['clean']:.3f}, mean of corrupted {mean:.3f}", flush=True)
    what = "test accuracy on corrupted images at three severities, by kind; see benchmarks/robustness.py"
    save("robustness", {"what": what, "images": len(labels), "models": results})


if __name__ == "__main__":
    main()
