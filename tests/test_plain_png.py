"""The short way through plain PNGs, one by one or together, gives what the long way gives, errors included."""

import io
import struct
import tracemalloc
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pictures import encoded, png_chunk
from PIL import Image

from runtime import decoding, images
from runtime.decoding import Source
from runtime.errors import ImageError, UsageError
from runtime.images import Pixels, to_pixels, to_pixels_together
from runtime.plain_png import filtered_rows, plain_grey_png, unfiltered

SIDE = 28
GREY = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 0, 0, 0, 0)


def png(compressed: bytes, header: bytes = GREY) -> bytes:
    """A PNG of one chunk, with right checksums."""
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", compressed) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def filtered(image: npt.NDArray[np.uint8], kinds: Sequence[int]) -> bytes:
    """The rows of uint8 (H, W) by a filter each, as the PNG specification has them, 9.2."""
    padded = np.pad(image.astype(np.int16), ((1, 0), (1, 0)))
    left, above, corner = padded[1:, :-1], padded[:-1, 1:], padded[:-1, :-1]
    to_left, to_above, to_corner = (np.abs(left + above - corner - other) for other in (left, above, corner))
    nearest_of_others = np.where(to_above <= to_corner, above, corner)
    paeth = np.where((to_left <= to_above) & (to_left <= to_corner), left, nearest_of_others)
    guesses = [np.zeros_like(left), left, above, (left + above) // 2, paeth]
    rows = [(image[row] - guesses[kind][row]).astype(np.uint8).tobytes() for row, kind in enumerate(kinds)]
    return b"".join(bytes([kind]) + row for kind, row in zip(kinds, rows, strict=True))


def outcome(answer: Pixels | ImageError) -> Any:
    if isinstance(answer, ImageError):
        return answer.kind, str(answer)
    array = answer.array
    return array.tobytes(), array.dtype, array.shape, array.flags.writeable, answer.inverted, answer.fit


def one_by_one(sources: Sequence[Source]) -> list[Any]:
    answers = []
    for source in sources:
        try:
            answers.append(outcome(to_pixels(source)))
        except ImageError as error:
            answers.append(outcome(error))
    return answers


@pytest.fixture
def long_way(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Answers as they are without this module."""

    def answers(sources: Sequence[Source]) -> list[Any]:
        with monkeypatch.context() as patch:
            patch.setattr(decoding, "plain_grey_png", lambda data, max_pixels: None)
            patch.setattr(images, "_on_plain_black", lambda grey: False)
            return one_by_one(sources)

    return answers


def test_every_picture_and_every_damage_has_the_answer_of_the_long_way(
    test_images: npt.NDArray[np.uint8], long_way: Any
) -> None:
    files = [encoded(Image.fromarray(image), format="PNG") for image in test_images[:300]]
    files += [encoded(Image.fromarray(255 - image), format="PNG") for image in test_images[:30]]
    assert all(plain_grey_png(data, SIDE * SIDE) and filtered_rows(data, SIDE, SIDE) for data in files)
    files += [files[0][:at] + bytes([files[0][at] ^ 1 << at % 8]) + files[0][at + 1 :] for at in range(len(files[0]))]
    files += [files[0][:end] for end in range(len(files[0]))]
    expected = long_way(files)

    assert one_by_one(files) == expected
    assert [outcome(answer) for answer in to_pixels_together(files)] == expected


def test_rows_of_every_filter_are_undone_whatever_stands_above_them(test_images: npt.NDArray[np.uint8]) -> None:
    """A picture's first row is filtered against black, not against the last row of the picture before it."""
    generator = np.random.default_rng(0)
    noisy = generator.integers(0, 256, (200, SIDE, SIDE), np.uint8)
    for originals in (test_images[:200, ...], noisy):
        kinds = generator.integers(0, 5, (len(originals), SIDE))
        kinds[:5, 0] = range(5)
        rows = [filtered(image, kind.tolist()) for image, kind in zip(originals, kinds, strict=True)]

        assert np.array_equal(unfiltered(rows, SIDE, SIDE), originals)
        for one, original in zip(rows[:10], originals, strict=False):
            assert np.array_equal(unfiltered([one], SIDE, SIDE)[0], original)
            assert np.array_equal(to_pixels(png(zlib.compress(one)), invert="no").array, original)


def test_many_sizes_of_tall_pictures_come_back_whole(test_images: npt.NDArray[np.uint8]) -> None:
    rows = [filtered_rows(encoded(Image.fromarray(image), format="PNG"), SIDE, SIDE) for image in test_images[:256]]

    for count in (1, 2, 79, 80, 81, 256):  # 64 KiB, where a stored block of zlib ends, are at 80.7
        levels = unfiltered([row for row in rows[:count] if row], SIDE, SIDE)
        assert np.array_equal(levels, test_images[:count])


def test_what_is_odd_goes_the_long_way_and_alone(test_images: npt.NDArray[np.uint8], long_way: Any) -> None:
    rows = filtered(test_images[0], [0] * SIDE)
    other_sizes = [(56, 14), (57, 14), (27, 29), (13, 58)]  # all but the first have as many bytes as rows of 28x28
    generator = np.random.default_rng(0)
    odd = {
        "a filter that does not exist": png(zlib.compress(b"\5" + rows[1:])),
        "a last filter that does not exist": png(zlib.compress(rows[:-29] + b"\xff" + rows[-28:])),
        "a row too few": png(zlib.compress(rows[:-29])),
        "a byte too few": png(zlib.compress(rows[:-1])),
        "a byte too many": png(zlib.compress(rows + b"\0")),
        "a row too many": png(zlib.compress(rows + rows[:29])),
        "no end": png(zlib.compress(rows)[:-4]),
        "another sum": png(zlib.compress(rows)[:-4] + b"\0\0\0\0"),
        "something behind the stream": png(zlib.compress(rows) + b"hello"),
        "nothing": png(b""),
        "a bomb": png(zlib.compress(bytes(2**24))),
        "a small bomb": png(zlib.compress(bytes(8 * 10**5), 9)),
    }
    for width, height in other_sizes:
        image = generator.integers(0, 5, (height, width), np.uint8)  # like numbers of filters, wherever they are read
        header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
        odd[f"{width}x{height}"] = png(zlib.compress(filtered(image, [0] * height)), header)
    good = encoded(Image.fromarray(test_images[1]), format="PNG")
    mixed = [one for data in odd.values() for one in (good, data)]

    assert [name for name, data in odd.items() if filtered_rows(data, SIDE, SIDE)] == ["something behind the stream"]
    assert [outcome(answer) for answer in to_pixels_together(mixed)] == long_way(mixed)


def test_a_bomb_is_not_inflated_further_than_a_picture_goes() -> None:
    small, large = png(zlib.compress(bytes(8 * 10**5), 9)), png(zlib.compress(bytes(2**26), 9))
    assert len(small) < 57 + 29 * SIDE
    tracemalloc.start()
    try:
        assert filtered_rows(small, SIDE, SIDE) is None
        assert filtered_rows(large, SIDE, SIDE) is None
        assert tracemalloc.get_traced_memory()[1] < 2**17  # zlib's window, mostly
    finally:
        tracemalloc.stop()


def test_the_background_is_that_of_the_long_way_on_every_kind_of_edge(long_way: Any) -> None:
    """About half of the edge black, one level or many around it, ties included."""
    generator = np.random.default_rng(0)
    images = generator.choice(np.array([0, 0, 0, 9, 30, 128, 200, 255], np.uint8), (300, SIDE, SIDE))
    edge = np.zeros((SIDE, SIDE), bool)
    edge[[0, -1]] = edge[:, [0, -1]] = True
    for index, image in enumerate(images):
        image[edge] = np.where(generator.permutation(edge.sum()) < index % edge.sum(), 0, 1 + index % 255)
    images[:3] = np.array([0, 127, 128])[:, None, None]
    files = [png(zlib.compress(filtered(image, [4] * SIDE))) for image in images]
    answers = to_pixels_together(files)

    assert [outcome(answer) for answer in answers] == long_way(files)
    assert 50 < sum(answer.inverted for answer in answers if isinstance(answer, Pixels)) < 250


def test_together_takes_any_source_and_reads_each_once(tmp_path: Path, test_images: npt.NDArray[np.uint8]) -> None:
    data = [encoded(Image.fromarray(image), format="PNG") for image in test_images[:4]]
    (tmp_path / "a.png").write_bytes(data[0])
    jpeg = encoded(Image.fromarray(test_images[1]), format="JPEG")
    (tmp_path / "wrong.png").write_text("no picture")
    sources: list[Source] = [tmp_path / "a.png", jpeg, str(tmp_path / "none.png"), test_images[2], tmp_path]
    sources += [tmp_path / "wrong.png", Image.fromarray(test_images[3]), data[3], b""]
    expected = one_by_one([*sources, data[2], jpeg])

    streams = [io.BytesIO(data[2]), io.BytesIO(jpeg)]
    assert [outcome(answer) for answer in to_pixels_together([*sources, *streams])] == expected
    assert to_pixels_together([]) == []


@pytest.mark.parametrize("invert", ["auto", "yes", "no"])
@pytest.mark.parametrize("fit", ["auto", "exact", "catalogue"])
def test_together_grants_every_wish(invert: Any, fit: Any, test_images: npt.NDArray[np.uint8]) -> None:
    pictures = [Image.fromarray(image) for image in (test_images[0], 255 - test_images[1])]
    files = [encoded(picture, format="PNG") for picture in pictures]
    expected = [outcome(to_pixels(data, invert=invert, fit=fit)) for data in files]

    assert [outcome(answer) for answer in to_pixels_together(files, invert=invert, fit=fit)] == expected


def test_together_refuses_a_wish_that_is_unknown(test_images: npt.NDArray[np.uint8]) -> None:
    data = encoded(Image.fromarray(test_images[0]), format="PNG")
    with pytest.raises(UsageError, match="fit='tight'"):
        to_pixels_together([data], fit="tight")  # type: ignore[arg-type]


def test_the_short_way_through_plain_pngs_keeps_the_limit_on_pixels() -> None:
    data = encoded(Image.new("L", (100, 100)), format="PNG")

    assert to_pixels(data, max_pixels=10_000).array.shape == (28, 28)
    with pytest.raises(ImageError, match="100x100; at most 9999 pixels") as raised:
        to_pixels(data, max_pixels=9_999)
    assert raised.value.kind == "too_large"
