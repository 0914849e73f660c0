"""Requests made to cost more than their bytes: each is refused with a sentence, and costs little memory."""

import gc
import gzip
import io
import json
import struct
import sys
import tracemalloc
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image
from support.pictures import png_chunk
from support.running_server import RunningServer

from runtime.errors import ImageError
from runtime.imaging.preprocess import to_pixels

pytest.importorskip("starlette", reason="the extra serve is not installed")
from starlette.exceptions import HTTPException

from runtime.model.spec import FASHION_MNIST
from runtime.serving.open_inference import read_request

pytestmark = pytest.mark.slow

LIMIT = 2**24 - 2**10  # bytes of the longest body, about
MAX_IMAGES = 512
INFER = "/v2/models/lenet/infer"
FORM = {"Content-Type": "multipart/form-data; boundary=b"}
FILE = b'--b\r\nContent-Disposition: form-data; name="f"; filename="x.png"\r\n'


class Request(NamedTuple):
    what: str
    path: str
    body: bytes
    headers: dict[str, str] = {}  # noqa: RUF012


def infer(**tensor: Any) -> dict[str, Any]:
    """A right request for one image, but for these fields of its tensor."""
    return {"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 1, 28, 28], "data": [0] * 784} | tensor]}


def filled(unit: bytes, size: int) -> bytes:
    """An infer request of about that size, whose data are units and a 0."""
    head, tail = json.dumps(infer(data=[])).encode().removesuffix(b"]}]}"), b"0]}]}"
    return head + unit * ((size - len(head) - len(tail)) // len(unit)) + tail


def wrong_json() -> Iterator[Request]:
    yield Request(
        "one long text and many empty ones", INFER, json.dumps(infer(data=["a" * 250_000] + [""] * 2000)).encode()
    )
    for unit in (b"[],", b"[0],", b"[[]],", b'{"":0},', b"1.5,", b"0,", b"257,", b'"",', b'"ab",', b"null,", b"1e999,"):
        for size in (2**10, 2**12, 2**14, 2**16, 2**18, 2**20):
            yield Request(f"data of {unit!r}, {size} bytes", INFER, filled(unit, size))
    for unit in (b"[0],", b'{"":0},', b"257,", b'"ab",'):
        yield Request(f"data of {unit!r}, {LIMIT} bytes", INFER, filled(unit, LIMIT))
        yield Request(f"gzip of {unit!r}", INFER, gzip.compress(filled(unit, LIMIT), 1), {"Content-Encoding": "gzip"})
    many = (LIMIT - 2**12) // 4
    texts = ["a" * LIMIT, "\U0001f600" * many, "\U0001f600" + "a" * (LIMIT - 2**12), "\\ud83d\\ude00" * (many // 3)]
    for text in texts:
        yield Request(f"an id of {text[:12]!r} ...", INFER, b'{"id": "%s"}' % text.encode())
    keys = ",".join(f'"{number}":0' for number in range(600_000)).encode()
    yield Request("a million keys", INFER, b"{" + keys + b"}")
    yield Request("the same key again and again", INFER, b'{"a":0' + b',"a":0' * 100_000 + b"}")
    yield Request("inputs twice", INFER, json.dumps(infer()).encode()[:-1] + b', "inputs": []}')
    for depth in (900, 10_000, 2**20):
        deep = b"[" * depth + b"]" * depth
        yield Request(f"a shape {depth} deep", INFER, json.dumps(infer(shape="deep")).encode().replace(b'"deep"', deep))
        yield Request(f"data {depth} deep", INFER, json.dumps(infer(data="deep")).encode().replace(b'"deep"', deep))
    for word in ("NaN", "Infinity", "-Infinity", "1e400", "9" * 4000, "-" + "9" * 4000, "9" * 10_000, "true", "-1"):
        numbers = json.dumps(infer(data=["number"] * 784)).replace('"number"', word)
        yield Request(f"data of {word[:9]}", INFER, numbers.encode()[:LIMIT])
        yield Request(
            f"{word[:9]} images", INFER, json.dumps(infer(shape=["N", 1, 28, 28])).replace('"N"', word).encode()
        )
    shapes: list[Any] = [[10**9, 1, 28, 28], [-1, 1, 28, 28], [0, 1, 28, 28], [1, 1, 28, 28.0], [1, 1, 28], [], {}, "1"]
    for shape in [*shapes, [1] * 400_000, [[1, 1, 28, 28]], [2**31, 2**31, 28, 28], [1, 1, 28, 28, 1], None]:
        yield Request(f"a shape of {str(shape)[:30]}", INFER, json.dumps(infer(shape=shape)).encode())
    for data in ([[0] * 783, [0]], [[[[0] * 28] * 27 + [[0] * 27]]], [[0] * 392] * 2, [False] * 784, [[]] * 784, 0):
        yield Request(f"data of {str(data)[:30]}", INFER, json.dumps(infer(data=data)).encode())
    for name, value in (("parameters", [1]), ("outputs", [{"name": "logits"}] * 100_000), ("outputs", ["logits"])):
        yield Request(f"{name} of {str(value)[:30]}", INFER, json.dumps(infer() | {name: value}).encode())
    for parameters in ({"binary_data_output": 1}, {"shared_memory_region": "a" * 10**6}):
        yield Request(f"{str(parameters)[:30]}", INFER, json.dumps(infer() | {"parameters": parameters}).encode())
    for stated in (784, 2**40, -1, True, 1.5, "784"):
        tensor = {"name": "image", "datatype": "UINT8", "shape": [1, 1, 28, 28]}
        head = json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": stated}}]}).encode()
        length = {"Inference-Header-Content-Length": str(len(head))}
        yield Request(f"{stated} bytes stated, 2**20 sent", INFER, head + bytes(2**20), length)
    for length in ("-1", "9" * 4000, "1e3", "0", str(2**24)):
        yield Request(f"{length[:9]} bytes of JSON", INFER, b"{}", {"Inference-Header-Content-Length": length})


def wrong_bodies() -> Iterator[Request]:
    bomb = gzip.compress(bytes(2**26), 9)
    for path in (INFER, "/predict"):
        yield Request("a gzip bomb", path, bomb, {"Content-Encoding": "gzip"})
        yield Request("a gzip bomb of gzip bombs", path, gzip.compress(bomb, 9), {"Content-Encoding": "gzip, gzip"})
        yield Request("gzip cut off", path, bomb[:1000], {"Content-Encoding": "gzip"})
        yield Request("a deflate bomb", path, zlib.compress(bytes(2**26), 9), {"Content-Encoding": "deflate"})
        yield Request("a long encoding", path, b"x", {"Content-Encoding": "x" * 8000})
    forms = {
        "a long header": FILE + b"X: " + b"a" * LIMIT,
        "a long list of options": FILE[:-2] + b"; a=b" * 3_000_000 + b"\r\n\r\nx\r\n--b--\r\n",
        "many headers": FILE + b"A:b\r\n" * 3_000_000 + b"\r\nx\r\n--b--\r\n",
        "many parts": (FILE + b"\r\nx\r\n") * 100_000 + b"--b--\r\n",
        "many fields": b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n' * 300_000 + b"--b--\r\n",
        "many line ends": FILE + b"\r\n" + b"\r\n" * 8_000_000 + b"\r\n--b--\r\n",
        "many near ends": FILE + b"\r\n" + b"\r\n--a" * 3_200_000 + b"\r\n--b--\r\n",
        "no end": FILE + b"\r\n" + bytes(LIMIT - 1000),
    }
    for what, body in forms.items():
        yield Request(f"a form of {what}", "/predict", body, FORM)
    yield Request("a long boundary", "/predict", b"x", {"Content-Type": "multipart/form-data; boundary=" + "b" * 9000})
    queries = [
        "topk=" + "9" * 5000,
        "model=" + "a" * 9000,
        "a=b&" * 3000,
        "&" * 9000,
        "%00=%ff",
        "topk=1&topk=2",
        "topk=-1",
    ]
    for query in queries:
        yield Request(f"?{query[:20]}", f"/predict?{query}", b"x")


def wrong_pictures() -> Iterator[Request]:
    for what, picture in {**wrong_pngs(), **wrong_jpegs(), **wrong_tiffs(), **other_wrong_pictures()}.items():
        yield Request(what, "/predict", picture)
        if len(picture) < 2**20:
            form = FILE + b"\r\n" + picture + b"\r\n--b--\r\n"
            yield Request(f"{what}, in a form", "/predict", form, FORM)


def png(width: int, height: int, color: int, *chunks: bytes) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + png_chunk(b"IEND", b"")


def wrong_pngs() -> dict[str, bytes]:
    rows = png_chunk(b"IDAT", zlib.compress(bytes(28 * 29)))
    text = zlib.compress("\U0001f600".encode() + b"a" * 1_040_000)
    texts = [png_chunk(b"iTXt", b"k%d\0\1\0\0\0" % number + text) for number in range(70)]
    profile = png_chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(2**26), 9))
    return {
        "PNG: compressed texts": png(28, 28, 0, *texts, rows),
        "PNG: a compressed profile": png(28, 28, 0, profile, rows),
        "PNG: a million private chunks": png(28, 28, 0, png_chunk(b"prVt", b"") * 1_300_000, rows),
        "PNG: a million texts": png(28, 28, 0, png_chunk(b"tEXt", b"k\0v") * 1_000_000, rows),
        "PNG: a million chunks of no pixels": png(28, 28, 0, png_chunk(b"IDAT", b"") * 1_300_000),
        "PNG: 2**31 wide": png(2**31 - 1, 2**31 - 1, 6, rows),
        "PNG: as large as may be, and empty": png(5780, 5780, 6, png_chunk(b"IDAT", zlib.compress(bytes(1000)))),
    }


def wrong_jpegs() -> dict[str, bytes]:
    whole, large = io.BytesIO(), io.BytesIO()
    Image.new("L", (1600, 1600), 7).save(whole, "JPEG", progressive=True)
    Image.new("RGB", (4000, 4000), 7).save(large, "JPEG", progressive=True)
    again = bytes.fromhex("ffda0008010100000101 00")  # one more scan: the next bit of each block's mean
    return {
        "JPEG: millions of comments": b"\xff\xd8" + b"\xff\xfe\0\2" * 4_000_000,
        "JPEG: millions of segments": b"\xff\xd8" + b"\xff\xe5\0\4xy" * 2_700_000,
        "JPEG: a long way to the first segment": b"\xff\xd8" + b"\xff" * LIMIT,
        "JPEG: thousands of scans": whole.getvalue()[:-2] + again * 5000 + b"\xff\xd9",
        "JPEG: thousands of scans, and an end inside a comment": whole.getvalue()[:-2]
        + b"\xff\xfe\0\4\xff\xd9"
        + again * 5000
        + b"\xff\xd9",
        "JPEG: large and cut off": large.getvalue()[:-10_000],
    }


def tiff(*entries: tuple[int, int, int, int], big: bool = False) -> bytes:
    """28x28 in deflated tiles, of these tags beside: number, type, count, value."""
    plain = [(256, 4, 1, 28), (257, 4, 1, 28), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1)]
    data = zlib.compress(bytes(64 * 64))
    tags = sorted([*plain, (324, 4, 1, 1000), (325, 4, 1, len(data)), *entries])
    head, count, entry = ("<2sHHHQ", "<Q", "<HHQQ") if big else ("<2sHI", "<H", "<HHII")
    start = (b"II", 43, 8, 0, 16) if big else (b"II", 42, 8)
    directory = struct.pack(head, *start) + struct.pack(count, len(tags))
    directory += b"".join(struct.pack(entry, *tag) for tag in tags) + bytes(8)
    return directory.ljust(1000, b"\0") + data


def wrong_tiffs() -> dict[str, bytes]:
    long8 = 16
    return {
        f"TIFF: tiles of {what}": tiff((322, kind, 1, side), (323, kind, 1, side), big=big)
        for what, kind, side, big in [
            ("40,000", 4, 40_000, False),
            ("65,520", 3, 65_520, False),
            ("40,000, as BigTIFF", 4, 40_000, True),
            ("40,000, of a type that Pillow may not see", long8, 40_000, True),
            ("16,384", 3, 16_384, False),
        ]
    }


def other_wrong_pictures() -> dict[str, bytes]:
    screen = b"GIF89a" + struct.pack("<HH", 28, 28) + b"\0\0\0"
    bmp = struct.pack("<IHHIIiiHHIIiiII", 2000, 0, 0, 1078, 40, 5700, 5700, 1, 8, 1, 900, 1, 1, 256, 256)
    webp, levels = io.BytesIO(), io.BytesIO()
    Image.new("RGBA", (3000, 3000), (1, 2, 3, 4)).save(webp, "WEBP", lossless=True, method=0)
    damaged = bytearray(webp.getvalue())
    damaged[26:] = b"\xff" * (len(damaged) - 26)
    Image.new("F", (3000, 3000), float("nan")).save(levels, "TIFF", compression="tiff_adobe_deflate")
    return {
        "GIF: a comment of short parts": screen + b"!\xfe" + b"\x01x" * 8_000_000 + b"\0",
        "GIF: millions of comments": screen + b"!\xfe\x01x\0" * 3_000_000,
        "PPM: a comment of 16 MB": b"P5 " + b"#" * LIMIT,
        "PPM: millions of comments": b"P5 " + b"#\n" * (LIMIT // 2),
        "PPM: a number of 16 MB": b"P2 28 28 255\n" + b"1" * LIMIT,
        "BMP: large, and nothing in it": b"BM" + bmp + bytes(1024) + b"\xff\0" * 300,
        "AVIF: zeros": b"\0\0\0\x1cftypavif" + bytes(LIMIT),
        "WEBP: large and damaged": bytes(damaged),
        "TIFF: large, and no number": levels.getvalue(),
    }


def memory(server: RunningServer, what: str) -> int:
    """VmRSS, what the server has in memory, or VmHWM, the most that it has had; in MB."""
    with open(f"/proc/{server.process.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(what)) // 1000


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_two_hundred_malformed_requests_take_300_mb_at_most_and_each_gets_a_sentence(own_home):
    """Lost otherwise: the server, to whoever sends it 250 KB."""
    count = 0
    with RunningServer("-m", "lenet") as running:
        idle = memory(running, "VmRSS")
        before = idle
        for make in (wrong_pictures, wrong_bodies, wrong_json):
            for what, path, body, headers in make():
                assert len(body) <= 2**24, what
                answer = running.ask("POST", path, body, headers)
                count += 1
                peak = memory(running, "VmHWM")
                assert peak - idle <= 300, f"{what}: {before} MB before it, {peak} MB in it, {idle} MB at first"
                before = memory(running, "VmRSS")
                assert 400 <= answer.status < 500, f"{what}: {answer.status} {answer.body[:300]!r}"
                sentence = answer.json()["error"]
                assert 10 < len(sentence) < 500, f"{what}: {sentence[:1000]}"
                assert "\n" not in sentence, what
        assert running.alive()
    assert count >= 200


@pytest.mark.parametrize(
    "body",
    [json.dumps(infer(data=["a" * 250_000] + [""] * 2000)).encode(), filled(b"[],", 2**22), filled(b"257,", 2**20)],
    ids=["one long text", "empty lists", "large numbers"],
)
def test_a_refused_tensor_costs_a_few_times_its_bytes_and_is_freed_at_once(body):
    """Lost otherwise: the memory of each wrong request, until Python looks for circles."""
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        with pytest.raises(HTTPException):
            read_request(body, None, MAX_IMAGES, FASHION_MNIST)
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()

    assert peak < 30 * len(body) + 2**20
    assert now < 2**17


@pytest.mark.parametrize("indent", [None, 1, 8])
@pytest.mark.parametrize("nested", [True, False])
def test_the_largest_request_is_read_however_it_is_written(nested, indent):
    """Lost otherwise: a client's honest request, to the limit on values."""
    images = np.random.default_rng(0).integers(0, 256, (MAX_IMAGES, 1, 28, 28), np.uint8)
    data = images.tolist() if nested else images.ravel().tolist()
    document = infer(shape=list(images.shape), data=data) | {"id": ",[{" * 100}
    found = read_request(json.dumps(document, indent=indent).encode(), None, MAX_IMAGES, FASHION_MNIST)

    np.testing.assert_array_equal(found.pixels, images)
    assert found.identity == document["id"]


def test_one_image_more_than_is_allowed_is_told_so():
    data = [0] * 784 * (MAX_IMAGES + 1)
    with pytest.raises(HTTPException) as raised:
        read_request(json.dumps(infer(shape=[513, 1, 28, 28], data=data)).encode(), None, MAX_IMAGES, FASHION_MNIST)

    assert raised.value.detail.startswith("at most 512 images are taken at once, not 513")


def test_pictures_in_many_parts_or_large_tiles_are_read_if_they_are_honest(test_images):
    """Lost otherwise: files of careful or thrifty writers."""
    image = test_images[0]
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in image))
    expected = to_pixels(Image.fromarray(image)).array
    drips = [png_chunk(b"IDAT", rows[at : at + 1]) for at in range(len(rows))]
    np.testing.assert_array_equal(to_pixels(png(28, 28, 0, *drips)).array, expected)

    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=100, progressive=True, comment=b"x" * 60_000)
    segments = b"\xff\xe5\xff\xff" + b"\xff\xda" * 32_766 + b"\xff"  # a preview, say, in which there are scans
    jpeg = b"\xff\xd8" + segments * 20 + file.getvalue()[2:] + b"\xff\xda" * 1000
    np.testing.assert_allclose(to_pixels(jpeg).array.astype(int), expected, atol=12)

    for side in (32, 64):
        tiled = tiff((322, 3, 1, side), (323, 4, 1, side))
        assert not to_pixels(tiled, invert="no").array.any()
    with pytest.raises(ImageError, match="its tiles are 40000x40000, the picture is 28x28"):
        to_pixels(tiff((322, 3, 1, 40_000), (323, 3, 1, 40_000)))

    file = io.BytesIO()
    Image.fromarray(image).save(file, "GIF", comment=b"x" * 1_000_000)
    np.testing.assert_array_equal(to_pixels(file.getvalue()).array, expected)
