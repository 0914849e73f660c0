"""Damaged and hostile files are an `ImageError` or a picture; and what reading them leaves behind: nothing."""

import io
import struct
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageFile
from support.pictures import EVERY, KINDS, Grey, bombs, deadline, encoded, kind_of, png_chunk

from runtime.errors import ImageError
from runtime.imaging import load
from runtime.imaging.load import MAX_PIXELS
from runtime.imaging.preprocess import to_pixels


@pytest.mark.parametrize("source", [b"", io.BytesIO(), Image.new("L", (0, 5))], ids=["bytes", "stream", "picture"])
def test_a_source_without_content_is_empty(source, tmp_path):
    assert kind_of(source) == "empty"
    (tmp_path / "empty.png").touch()
    assert kind_of(tmp_path / "empty.png") == "empty"


@pytest.mark.parametrize("name", bombs())
def test_a_gigapixel_header_is_refused_before_a_pixel_is_decoded(name):
    with deadline(5):
        assert kind_of(bombs()[name]) in ({"too_large", "corrupt"} if name == "WEBP" else {"too_large"})


def test_a_picture_that_pillow_would_warn_about_is_refused_without_a_warning():
    """Between one and two of Pillow's limits it only warns; as `-W error` is on here, that would be another error."""
    header = struct.pack(">IIBBBBB", 10_000, 10_000, 1, 0, 0, 0, 0)
    assert Image.MAX_IMAGE_PIXELS is not None
    assert Image.MAX_IMAGE_PIXELS < 10_000**2 < 2 * Image.MAX_IMAGE_PIXELS
    data = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b"")
    assert kind_of(data) == "too_large"


def test_the_limits_hold_for_every_kind_of_source(tmp_path, monkeypatch):
    wide = np.broadcast_to(np.uint8(0), (2, MAX_PIXELS))
    assert kind_of(wide) == "too_large"
    monkeypatch.setattr(load, "MAX_PIXELS", 99)
    assert kind_of(Image.new("L", (10, 10))) == "too_large"
    assert to_pixels(Image.new("L", (9, 11))).array.shape == (28, 28)
    monkeypatch.setattr(load, "MAX_FILE_BYTES", 60)
    data = encoded(Image.new("L", (9, 9)), format="BMP")
    (tmp_path / "big.bmp").write_bytes(data)
    for source in (data, io.BytesIO(data), tmp_path / "big.bmp"):
        assert kind_of(source) == "too_large"


def test_memory_that_runs_out_is_an_image_error(shirt, monkeypatch):
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
def test_a_file_cut_anywhere_is_an_image_error_or_a_picture(name, shirt):
    data = encoded(Image.fromarray(shirt).resize((60, 50)), **EVERY[name])
    outcomes = [attempt(data[:cut]) for cut in sorted({*range(1, 40), *range(40, len(data), max(1, len(data) // 80))})]
    assert outcomes[0] == "not_an_image"
    if name not in ("avif", "tiff_lzw"):  # their decoders do not say that it was the end that was missing
        assert "truncated" in outcomes


@pytest.mark.parametrize("name", EVERY)
def test_a_file_with_flipped_bits_is_an_image_error_or_a_picture(name, shirt, rng, monkeypatch):
    monkeypatch.setattr(load, "MAX_PIXELS", 10**6)  # a flipped size may be large: allowed, but slow
    data = encoded(Image.fromarray(shirt).resize((60, 50)), **EVERY[name])
    for _ in range(120):
        damaged = bytearray(data)
        # Half of the flips in the header, where they do most.
        for at in rng.integers(0, rng.choice([min(200, len(data)), len(data)]), rng.integers(1, 4)):
            damaged[at] ^= 1 << int(rng.integers(8))
        attempt(bytes(damaged))


@pytest.mark.parametrize("name", EVERY)
def test_a_right_beginning_with_noise_after_it_is_an_image_error_or_a_picture(name, shirt, rng):
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
def test_whatever_a_decoder_throws_becomes_an_image_error(error, shirt, monkeypatch):
    def load(self: object) -> None:
        raise error

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    assert kind_of(encoded(Image.fromarray(shirt).convert("RGB"), format="PNG")) == "corrupt"


def test_a_pillow_picture_that_cannot_be_loaded_is_an_image_error(shirt, tmp_path):
    path = tmp_path / "cut.bmp"
    path.write_bytes(encoded(Image.fromarray(shirt), format="BMP")[:-50])
    with Image.open(path) as opened:
        assert kind_of(opened) == "truncated"
    with Image.open(path) as closed:
        pass
    assert kind_of(closed) == "unreadable"


def odd_tiff(image: Grey) -> bytes:
    """A sound TIFF about which Pillow warns: one tag says that its text is longer than the file."""
    data = encoded(Image.fromarray(image), format="TIFF", description="a shirt")
    at = data.index(struct.pack("<HHI", 270, 2, 8)) + 4
    return data[:at] + struct.pack("<I", 10**6) + data[at + 4 :]


def test_odd_metadata_is_read_in_silence_and_the_warning_filters_are_left_alone(shirt):
    data = odd_tiff(shirt)
    with pytest.warns(UserWarning, match="larger than file"), Image.open(io.BytesIO(data)):
        pass  # shows that the rest proves something
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        for pixels in pool.map(to_pixels, [data] * 200):
            np.testing.assert_array_equal(pixels.array, shirt)
    assert before == list(warnings.filters)


def test_one_plugin_is_imported_and_pillows_settings_are_left_alone(shirt, tmp_path):
    path = tmp_path / "shirt.png"
    Image.fromarray(shirt).convert("RGB").save(path)
    program = f"""if True:
        import sys
        from PIL import Image, ImageFile
        settings = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
        from runtime.imaging.preprocess import to_pixels
        to_pixels({str(path)!r})
        assert settings == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
        print(sorted(name for name in sys.modules if name.endswith("ImagePlugin")))
    """
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "['PIL.PngImagePlugin']"
    assert run.stderr == ""


@pytest.mark.parametrize("size", [(2, 2), (28, 28), (100, 100)])
def test_the_limit_on_pixels_is_exact(size):
    data, pixels = encoded(Image.new("L", size), format="PNG"), size[0] * size[1]

    assert to_pixels(data, max_pixels=pixels).array.shape == (28, 28)
    with pytest.raises(ImageError, match=f"{size[0]}x{size[1]}; at most {pixels - 1} pixels") as raised:
        to_pixels(data, max_pixels=pixels - 1)
    assert raised.value.kind == "too_large"


def test_a_small_png_with_any_fault_has_the_answer_of_pillows_own_reader(shirt, monkeypatch):
    data = encoded(Image.fromarray(shirt), format="PNG")
    assert load._plain_grey_png(data, 784)
    files = [data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :] for at in range(len(data))]
    files += [data[:end] for end in range(1, len(data))]
    outcomes = [attempt(file) for file in files]
    monkeypatch.setattr(load, "_plain_grey_png", lambda data, max_pixels: None)

    assert outcomes == [attempt(file) for file in files]
