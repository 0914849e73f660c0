"""Where a picture may come from: paths, bytes, streams, Pillow pictures and arrays, and what is none of these."""

import gc
import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.pictures import encoded, kind_of

from runtime.errors import ImageError, UsageError
from runtime.imaging.load import Source
from runtime.imaging.preprocess import to_pixels


def test_a_path_bytes_a_stream_a_picture_and_an_array_give_the_same_pixels(shirt, tmp_path):
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
def test_an_array_may_have_any_strides_and_a_channel_axis(shaped, shirt):
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
def test_an_array_of_another_type_or_shape_is_refused_with_both_named(array):
    with pytest.raises(ImageError, match=r"expected .* uint8 \(H, W\).*found") as caught:
        to_pixels(array)
    assert caught.value.kind == "array"
    assert str(array.shape) in str(caught.value)


def test_a_source_is_left_as_it_was_and_the_result_is_the_callers_own(shirt):
    array = 255 - shirt
    before = array.copy()
    for source in (array, Image.fromarray(array)):
        for invert in ("yes", "no"):
            to_pixels(source, invert=invert).array[:] = 7
        np.testing.assert_array_equal(source, before)


@pytest.mark.parametrize("source", [None, 3, ["a.png"], io.StringIO("text"), object()], ids=lambda s: type(s).__name__)
def test_what_is_no_picture_at_all_is_refused_by_type(source):
    assert kind_of(source) == "not_an_image"


def test_an_option_that_does_not_exist_is_a_usage_error(shirt):
    with pytest.raises(UsageError, match="maybe"):
        to_pixels(shirt, invert="maybe")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="stretch"):
        to_pixels(shirt, fit="stretch")  # type: ignore[arg-type]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ImageError, match=r"'.*shrt\.png' does not exist") as caught:
        to_pixels(tmp_path / "shrt.png")
    assert caught.value.kind == "missing"


@pytest.mark.parametrize("name", ["", "a\0b.png", "\ud800.png", "/etc/hostname/shirt.png"], ids=ascii)
def test_a_name_that_no_file_can_have_is_missing(name):
    assert kind_of(name) == "missing"


def test_a_symlink_to_a_file_is_followed(shirt, tmp_path):
    Image.fromarray(shirt).save(tmp_path / "shirt.png")
    (tmp_path / "link").symlink_to("shirt.png")
    np.testing.assert_array_equal(to_pixels(tmp_path / "link").array, shirt)


def test_no_file_stays_open(shirt, tmp_path):
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
