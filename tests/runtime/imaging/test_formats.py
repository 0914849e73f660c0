"""Every format, mode and depth that Pillow reads gives the same grey pixels, upright."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageOps
from support.pictures import EVERY, LOSSLESS, LOSSY, deep_files, difference, encoded, kind_of, transparent_files

from runtime.imaging.load import FORMATS
from runtime.imaging.preprocess import to_pixels


@pytest.mark.parametrize("name", LOSSLESS)
def test_a_lossless_file_gives_back_every_pixel(name, shirt):
    np.testing.assert_array_equal(to_pixels(encoded(Image.fromarray(shirt), **LOSSLESS[name])).array, shirt)


@pytest.mark.parametrize("name", [name for name in EVERY if name in LOSSY])
def test_a_lossy_file_gives_back_nearly_the_same_pixels(name, shirt):
    assert difference(to_pixels(encoded(Image.fromarray(shirt), **LOSSY[name])).array, shirt) < 3


def test_every_allowed_format_is_tested():
    assert set(FORMATS) == {how["format"] for how in {**LOSSLESS, **LOSSY}.values()}


@pytest.mark.parametrize("magic", ["P2", "P5"])
def test_a_plain_or_raw_pgm_is_read(magic, shirt):
    body = " ".join(map(str, shirt.ravel())).encode() if magic == "P2" else shirt.tobytes()
    np.testing.assert_array_equal(to_pixels(f"{magic}\n28 28\n255\n".encode() + body).array, shirt)


def test_the_format_is_told_by_the_content_and_not_by_the_name(shirt, tmp_path):
    path = tmp_path / "shirt.jpg"
    path.write_bytes(encoded(Image.fromarray(shirt), format="PNG"))
    np.testing.assert_array_equal(to_pixels(path).array, shirt)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "RGBX", "LA", "La", "RGBa", "P", "PA", "CMYK", "YCbCr", "HSV"])
def test_every_pillow_mode_of_8_bits_gives_nearly_the_same_grey(mode, shirt):
    grey = Image.fromarray(shirt)
    between = {"La": "LA", "RGBa": "RGBA", "P": "L", "PA": "P"}.get(mode, "RGB")
    assert difference(to_pixels(grey.convert(between).convert(mode)).array, shirt) < 1


def test_lab_gives_its_lightness(shirt):
    flat = Image.new("L", (28, 28), 128)
    lab = Image.merge("LAB", [Image.fromarray(shirt), flat, flat])
    np.testing.assert_array_equal(to_pixels(lab).array, shirt)


def test_a_picture_of_1_bit_is_black_and_white(shirt):
    bits = Image.fromarray(shirt).convert("1")
    expected = np.asarray(bits) * np.uint8(255)
    np.testing.assert_array_equal(to_pixels(bits).array, expected)
    np.testing.assert_array_equal(to_pixels(encoded(bits, format="TIFF", compression="group4")).array, expected)


def test_a_cmyk_jpeg_and_tiff_are_not_read_as_negatives(shirt):
    cmyk = Image.fromarray(shirt).convert("RGB").convert("CMYK")
    for how in ({"format": "JPEG", "quality": 95}, {"format": "TIFF"}):
        pixels = to_pixels(encoded(cmyk, **how))
        assert difference(pixels.array, shirt) < 3
        assert not pixels.inverted


@pytest.mark.parametrize("name", deep_files(np.zeros((28, 28), np.uint8)))
def test_deep_levels_are_scaled_to_8_bits_and_not_clipped(name, shirt):
    np.testing.assert_array_equal(to_pixels(deep_files(shirt)[name]).array, shirt)


@pytest.mark.parametrize("level", [np.nan, np.inf, -1.0, 1e9])
def test_levels_outside_every_usual_scale_are_refused(level):
    levels = np.zeros((28, 28), np.float32)
    levels[3, 3] = level
    assert kind_of(encoded(Image.fromarray(levels), format="TIFF")) == "corrupt"


@pytest.mark.parametrize("name", transparent_files(np.zeros((28, 28), np.uint8)))
def test_transparency_is_laid_on_white_like_the_data_sets_own_photographs(name, shirt):
    pixels = to_pixels(transparent_files(shirt)[name])
    assert pixels.inverted
    assert np.abs(pixels.array.astype(int) - shirt).max() <= 1  # the transparent level itself had to move by one


def test_half_transparency_is_blended():
    half = Image.new("LA", (28, 28), (0, 128))
    assert int(to_pixels(half, invert="no", fit="exact").array[0, 0]) == 127


@pytest.mark.parametrize("border", [0, 2])
def test_a_picture_of_the_right_size_keeps_it_whatever_its_transparent_border(border):
    """Lost otherwise: a batch in which one picture is smaller, and with it the answers to all others."""
    alpha = np.pad(np.full((28 - 2 * border,) * 2, 255, np.uint8), border)
    picture = Image.merge("LA", [Image.fromarray(np.full((28, 28), 200, np.uint8)), Image.fromarray(alpha)])
    assert to_pixels(picture, fit="exact").array.shape == (28, 28)


@pytest.mark.parametrize("format_", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_of_an_animation_is_used(format_, test_images):
    first, *others = (Image.fromarray(image) for image in test_images[:3])
    options = {"lossless": True} if format_ == "WEBP" else {}
    data = encoded(first, format=format_, save_all=True, append_images=others, **options)
    np.testing.assert_array_equal(to_pixels(data).array, test_images[0])


def test_the_main_picture_of_a_phones_multi_picture_jpeg_is_used(test_images):
    first, second = (Image.fromarray(image) for image in test_images[:2])
    data = encoded(first, format="MPO", save_all=True, append_images=[second], quality=95)
    assert difference(to_pixels(data).array, test_images[0]) < 3


def test_the_current_frame_of_a_pillow_picture_is_used(test_images):
    first, second = (Image.fromarray(image) for image in test_images[:2])
    with Image.open(io.BytesIO(encoded(first, format="TIFF", save_all=True, append_images=[second]))) as opened:
        opened.seek(1)
        np.testing.assert_array_equal(to_pixels(opened).array, test_images[1])


def exif(orientation: int) -> bytes:
    block = Image.Exif()
    block[0x0112] = orientation
    return block.tobytes()


@pytest.mark.parametrize("format_", ["PNG", "WEBP", "TIFF", "JPEG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_upright_as_exif_says(orientation, format_, test_images):
    options = {"lossless": True} if format_ == "WEBP" else {}
    boot = Image.fromarray(test_images[0]).resize((84, 56))
    data = encoded(boot, format=format_, exif=exif(orientation), **options)
    with Image.open(io.BytesIO(data)) as opened:
        upright = ImageOps.exif_transpose(opened).convert("L")
    assert upright.size == ((84, 56) if orientation < 5 else (56, 84))
    np.testing.assert_array_equal(to_pixels(data).array, to_pixels(upright).array)


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_of_either_byte_order_is_understood(order, shirt):
    mark = b"II*\0" if order == "<" else b"MM\0*"
    block = b"Exif\0\0" + mark + struct.pack(order + "IHHHIHHI", 8, 1, 0x0112, 3, 1, 3, 0, 0)
    pixels = to_pixels(encoded(Image.fromarray(shirt[::-1, ::-1]), format="PNG", exif=block))
    np.testing.assert_array_equal(pixels.array, shirt)


@pytest.mark.parametrize("kind", [1, 2, 3, 5, 12])
@pytest.mark.parametrize("tag", [0x0100, 0x010E, 0x011A, 0x0213, 0x8769])
def test_a_picture_is_turned_whatever_another_tag_of_its_exif_holds(tag, kind, test_images):
    """Cameras write tags of types that the standard does not give them; Pillow then cannot write the block anew."""
    orientation, other = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0), struct.pack("<HHII", tag, kind, 1, 8)
    block = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + orientation + other + bytes(4)
    boot = Image.fromarray(test_images[0]).resize((84, 56))
    expected = to_pixels(boot.transpose(Image.Transpose.ROTATE_270))
    for format_ in ("PNG", "JPEG"):
        assert difference(to_pixels(encoded(boot, format=format_, exif=block)).array, expected.array) < 3


@pytest.mark.parametrize("cut", range(0, 60, 7))
def test_damaged_exif_neither_fails_nor_warns(cut, shirt, rng):
    block = Image.Exif()
    block[0x0112], block[0x010E], block[0x011A] = 1, "a shirt " * 9, 72.0
    damaged = block.tobytes()[: 14 + cut] + rng.bytes(9)
    for how in (LOSSY["jpeg"], LOSSLESS["png"], LOSSLESS["webp"]):
        assert difference(to_pixels(encoded(Image.fromarray(shirt), exif=damaged, **how)).array, shirt) < 3
