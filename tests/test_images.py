"""Any picture becomes the network's 28x28 pixels, and any failure an `ImageError`: `runtime.images`."""

import gc
import io
import itertools
import os
import signal
import socket
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageFile, ImageOps, features

from runtime import decoding, images
from runtime.decoding import FORMATS, MAX_PIXELS, Source
from runtime.errors import ImageError, UsageError
from runtime.images import to_pixels

Grey = npt.NDArray[np.uint8]

KINDS = {"missing", "not_a_file", "unreadable", "empty", "not_an_image", "truncated", "corrupt", "too_large"}
# Pillow's name of every format, with how to save it; the lossless ones give back every pixel.
LOSSLESS: dict[str, dict[str, Any]] = {
    "png": {"format": "PNG"},
    "gif": {"format": "GIF"},
    "bmp": {"format": "BMP"},
    "ppm": {"format": "PPM"},
    "tiff": {"format": "TIFF"},
    "tiff_lzw": {"format": "TIFF", "compression": "tiff_lzw"},
    "webp": {"format": "WEBP", "lossless": True},
}
LOSSY: dict[str, dict[str, Any]] = {
    "jpeg": {"format": "JPEG", "quality": 95},
    "jpeg_progressive": {"format": "JPEG", "quality": 95, "progressive": True},
    "webp_lossy": {"format": "WEBP", "quality": 95},
    "avif": {"format": "AVIF", "quality": 95},
}
EVERY = {name: how for name, how in {**LOSSLESS, **LOSSY}.items() if name != "avif" or features.check("avif")}


def encoded(picture: Image.Image, **how: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, **how)
    return file.getvalue()


def difference(one: npt.ArrayLike, other: npt.ArrayLike) -> float:
    """Mean absolute difference, in grey levels."""
    return float(np.abs(np.asarray(one, np.int16) - np.asarray(other, np.int16)).mean())


def kind_of(source: Source, **options: Any) -> str:
    """The kind of the error that this source must give; its message must be one printable line."""
    with pytest.raises(ImageError) as caught:
        to_pixels(source, **options)
    message = str(caught.value)
    assert message.isprintable(), message
    return caught.value.kind


def photograph(image: Grey, rng: np.random.Generator) -> bytes:
    """A data set image as if photographed: eight times larger, dark on a light tinted page, off-centre, JPEG 85."""
    garment = Image.fromarray(255 - image).resize((224, 224), Image.Resampling.BICUBIC)
    width, height = rng.integers(260, 520, 2).tolist()
    page = Image.new("L", (width, height), 255)
    page.paste(garment, tuple(rng.integers(0, (width - 223, height - 223)).tolist()))
    tinted = Image.merge("RGB", [page.point([int(level * tint) for level in range(256)]) for tint in (1, 0.98, 0.95)])
    return encoded(tinted, format="JPEG", quality=85)


@pytest.fixture
def shirt(test_images: Grey) -> Grey:
    """One data set image with all sorts of greys, uint8 (28, 28)."""
    return np.asarray(test_images[1])


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)


# --- sources ---


def test_a_path_bytes_a_stream_a_picture_and_an_array_give_the_same_pixels(shirt: Grey, tmp_path: Path) -> None:
    picture = Image.fromarray(shirt)
    path = tmp_path / "shirt.png"
    picture.save(path)
    data = path.read_bytes()
    with path.open("rb") as stream:
        sources: list[Source] = [path, str(path), data, io.BytesIO(data), stream, picture, shirt]
        for source in sources:
            pixels = to_pixels(source)
            np.testing.assert_array_equal(pixels.array, shirt)
            assert pixels.array.dtype == np.uint8
            assert (pixels.inverted, pixels.fit) == (False, "exact")


@pytest.mark.parametrize(
    "shaped",
    [
        lambda x: x[None],
        lambda x: x[..., None],
        lambda x: np.dstack([x] * 3),
        lambda x: np.dstack([x] * 3 + [np.full_like(x, 255)]),
        np.asfortranarray,
        lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
        lambda x: np.repeat(np.repeat(x, 2, 0), 3, 1)[::2, ::3],
        lambda x: np.broadcast_to(x, (1, 28, 28)),
    ],
    ids=["1HW", "HW1", "HW3", "HW4", "fortran", "negative strides", "strided", "broadcast"],
)
def test_an_array_may_have_any_strides_and_a_channel_axis(shaped: Callable[[Grey], Grey], shirt: Grey) -> None:
    np.testing.assert_array_equal(to_pixels(shaped(shirt)).array, shirt)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((28, 28)),
        np.full((28, 28), np.nan, np.float32),
        np.zeros((28, 28), bool),
        np.zeros((28, 28), np.int64),
        np.zeros((28, 28), object),
        np.array("shirt"),
        np.zeros(784, np.uint8),
        np.zeros((3, 28, 28), np.uint8),
        np.zeros((28, 28, 2), np.uint8),
        np.zeros((1, 1, 28, 28), np.uint8),
        np.zeros((0, 28), np.uint8),
        np.zeros((28, 0, 3), np.uint8),
        np.zeros((), np.uint8),
    ],
    ids=lambda array: f"{array.dtype} {array.shape}",
)
def test_an_array_of_another_type_or_shape_is_refused_with_both_named(array: npt.NDArray[Any]) -> None:
    with pytest.raises(ImageError, match=r"expected .* uint8 \(H, W\).*found") as caught:
        to_pixels(array)
    assert caught.value.kind == "array"
    assert str(array.shape) in str(caught.value)


def test_a_source_is_left_as_it_was_and_the_result_is_the_callers_own(shirt: Grey) -> None:
    array = 255 - shirt
    before = array.copy()
    for source in (array, Image.fromarray(array)):
        for invert in ("yes", "no"):
            to_pixels(source, invert=invert).array[:] = 7
        np.testing.assert_array_equal(source, before)


@pytest.mark.parametrize("source", [None, 3, ["a.png"], io.StringIO("text"), object()], ids=lambda s: type(s).__name__)
def test_what_is_no_picture_at_all_is_refused_by_type(source: Any) -> None:
    assert kind_of(source) == "not_an_image"


def test_an_option_that_does_not_exist_is_a_usage_error(shirt: Grey) -> None:
    with pytest.raises(UsageError, match="maybe"):
        to_pixels(shirt, invert="maybe")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="stretch"):
        to_pixels(shirt, fit="stretch")  # type: ignore[arg-type]


# --- formats and modes ---


@pytest.mark.parametrize("name", LOSSLESS)
def test_a_lossless_file_gives_back_every_pixel(name: str, shirt: Grey) -> None:
    np.testing.assert_array_equal(to_pixels(encoded(Image.fromarray(shirt), **LOSSLESS[name])).array, shirt)


@pytest.mark.parametrize("name", [name for name in EVERY if name in LOSSY])
def test_a_lossy_file_gives_back_nearly_the_same_pixels(name: str, shirt: Grey) -> None:
    assert difference(to_pixels(encoded(Image.fromarray(shirt), **LOSSY[name])).array, shirt) < 3


def test_every_allowed_format_is_tested() -> None:
    assert set(FORMATS) == {how["format"] for how in {**LOSSLESS, **LOSSY}.values()}


@pytest.mark.parametrize("maximum", ["P2", "P5"])
def test_a_plain_or_raw_pgm_is_read(maximum: str, shirt: Grey) -> None:
    body = " ".join(map(str, shirt.ravel())).encode() if maximum == "P2" else shirt.tobytes()
    np.testing.assert_array_equal(to_pixels(f"{maximum}\n28 28\n255\n".encode() + body).array, shirt)


def test_the_format_is_told_by_the_content_and_not_by_the_name(shirt: Grey, tmp_path: Path) -> None:
    path = tmp_path / "shirt.jpg"
    path.write_bytes(encoded(Image.fromarray(shirt), format="PNG"))
    np.testing.assert_array_equal(to_pixels(path).array, shirt)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "RGBX", "LA", "La", "RGBa", "P", "PA", "CMYK", "YCbCr", "HSV"])
def test_every_pillow_mode_of_8_bits_gives_nearly_the_same_grey(mode: str, shirt: Grey) -> None:
    grey = Image.fromarray(shirt)
    between = {"La": "LA", "RGBa": "RGBA", "P": "L", "PA": "P"}.get(mode, "RGB")
    assert difference(to_pixels(grey.convert(between).convert(mode)).array, shirt) < 1


def test_lab_gives_its_lightness(shirt: Grey) -> None:
    flat = Image.new("L", (28, 28), 128)
    lab = Image.merge("LAB", [Image.fromarray(shirt), flat, flat])
    np.testing.assert_array_equal(to_pixels(lab).array, shirt)


def test_a_picture_of_1_bit_is_black_and_white(shirt: Grey) -> None:
    bits = Image.fromarray(shirt).convert("1")
    expected = np.asarray(bits) * np.uint8(255)
    np.testing.assert_array_equal(to_pixels(bits).array, expected)
    np.testing.assert_array_equal(to_pixels(encoded(bits, format="TIFF", compression="group4")).array, expected)


def test_a_cmyk_jpeg_and_tiff_are_not_read_as_negatives(shirt: Grey) -> None:
    cmyk = Image.fromarray(shirt).convert("RGB").convert("CMYK")
    for how in ({"format": "JPEG", "quality": 95}, {"format": "TIFF"}):
        pixels = to_pixels(encoded(cmyk, **how))
        assert difference(pixels.array, shirt) < 3
        assert not pixels.inverted


def deep_files(image: Grey) -> dict[str, bytes]:
    """The image in 16 bits and in floats, each level where it belongs on the deeper scale."""
    sixteen = image.astype(np.uint16) * 257
    return {
        "16-bit PNG": encoded(Image.fromarray(sixteen), format="PNG"),
        "16-bit TIFF": encoded(Image.fromarray(sixteen), format="TIFF"),
        "16-bit TIFF, big-endian": encoded(Image.fromarray(sixteen.astype(">u2")), format="TIFF"),
        "16-bit PGM": b"P5\n28 28\n65535\n" + sixteen.astype(">u2").tobytes(),
        "32-bit TIFF": encoded(Image.fromarray(sixteen.astype(np.int32)), format="TIFF"),
        "32-bit TIFF of 8-bit levels": encoded(Image.fromarray(image.astype(np.int32)), format="TIFF"),
        "float TIFF, 0..1": encoded(Image.fromarray(image.astype(np.float32) / 255), format="TIFF"),
        "float TIFF, 0..255": encoded(Image.fromarray(image.astype(np.float32)), format="TIFF"),
    }


@pytest.mark.parametrize("name", deep_files(np.zeros((28, 28), np.uint8)))
def test_deep_levels_are_scaled_to_8_bits_and_not_clipped(name: str, shirt: Grey) -> None:
    np.testing.assert_array_equal(to_pixels(deep_files(shirt)[name]).array, shirt)


@pytest.mark.parametrize("level", [np.nan, np.inf, -1.0, 1e9])
def test_levels_outside_every_usual_scale_are_refused(level: float) -> None:
    levels = np.zeros((28, 28), np.float32)
    levels[3, 3] = level
    assert kind_of(encoded(Image.fromarray(levels), format="TIFF")) == "corrupt"


def transparent_files(image: Grey) -> dict[str, bytes]:
    """A garment cut out of its photograph, whatever colour lies under the transparent part."""
    photo, cut = 255 - image, np.where(image > 0, 255, 0).astype(np.uint8)
    under = np.where(image > 0, photo, 90).astype(np.uint8)
    rgba = Image.merge("RGBA", [Image.fromarray(channel) for channel in (under, under, under, cut)])
    key = np.where(image > 0, np.where(photo == 90, 91, photo), 90).astype(np.uint8)
    alphas = bytes(0 if level == 90 else 255 for level in range(256))
    indexed = Image.fromarray(key).convert("P")
    return {
        "RGBA PNG": encoded(rgba, format="PNG"),
        "RGBA WEBP": encoded(rgba, format="WEBP", lossless=True),
        "RGBA TIFF": encoded(rgba, format="TIFF"),
        "LA PNG": encoded(rgba.convert("LA"), format="PNG"),
        "grey PNG with a transparent level": encoded(Image.fromarray(key), format="PNG", transparency=90),
        "RGB PNG with a transparent colour": encoded(
            Image.fromarray(key).convert("RGB"), format="PNG", transparency=(90, 90, 90)
        ),
        "palette PNG with a transparent entry": encoded(indexed, format="PNG", transparency=90),
        "palette PNG with an alpha for each entry": encoded(indexed, format="PNG", transparency=alphas),
        "GIF with a transparent entry": encoded(indexed, format="GIF", transparency=90),
    }


@pytest.mark.parametrize("name", transparent_files(np.zeros((28, 28), np.uint8)))
def test_transparency_is_laid_on_white_like_the_data_sets_own_photographs(name: str, shirt: Grey) -> None:
    pixels = to_pixels(transparent_files(shirt)[name])
    assert pixels.inverted
    assert np.abs(pixels.array.astype(int) - shirt).max() <= 1  # the transparent level itself had to move by one


def test_half_transparency_is_blended() -> None:
    half = Image.new("LA", (28, 28), (0, 128))
    assert int(to_pixels(half, invert="no").array[0, 0]) == 127


@pytest.mark.parametrize("format_", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_of_an_animation_is_used(format_: str, test_images: Grey) -> None:
    first, *others = (Image.fromarray(image) for image in test_images[:3])
    options = {"lossless": True} if format_ == "WEBP" else {}
    data = encoded(first, format=format_, save_all=True, append_images=others, **options)
    np.testing.assert_array_equal(to_pixels(data).array, test_images[0])


def test_the_main_picture_of_a_phones_multi_picture_jpeg_is_used(test_images: Grey) -> None:
    first, second = (Image.fromarray(image) for image in test_images[:2])
    data = encoded(first, format="MPO", save_all=True, append_images=[second], quality=95)
    assert difference(to_pixels(data).array, test_images[0]) < 3


def test_the_current_frame_of_a_pillow_picture_is_used(test_images: Grey) -> None:
    first, second = (Image.fromarray(image) for image in test_images[:2])
    with Image.open(io.BytesIO(encoded(first, format="TIFF", save_all=True, append_images=[second]))) as opened:
        opened.seek(1)
        np.testing.assert_array_equal(to_pixels(opened).array, test_images[1])


# --- EXIF ---


def exif(orientation: int) -> bytes:
    block = Image.Exif()
    block[0x0112] = orientation
    return block.tobytes()


@pytest.mark.parametrize("format_", ["PNG", "WEBP", "TIFF", "JPEG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_upright_as_exif_says(orientation: int, format_: str, test_images: Grey) -> None:
    options = {"lossless": True} if format_ == "WEBP" else {}
    boot = Image.fromarray(test_images[0]).resize((84, 56))
    data = encoded(boot, format=format_, exif=exif(orientation), **options)
    with Image.open(io.BytesIO(data)) as opened:
        upright = ImageOps.exif_transpose(opened).convert("L")
    assert upright.size == ((84, 56) if orientation < 5 else (56, 84))
    np.testing.assert_array_equal(to_pixels(data).array, to_pixels(upright).array)


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_of_either_byte_order_is_understood(order: str, shirt: Grey) -> None:
    mark = b"II*\0" if order == "<" else b"MM\0*"
    block = b"Exif\0\0" + mark + struct.pack(order + "IHHHIHHI", 8, 1, 0x0112, 3, 1, 3, 0, 0)
    pixels = to_pixels(encoded(Image.fromarray(shirt[::-1, ::-1]), format="PNG", exif=block))
    np.testing.assert_array_equal(pixels.array, shirt)


@pytest.mark.parametrize("cut", range(0, 60, 7))
def test_damaged_exif_neither_fails_nor_warns(cut: int, shirt: Grey, rng: np.random.Generator) -> None:
    block = Image.Exif()
    block[0x0112], block[0x010E], block[0x011A] = 1, "a shirt " * 9, 72.0
    damaged = block.tobytes()[: 14 + cut] + rng.bytes(9)
    for how in (LOSSY["jpeg"], LOSSLESS["png"], LOSSLESS["webp"]):
        assert difference(to_pixels(encoded(Image.fromarray(shirt), exif=damaged, **how)).array, shirt) < 3


def test_pillow_itself_would_warn_about_that_exif(shirt: Grey) -> None:
    """Shows that the test above proves something."""
    block = Image.Exif()
    block[0x010E] = "a shirt " * 9
    data = encoded(Image.fromarray(shirt), format="JPEG", exif=block.tobytes()[:-40])
    with pytest.warns(UserWarning, match="EXIF|[Tt]runcated|larger"), Image.open(io.BytesIO(data)) as opened:
        opened.getexif()
    assert difference(to_pixels(data).array, shirt) < 10


# --- polarity ---


def test_no_image_of_the_data_set_is_ever_inverted_and_every_negative_is(test_images: Grey) -> None:
    assert not any(to_pixels(image).inverted for image in test_images)
    for image in test_images[::5]:
        pixels = to_pixels(255 - image)
        assert pixels.inverted
        assert np.array_equal(pixels.array, image)


@pytest.mark.parametrize(("page", "garment"), list(itertools.permutations([0, 60, 120, 180, 255], 2)))
def test_the_garment_ends_up_light_on_black_whatever_both_greys_were(page: int, garment: int) -> None:
    scene = np.full((90, 120), page, np.uint8)
    scene[30:60, 20:50] = garment
    pixels = to_pixels(scene)
    assert pixels.inverted == (garment < page)
    lightest = 255 * abs(garment - page) / (page if pixels.inverted else 255 - page)
    np.testing.assert_allclose(pixels.array, lightest, atol=0.5)


def test_the_caller_may_overrule_the_polarity(shirt: Grey) -> None:
    negative = 255 - shirt
    np.testing.assert_array_equal(to_pixels(shirt, invert="yes").array, negative)
    np.testing.assert_array_equal(to_pixels(negative, invert="no").array, negative)
    enlarged = np.repeat(np.repeat(shirt, 4, 0), 4, 1)
    np.testing.assert_array_equal(to_pixels(enlarged, invert="yes").array, negative)
    np.testing.assert_array_equal(to_pixels(255 - enlarged, invert="no").array, negative)


@pytest.mark.parametrize("level", [0, 77, 128, 255])
@pytest.mark.parametrize("invert", ["auto", "yes", "no"])
@pytest.mark.parametrize("size", [(28, 28), (300, 200)])
def test_a_blank_picture_is_no_error(level: int, invert: images.Invert, size: tuple[int, int]) -> None:
    blank = np.full(size, level, np.uint8)
    assert len(np.unique(to_pixels(blank, invert=invert).array)) == 1


def test_a_blank_page_is_black() -> None:
    for size in (28, 200):
        assert not to_pixels(np.full((size, size), 255, np.uint8)).array.any()


# --- fit ---


def test_the_data_sets_own_margins_are_those_that_the_fit_gives(test_images: Grey) -> None:
    """The claim behind step 7: the longest side of the garment is 28 pixels, and the garment is centred."""
    rows, columns = np.any(test_images, axis=2), np.any(test_images, axis=1)
    top, bottom = rows.argmax(axis=1), rows[:, ::-1].argmax(axis=1)
    left, right = columns.argmax(axis=1), columns[:, ::-1].argmax(axis=1)
    assert np.mean((top + bottom == 0) | (left + right == 0)) > 0.98
    assert np.mean(np.isin(left - right, (0, 1)) & np.isin(top - bottom, (0, 1))) > 0.98


@pytest.mark.parametrize("factor", [2, 3, 10])
@pytest.mark.parametrize("negative", [False, True])
def test_a_whole_enlargement_comes_back_to_the_pixel(factor: int, negative: bool, test_images: Grey) -> None:
    for image in test_images[:40]:
        source = 255 - image if negative else image
        pixels = to_pixels(np.repeat(np.repeat(source, factor, 0), factor, 1))
        assert (pixels.inverted, pixels.fit) == (negative, "whole")
        np.testing.assert_array_equal(pixels.array, image)


def test_a_smooth_enlargement_comes_back_nearly(test_images: Grey) -> None:
    errors = []
    for image in test_images[:300]:
        smooth = Image.fromarray(image).resize((224, 224), Image.Resampling.BICUBIC)
        errors.append(difference(to_pixels(smooth).array, image))
    assert np.mean(errors) < 5.5  # measured 4.7, all of which is the blur of the enlargement


def test_images_made_into_photographs_come_back_nearly(test_images: Grey, rng: np.random.Generator) -> None:
    chosen = test_images[rng.choice(len(test_images), 500, replace=False)]
    pixels = [to_pixels(photograph(image, rng)) for image in chosen]
    errors = [difference(found.array, image) for found, image in zip(pixels, chosen, strict=True)]
    assert all(found.inverted and found.fit != "exact" for found in pixels)
    # Measured 8.5 and 6.1 grey levels of 255. The blur of the enlargement is 4.7 of them; the rest is a garment found
    # up to a pixel larger or smaller than it was.
    assert np.mean(errors) < 10
    assert np.median(errors) < 7.5


def test_an_image_padded_as_for_lenet_comes_back_nearly(test_images: Grey) -> None:
    errors = [difference(to_pixels(np.pad(image, 2)).array, image) for image in test_images[:500]]
    assert np.median(errors) < 1


def test_the_position_on_the_page_does_not_matter(shirt: Grey) -> None:
    garment = np.repeat(np.repeat(255 - shirt, 5, 0), 5, 1)
    found = []
    for top, left in ((0, 0), (10, 200), (60, 130), (119, 7)):
        page = np.full((260, 360), 255, np.uint8)
        page[top : top + 140, left : left + 140] = garment
        found.append(to_pixels(page).array)
    for array in found[1:]:
        np.testing.assert_array_equal(array, found[0])


@pytest.mark.parametrize(("height", "width"), [(100, 50), (50, 100), (90, 90), (100, 1), (3, 100)])
def test_the_garment_keeps_its_proportions_and_is_centred(height: int, width: int) -> None:
    page = np.full((300, 240), 255, np.uint8)
    page[40 : 40 + height, 90 : 90 + width] = 0
    array = to_pixels(page).array
    rows, columns = np.flatnonzero(array.any(axis=1)), np.flatnonzero(array.any(axis=0))
    assert len(rows) == max(1, round(28 * height / max(height, width)))
    assert len(columns) == max(1, round(28 * width / max(height, width)))
    for side in (rows, columns):
        assert 0 <= side[0] - (27 - side[-1]) <= 1  # an odd pixel goes to the left and to the top, as in the data set


def test_noise_and_uneven_light_on_the_page_are_not_taken_for_the_garment(rng: np.random.Generator) -> None:
    page = 225 - np.linspace(0, 12, 400)[:, None] + rng.normal(0, 4, (400, 300))
    page[150:250, 100:150] = 40
    array = to_pixels(np.clip(page, 0, 255).astype(np.uint8)).array
    assert array[:, 7:21].min() > 180
    assert max(array[:, :7].max(), array[:, 21:].max()) < 20


def test_exact_passes_28x28_and_refuses_every_other_size(shirt: Grey) -> None:
    np.testing.assert_array_equal(to_pixels(shirt, fit="exact").array, shirt)
    for shape in ((28, 29), (56, 56), (1, 1)):
        assert kind_of(np.zeros(shape, np.uint8), fit="exact") == "size"


def test_catalogue_sharpens_and_also_a_picture_of_28x28(shirt: Grey) -> None:
    pixels = to_pixels(shirt, fit="catalogue")
    assert pixels.fit == "catalogue"

    def roughness(image: Grey) -> float:
        return difference(image[:, 1:], image[:, :-1])

    assert roughness(pixels.array) > 1.1 * roughness(shirt)


def test_catalogue_sharpens_a_point_as_imagemagick_does() -> None:
    """`magick -sharpen 1x1`, whose kernel is e**(-r**2 / 2) around minus twice its sum, by hand."""
    point = np.full((5, 5), 100, np.uint8)
    point[2, 2] = 150
    around = 4 * np.exp(-0.5) + 4 * np.exp(-1)
    centre = (50 * 2 * (1 + around)) / (2 * (1 + around) - around)
    side = -50 * np.exp(-0.5) / (2 * (1 + around) - around)
    sharpened = images._sharpened(point)
    assert int(sharpened[2, 2]) == round(100 + centre)
    assert int(sharpened[2, 1]) == round(100 + side)
    assert int(sharpened[0, 0]) == 100


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (1, 60_000), (60_000, 1), (27, 28), (28, 29), (5000, 3)])
def test_every_shape_is_fitted(shape: tuple[int, int], rng: np.random.Generator) -> None:
    noise = rng.integers(0, 256, shape, np.uint8)
    for source in (noise, noise // 8, encoded(Image.fromarray(noise), format="PNG")):
        for fit in ("auto", "catalogue"):
            assert to_pixels(source, fit=fit).array.shape == (28, 28)


# --- paths ---


@contextmanager
def deadline(seconds: int) -> Iterator[None]:
    """Fail, rather than hang, where a read waits for ever."""

    def fail(*_: object) -> None:
        raise TimeoutError(f"still waiting after {seconds} seconds")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"'.*shrt\.png' does not exist") as caught:
        to_pixels(tmp_path / "shrt.png")
    assert caught.value.kind == "missing"


@pytest.mark.parametrize("name", ["", "a\0b.png", "\ud800.png", "/etc/hostname/shirt.png"], ids=ascii)
def test_a_name_that_no_file_can_have_is_missing(name: str) -> None:
    assert kind_of(name) == "missing"


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    (tmp_path / "x.png").mkdir()
    assert kind_of(tmp_path / "x.png") == "not_a_file"


def test_a_pipe_a_socket_and_a_device_are_refused_without_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's address must be short
    os.mkfifo("pipe.png")
    with deadline(5), socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.png")
        for name in ("pipe.png", "socket.png", os.devnull, "/dev/zero"):
            assert kind_of(name) == "not_a_file"


def test_a_symlink_loop_and_a_name_too_long_are_unreadable(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to(tmp_path / "b.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "a.png")
    assert kind_of(tmp_path / "a.png") == "unreadable"
    assert kind_of(tmp_path / ("x" * 300)) == "unreadable"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(b"x")
    path.chmod(0)
    assert kind_of(path) == "unreadable"


@pytest.mark.parametrize(
    "name", ["a b.png", "two\nlines.png", "tab\t.png", "ünïcödé 👕.png", "\udcff\udcfe.png"], ids=ascii
)
def test_an_odd_name_is_read_and_stays_printable_in_messages(name: str, shirt: Grey, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(encoded(Image.fromarray(shirt), format="PNG"))
    np.testing.assert_array_equal(to_pixels(path).array, shirt)
    path.write_bytes(b"not a picture")
    assert kind_of(path) == "not_an_image"


def test_a_symlink_to_a_file_is_followed(shirt: Grey, tmp_path: Path) -> None:
    Image.fromarray(shirt).save(tmp_path / "shirt.png")
    (tmp_path / "link").symlink_to("shirt.png")
    np.testing.assert_array_equal(to_pixels(tmp_path / "link").array, shirt)


def test_no_file_stays_open(shirt: Grey, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.tiff", tmp_path / "bad.tiff"
    data = encoded(Image.fromarray(shirt), format="TIFF", save_all=True, append_images=[Image.new("L", (9, 9))])
    good.write_bytes(data)
    bad.write_bytes(data[:200])
    for _ in range(3):
        to_pixels(good)
        kind_of(bad)
        gc.collect()  # an open file would give a ResourceWarning, which is an error here
    if Path("/proc/self/fd").exists():
        links = [os.readlink(entry.path) for entry in os.scandir("/proc/self/fd") if os.path.islink(entry.path)]
        assert not [link for link in links if str(tmp_path) in link]


# --- hostile and broken files ---


@pytest.mark.parametrize("source", [b"", io.BytesIO(), Image.new("L", (0, 5))], ids=["bytes", "stream", "picture"])
def test_a_source_without_content_is_empty(source: Source, tmp_path: Path) -> None:
    assert kind_of(source) == "empty"
    (tmp_path / "empty.png").touch()
    assert kind_of(tmp_path / "empty.png") == "empty"


@pytest.mark.parametrize(
    "data",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 28 28\n(/tmp/x) (w) file\n",
        b"%PDF-1.7\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"SIMPLE  =                    T",
        b"8BPS\0\1" + bytes(40),
        b"\0\0\1\0" + bytes(40),
        b"RIFF\x24\0\0\0WAVEfmt ",
        b"PK\3\4",
        b"hello",
        b"\0",
    ],
    ids=["EPS", "PDF", "SVG", "FITS", "PSD", "ICO", "WAV", "ZIP", "text", "byte"],
)
def test_a_format_outside_the_list_is_never_handed_to_pillow(data: bytes) -> None:
    assert kind_of(data) == "not_an_image"


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def bombs() -> dict[str, bytes]:
    """Small files whose headers promise gigapixels."""
    blank = Image.new("L", (9, 9))
    png = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0))
    bmp, gif = bytearray(encoded(blank, format="BMP")), bytearray(encoded(blank, format="GIF"))
    jpeg, tiff = encoded(blank, format="JPEG"), encoded(blank, format="TIFF")
    bmp[18:26] = struct.pack("<ii", 50_000, 50_000)
    gif[6:10] = struct.pack("<HH", 65_535, 65_535)
    entry = "<HHII"
    for tag in (256, 257):
        tiff = tiff.replace(struct.pack(entry, tag, 4, 1, 9), struct.pack(entry, tag, 4, 1, 50_000))
        tiff = tiff.replace(struct.pack("<HHIHH", tag, 3, 1, 9, 0), struct.pack("<HHIHH", tag, 3, 1, 50_000, 0))
    vp8x = b"VP8X" + struct.pack("<IB3x", 10, 0) + (16_382).to_bytes(3, "little") * 2
    return {
        "PNG": png + png_chunk(b"IDAT", zlib.compress(bytes(10_000))) + png_chunk(b"IEND", b""),
        "BMP": bytes(bmp),
        "GIF": bytes(gif),
        "JPEG": jpeg.replace(struct.pack(">BHH", 8, 9, 9), struct.pack(">BHH", 8, 65_000, 65_000)),
        "TIFF": tiff,
        "PPM": b"P5\n50000 50000\n255\n" + bytes(100),
        "WEBP": b"RIFF" + struct.pack("<I", 4 + len(vp8x)) + b"WEBP" + vp8x,
    }


@pytest.mark.parametrize("name", bombs())
def test_a_gigapixel_header_is_refused_before_a_pixel_is_decoded(name: str) -> None:
    with deadline(5):
        assert kind_of(bombs()[name]) in ({"too_large", "corrupt"} if name == "WEBP" else {"too_large"})


def test_a_picture_that_pillow_would_warn_about_is_refused_without_a_warning() -> None:
    """Between one and two of Pillow's limits it only warns; as `-W error` is on here, that would be another error."""
    header = struct.pack(">IIBBBBB", 10_000, 10_000, 1, 0, 0, 0, 0)
    assert Image.MAX_IMAGE_PIXELS is not None
    assert Image.MAX_IMAGE_PIXELS < 10_000**2 < 2 * Image.MAX_IMAGE_PIXELS
    data = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b"")
    assert kind_of(data) == "too_large"


def test_the_limits_hold_for_every_kind_of_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = np.broadcast_to(np.uint8(0), (2, MAX_PIXELS))
    assert kind_of(wide) == "too_large"
    monkeypatch.setattr(decoding, "MAX_PIXELS", 99)
    assert kind_of(Image.new("L", (10, 10))) == "too_large"
    assert to_pixels(Image.new("L", (9, 11))).array.shape == (28, 28)
    monkeypatch.setattr(decoding, "MAX_FILE_BYTES", 60)
    data = encoded(Image.new("L", (9, 9)), format="BMP")
    (tmp_path / "big.bmp").write_bytes(data)
    for source in (data, io.BytesIO(data), tmp_path / "big.bmp"):
        assert kind_of(source) == "too_large"


def test_memory_that_runs_out_is_an_image_error(shirt: Grey, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(self: object) -> None:
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    assert kind_of(encoded(Image.fromarray(shirt).convert("RGB"), format="PNG")) == "too_large"


def attempt(data: bytes) -> str:
    """`ok`, or the kind of the one error that is allowed."""
    try:
        pixels = to_pixels(data)
    except ImageError as error:
        return error.kind if error.kind in KINDS and str(error).isprintable() else pytest.fail(repr(error))
    assert pixels.array.shape == (28, 28)
    return "ok"


@pytest.mark.parametrize("name", EVERY)
def test_a_file_cut_anywhere_is_an_image_error_or_a_picture(name: str, shirt: Grey) -> None:
    data = encoded(Image.fromarray(shirt).resize((60, 50)), **EVERY[name])
    outcomes = [attempt(data[:cut]) for cut in sorted({*range(1, 40), *range(40, len(data), max(1, len(data) // 80))})]
    assert outcomes[0] == "not_an_image"
    if name not in ("avif", "tiff_lzw"):  # their decoders do not say that it was the end that was missing
        assert "truncated" in outcomes


@pytest.mark.parametrize("name", EVERY)
def test_a_file_with_flipped_bits_is_an_image_error_or_a_picture(
    name: str, shirt: Grey, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "MAX_PIXELS", 10**6)  # a flipped size may be large: allowed, but slow
    data = encoded(Image.fromarray(shirt).resize((60, 50)), **EVERY[name])
    for _ in range(120):
        damaged = bytearray(data)
        # Half of the flips in the header, where they do most.
        for at in rng.integers(0, rng.choice([min(200, len(data)), len(data)]), rng.integers(1, 4)):
            damaged[at] ^= 1 << int(rng.integers(8))
        attempt(bytes(damaged))


@pytest.mark.parametrize("name", EVERY)
def test_a_right_beginning_with_noise_after_it_is_an_image_error(
    name: str, shirt: Grey, rng: np.random.Generator
) -> None:
    data = encoded(Image.fromarray(shirt), **EVERY[name])
    for keep in (16, 40, 80):
        attempt(data[:keep] + rng.bytes(500))


@pytest.mark.parametrize(
    "error",
    [
        struct.error("x"),
        SyntaxError("a\nb"),
        OverflowError(),
        EOFError(),
        zlib.error("x"),
        RecursionError(),
        KeyError(3),
    ],
)
def test_whatever_a_decoder_throws_becomes_an_image_error(
    error: Exception, shirt: Grey, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(self: object) -> None:
        raise error

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    assert kind_of(encoded(Image.fromarray(shirt).convert("RGB"), format="PNG")) == "corrupt"


def test_a_pillow_picture_that_cannot_be_loaded_is_an_image_error(shirt: Grey, tmp_path: Path) -> None:
    path = tmp_path / "cut.bmp"
    path.write_bytes(encoded(Image.fromarray(shirt), format="BMP")[:-50])
    with Image.open(path) as opened:
        assert kind_of(opened) == "truncated"
    with Image.open(path) as closed:
        pass
    assert kind_of(closed) == "corrupt"


# --- manners ---


def odd_tiff(image: Grey) -> bytes:
    """A sound TIFF about which Pillow warns: one tag says that its text is longer than the file."""
    data = encoded(Image.fromarray(image), format="TIFF", description="a shirt")
    at = data.index(struct.pack("<HHI", 270, 2, 8)) + 4
    return data[:at] + struct.pack("<I", 10**6) + data[at + 4 :]


def test_odd_metadata_is_read_in_silence_and_the_warning_filters_are_left_alone(shirt: Grey) -> None:
    data = odd_tiff(shirt)
    with pytest.warns(UserWarning, match="larger than file"), Image.open(io.BytesIO(data)):
        pass  # shows that the rest proves something
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        for pixels in pool.map(to_pixels, [data] * 200):
            np.testing.assert_array_equal(pixels.array, shirt)
    assert before == list(warnings.filters)


def test_one_plugin_is_imported_and_pillows_settings_are_left_alone(shirt: Grey, tmp_path: Path) -> None:
    path = tmp_path / "shirt.png"
    Image.fromarray(shirt).convert("RGB").save(path)
    program = f"""if True:
        import sys
        from PIL import Image, ImageFile
        settings = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
        from runtime.images import to_pixels
        to_pixels({str(path)!r})
        assert settings == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
        print(sorted(name for name in sys.modules if name.endswith("ImagePlugin")))
    """
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "['PIL.PngImagePlugin']"
    assert run.stderr == ""


def test_the_short_way_through_plain_pngs_gives_what_the_long_way_gives(
    test_images: npt.NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [encoded(Image.fromarray(image), format="PNG") for image in test_images[:300]]
    files += [encoded(Image.fromarray(255 - image), format="PNG") for image in test_images[:30]]
    damaged = [files[0][:at] + bytes([files[0][at] ^ 1 << at % 8]) + files[0][at + 1 :] for at in range(len(files[0]))]
    damaged += [files[0][:end] for end in range(len(files[0]))]

    def results() -> list[Any]:
        answers: list[Any] = []
        for data in files + damaged:
            try:
                pixels = to_pixels(data)
                answers.append((pixels.array.tobytes(), pixels.inverted, pixels.fit))
            except ImageError as error:
                answers.append((error.kind, str(error)))
        return answers

    assert all(decoding._plain_grey_png(data) for data in files)
    short = results()
    monkeypatch.setattr(decoding, "_plain_grey_png", lambda data: None)
    monkeypatch.setattr(images, "_on_plain_black", lambda grey: False)
    assert short == results()
