"""Batches of real images: order and augmentation are a function of (seed, epoch), or a resumed run would differ."""

import numpy as np
import numpy.typing as npt
import pytest
import torch

from zoo.data.dataset import Epochs, LabelledImages, load_split
from zoo.recipes import Recipe

PLAIN = Recipe(name="plain", epochs=1, batch_size=32, lr=0.1)


@pytest.fixture
def data(test_images: npt.NDArray[np.uint8], test_labels: npt.NDArray[np.uint8]) -> LabelledImages:
    images = torch.from_numpy(test_images[:100].copy())[:, None]
    return LabelledImages(images, torch.from_numpy(test_labels[:100].copy()).long())


def batches_of(
    data: LabelledImages, recipe: Recipe, seed: int = 0, epoch: int = 0
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    epochs = Epochs(data, recipe, seed)
    sample = epochs.sample(epoch)
    starts = range(0, len(data), recipe.batch_size)
    return [epochs.batch(sample, slice(start, min(start + recipe.batch_size, len(data)))) for start in starts]


def collect(data: LabelledImages, recipe: Recipe, seed: int = 0, epoch: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    batches = batches_of(data, recipe, seed, epoch)
    return torch.cat([images for images, _ in batches]), torch.cat([labels for _, labels in batches])


def as_set(images: torch.Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in images}


def test_an_epoch_shows_every_image_once_and_the_last_batch_is_what_remains(data):
    batches = batches_of(data, PLAIN)

    assert [len(labels) for _, labels in batches] == [32, 32, 32, 4]
    assert as_set(torch.cat([images for images, _ in batches])) == as_set(data.images)


def test_labels_stay_with_their_images(data):
    label_of = {image.numpy().tobytes(): label for image, label in zip(data.images, data.labels, strict=True)}
    images, labels = collect(data, PLAIN)

    assert all(label_of[image.numpy().tobytes()] == label for image, label in zip(images, labels, strict=True))


def test_the_same_seed_and_epoch_give_the_same_pictures_and_any_other_do_not(data):
    recipe = PLAIN.override(flip=True, shift=2, erase=0.5)
    images, _ = collect(data, recipe, seed=3, epoch=5)

    assert torch.equal(images, collect(data, recipe, seed=3, epoch=5)[0])
    assert not torch.equal(images, collect(data, recipe, seed=3, epoch=6)[0])
    assert not torch.equal(images, collect(data, recipe, seed=4, epoch=5)[0])


def test_the_batch_size_does_not_change_what_is_seen(data):
    recipe = PLAIN.override(flip=True, shift=2, erase=0.5)

    assert torch.equal(collect(data, recipe)[0], collect(data, recipe.override(batch_size=7))[0])


def test_flipping_mirrors_about_half_of_the_images_and_changes_no_other(data):
    images, _ = collect(data, PLAIN.override(flip=True))
    mirrored = as_set(data.images.flip(3))
    straight = as_set(data.images)

    assert all(image.numpy().tobytes() in mirrored | straight for image in images)
    assert 30 <= sum(image.numpy().tobytes() in mirrored for image in images) <= 70


def test_shifting_moves_by_at_most_the_given_pixels_and_shows_black_at_the_edge(data):
    images, _ = collect(data, PLAIN.override(shift=2))
    padded = torch.nn.functional.pad(data.images, (2, 2, 2, 2))
    windows = padded.unfold(2, 28, 1).unfold(3, 28, 1).reshape(-1, 1, 28, 28)

    assert as_set(images) <= as_set(windows)
    assert len(as_set(images) & as_set(data.images)) < 20  # 1 in 25 stays where it was


def test_erasing_blackens_one_rectangle_in_the_given_share_of_images(data):
    white = LabelledImages(torch.full_like(data.images, 255), data.labels)
    images, _ = collect(white, PLAIN.override(erase=0.5))
    erased = [image[0] == 0 for image in images if (image == 0).any()]

    assert 30 <= len(erased) <= 70
    for hole in erased:
        rows, columns = hole.any(1), hole.any(0)
        assert torch.equal(hole, rows[:, None] & columns[None, :])
        assert rows.sum() <= 10
        assert columns.sum() <= 10


def test_the_validation_split_is_the_last_ten_thousand_training_images(fashion_mnist_dir):
    train, fit, validation = load_split("train"), load_split("fit"), load_split("validation")

    assert (len(train), len(fit), len(validation)) == (60_000, 50_000, 10_000)
    assert torch.equal(torch.cat([fit.images, validation.images]), train.images)
    counts = torch.bincount(validation.labels)
    assert (counts.min(), counts.max()) == (955, 1050)
