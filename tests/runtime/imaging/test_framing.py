"""From grey to 28x28: which side of the picture is the garment, where it is, and how it is brought there."""

import itertools

import numpy as np
import pytest
from PIL import Image
from support.pictures import Grey, difference, encoded, kind_of, photograph

from runtime.imaging import preprocess
from runtime.imaging.preprocess import to_pixels


def test_no_image_of_the_data_set_is_ever_inverted_and_every_negative_is(test_images):
    assert not any(to_pixels(image).inverted for image in test_images)
    for image in test_images[::5]:
        pixels = to_pixels(255 - image)
        assert pixels.inverted
        assert np.array_equal(pixels.array, image)


@pytest.mark.parametrize(("page", "garment"), list(itertools.permutations([0, 60, 120, 180, 255], 2)))
def test_the_garment_ends_up_light_on_black_whatever_both_greys_were(page, garment):
    scene = np.full((90, 120), page, np.uint8)
    scene[30:60, 20:50] = garment
    pixels = to_pixels(scene)
    assert pixels.inverted == (garment < page)
    contrast = 255 * abs(garment - page) / (page if pixels.inverted else 255 - page)
    np.testing.assert_allclose(
        pixels.array, contrast if contrast >= preprocess.PALE else preprocess.STRETCHED, atol=0.5
    )


def test_the_caller_may_overrule_the_polarity(shirt):
    negative = 255 - shirt
    np.testing.assert_array_equal(to_pixels(shirt, invert="yes").array, negative)
    np.testing.assert_array_equal(to_pixels(negative, invert="no").array, negative)
    enlarged = np.repeat(np.repeat(shirt, 4, 0), 4, 1)
    np.testing.assert_array_equal(to_pixels(enlarged, invert="yes").array, negative)
    np.testing.assert_array_equal(to_pixels(255 - enlarged, invert="no").array, negative)


@pytest.mark.parametrize("level", [0, 77, 128, 255])
@pytest.mark.parametrize("invert", ["auto", "yes", "no"])
@pytest.mark.parametrize("size", [(28, 28), (300, 200)])
def test_a_blank_picture_is_no_error(level, invert, size):
    blank = np.full(size, level, np.uint8)
    assert len(np.unique(to_pixels(blank, invert=invert).array)) == 1


def test_a_blank_page_is_black():
    for size in (28, 200):
        assert not to_pixels(np.full((size, size), 255, np.uint8)).array.any()


def test_the_data_sets_own_margins_are_those_that_the_fit_gives(test_images):
    """The claim behind step 7: the longest side of the garment is 28 pixels, and the garment is centred."""
    rows, columns = np.any(test_images, axis=2), np.any(test_images, axis=1)
    top, bottom = rows.argmax(axis=1), rows[:, ::-1].argmax(axis=1)
    left, right = columns.argmax(axis=1), columns[:, ::-1].argmax(axis=1)
    assert np.mean((top + bottom == 0) | (left + right == 0)) > 0.98
    assert np.mean(np.isin(left - right, (0, 1)) & np.isin(top - bottom, (0, 1))) > 0.98


@pytest.mark.parametrize("factor", [2, 3, 10])
@pytest.mark.parametrize("negative", [False, True])
def test_a_whole_enlargement_comes_back_to_the_pixel(factor, negative, test_images):
    for image in test_images[:40]:
        source = 255 - image if negative else image
        pixels = to_pixels(np.repeat(np.repeat(source, factor, 0), factor, 1))
        assert (pixels.inverted, pixels.fit) == (negative, "whole")
        np.testing.assert_array_equal(pixels.array, image)


def test_a_smooth_enlargement_comes_back_nearly(test_images):
    errors = []
    for image in test_images[:300]:
        smooth = Image.fromarray(image).resize((224, 224), Image.Resampling.BICUBIC)
        errors.append(difference(to_pixels(smooth).array, image))
    assert np.mean(errors) < 5.5  # measured 4.7, all of which is the blur of the enlargement


def test_images_made_into_photographs_come_back_nearly(test_images, rng):
    chosen = test_images[rng.choice(len(test_images), 500, replace=False)]
    pixels = [to_pixels(photograph(image, rng)) for image in chosen]
    errors = [difference(found.array, image) for found, image in zip(pixels, chosen, strict=True)]
    assert all(found.inverted and found.fit != "exact" for found in pixels)
    # Measured 9.3 and 6.5 grey levels of 255. The blur of the enlargement is 4.7 of them; the rest is a garment found
    # up to a pixel larger or smaller than it was.
    assert np.mean(errors) < 11
    assert np.median(errors) < 7.5


def test_an_image_padded_as_for_lenet_comes_back_nearly(test_images):
    errors = [difference(to_pixels(np.pad(image, 2)).array, image) for image in test_images[:500]]
    assert np.median(errors) < 1


def test_the_position_on_the_page_does_not_matter(shirt):
    garment = np.repeat(np.repeat(255 - shirt, 5, 0), 5, 1)
    found = []
    for top, left in ((0, 0), (10, 200), (60, 130), (118, 6)):
        page = np.full((260, 360), 255, np.uint8)
        page[top : top + 140, left : left + 140] = garment
        found.append(to_pixels(page).array)
    for array in found[1:]:
        np.testing.assert_array_equal(array, found[0])


@pytest.mark.parametrize(("height", "width"), [(100, 50), (50, 100), (90, 90), (100, 1), (3, 100)])
def test_the_garment_keeps_its_proportions_and_is_centred(height, width):
    page = np.full((300, 240), 255, np.uint8)
    page[40 : 40 + height, 90 : 90 + width] = 0
    array = to_pixels(page).array
    rows, columns = np.flatnonzero(array.any(axis=1)), np.flatnonzero(array.any(axis=0))
    assert len(rows) == max(1, round(28 * height / max(height, width)))
    assert len(columns) == max(1, round(28 * width / max(height, width)))
    for side in (rows, columns):
        assert 0 <= side[0] - (27 - side[-1]) <= 1  # an odd pixel goes to the left and to the top, as in the data set


def test_noise_and_uneven_light_on_the_page_are_not_taken_for_the_garment(rng):
    page = 225 - np.linspace(0, 12, 400)[:, None] + rng.normal(0, 4, (400, 300))
    page[150:250, 100:150] = 40
    array = to_pixels(np.clip(page, 0, 255).astype(np.uint8)).array
    assert array[:, 7:21].min() > 180
    assert max(array[:, :7].max(), array[:, 21:].max()) < 20


def test_exact_passes_28x28_and_refuses_every_other_size(shirt):
    np.testing.assert_array_equal(to_pixels(shirt, fit="exact").array, shirt)
    for shape in ((28, 29), (56, 56), (1, 1)):
        assert kind_of(np.zeros(shape, np.uint8), fit="exact") == "size"


def test_catalogue_sharpens_and_also_a_picture_of_28x28(shirt):
    pixels = to_pixels(shirt, fit="catalogue")
    assert pixels.fit == "catalogue"

    def roughness(image: Grey) -> float:
        return difference(image[:, 1:], image[:, :-1])

    assert roughness(pixels.array) > 1.1 * roughness(shirt)


def test_catalogue_sharpens_a_point_as_imagemagick_does():
    """`magick -sharpen 1x1`, whose kernel is e**(-r**2 / 2) around minus twice its sum, by hand."""
    point = np.full((5, 5), 100, np.uint8)
    point[2, 2] = 150
    around = 4 * np.exp(-0.5) + 4 * np.exp(-1)
    centre = (50 * 2 * (1 + around)) / (2 * (1 + around) - around)
    side = -50 * np.exp(-0.5) / (2 * (1 + around) - around)
    sharpened = preprocess._sharpened(point)
    assert int(sharpened[2, 2]) == round(100 + centre)
    assert int(sharpened[2, 1]) == round(100 + side)
    assert int(sharpened[0, 0]) == 100


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (1, 60_000), (60_000, 1), (27, 28), (28, 29), (5000, 3)])
def test_every_shape_is_fitted(shape, rng):
    noise = rng.integers(0, 256, shape, np.uint8)
    for source in (noise, noise // 8, encoded(Image.fromarray(noise), format="PNG")):
        for fit in ("auto", "catalogue"):
            assert to_pixels(source, fit=fit).array.shape == (28, 28)
