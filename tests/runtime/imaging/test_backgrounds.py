"""Test images put into photographs, screenshots, cut-outs and figures get the answers that they get themselves.

The pictures are made by benchmarks/picture_kinds.py; benchmarks/pictures.py measures many more of them.
"""

import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.pictures import encoded

from runtime import Classifier
from runtime.imaging.load import COLOUR_MAP
from runtime.imaging.preprocess import LOW_CONTRAST, NOT_PLAIN, to_pixels

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "benchmarks"))

from picture_kinds import KINDS, levels_of, photo  # noqa: E402

IMAGES = 60


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier(ROOT / "weights" / "lenet-modern", device="cpu")


@pytest.mark.parametrize(
    "kind",
    [
        "reduced to 28, dark on 190 to 250",
        "reduced to 28, light on 5 to 50",
        "falloff 70",
        "vignette 110",
        "light from both sides",
        "noise of 5, falloff 55",
        "letterbox",
        "one bar",
        "thin frame of 1 pixel",
        "polaroid",
        "figure with axes off",
        "figure with axes on",
        "white margin",
        "white margin inside 28x28",
        "screenshot of a phone, dark",
        "screenshot of a browser",
        "evenly transparent",
        "round corners",
        "cut-out, data set image",
        "cut-out, dark",
        "cut-out, pale",
        "cut-out, white",
        "white strokes",
        "captions in all corners",
        "contrast 14",
    ],
)
def test_a_garment_is_found_on_every_background_that_is_plain(kind, classifier, test_images):
    rng = np.random.default_rng(7)
    images = test_images[:IMAGES]
    plain = classifier.predict_batch(list(images))
    found = classifier.predict_batch([KINDS[kind][0](image, rng) for image in images])
    assert np.mean([a.index == b.index for a, b in zip(plain, found, strict=True)]) >= 0.85  # measured: .93 and more
    assert sum(NOT_PLAIN in answer.warnings for answer in found) <= 1
    if kind == "contrast 14":
        assert all(LOW_CONTRAST in answer.warnings for answer in found)


@pytest.mark.parametrize("kind", ["tiles", "planks", "clutter", "jet", "Spectral"])
def test_what_cannot_be_told_from_its_background_is_right_or_warned_about(kind, classifier, test_images, test_labels):
    rng = np.random.default_rng(7)
    found = classifier.predict_batch([KINDS[kind][0](image, rng) for image in test_images[:IMAGES]])
    good = [bool(answer.warnings) or answer.index == label for answer, label in zip(found, test_labels, strict=False)]
    assert np.mean(good) >= 0.85


@pytest.mark.parametrize("kind", ["plain", "negative", "resized to 224, bicubic", "photograph", "padded to 32"])
def test_a_plain_picture_is_not_warned_about(kind, test_images):
    rng = np.random.default_rng(7)
    warned = [to_pixels(KINDS[kind][0](image, rng)).warnings for image in test_images[:200]]
    assert sum(map(bool, warned)) <= 4, warned


def test_a_blank_picture_is_warned_about_and_a_photograph_of_colours_is_not(test_images):
    assert to_pixels(np.full((200, 300), 200, np.uint8)).warnings
    red = Image.merge(
        "RGB", [Image.fromarray(255 - channel) for channel in (test_images[0] // 3, *[test_images[0]] * 2)]
    )
    assert to_pixels(encoded(red.resize((200, 200)), format="JPEG")).warnings == ()


def test_noise_in_every_colour_is_no_colour_map(test_images):
    """A photograph of one garment in poor light: each pixel has a hue of its own."""
    rng = np.random.default_rng(3)
    for image in test_images[:5]:
        grey = np.asarray(Image.fromarray(255 - image).resize((300, 300), Image.Resampling.BICUBIC))
        noisy = grey[..., None] * (0.9, 0.5, 0.4) + rng.normal(0, 45, (300, 300, 3))
        assert COLOUR_MAP not in to_pixels(noisy.clip(0, 255).astype(np.uint8)).warnings


def test_a_cut_out_shows_its_shape_whatever_colour_lies_under_it(test_images):
    image = test_images[0]
    for under in (0, 90, 255):
        levels = np.where(image > 0, image, under).astype(np.uint8)
        picture = Image.merge("LA", [Image.fromarray(levels), Image.fromarray((image > 0).astype(np.uint8) * 255)])
        np.testing.assert_array_equal(to_pixels(encoded(picture, format="PNG")).array, image)


def test_round_corners_of_a_window_are_no_mask(test_images):
    page = levels_of(photo(test_images[0], np.random.default_rng(0)))
    alpha = np.full((320, 320), 255, np.uint8)
    alpha[:6, :6] = alpha[-6:, -6:] = 0
    window = Image.merge("LA", [page, Image.fromarray(alpha)])
    assert np.abs(to_pixels(encoded(window, format="PNG")).array.astype(int) - to_pixels(page).array).mean() < 8


def test_a_phones_jpeg_is_decoded_at_a_fraction_of_its_size(test_images):
    scene = levels_of(photo(test_images[0], np.random.default_rng(0)))
    phone = encoded(scene.resize((6000, 4500), Image.Resampling.BICUBIC).convert("RGB"), format="JPEG", quality=80)
    tracemalloc.start()
    found = to_pixels(phone)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**25  # of 77 MiB decoded
    assert np.abs(found.array.astype(int) - to_pixels(scene.resize((320, 240))).array).mean() < 10
