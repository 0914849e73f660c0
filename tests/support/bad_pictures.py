"""A folder of over 200 pictures that must be refused, without choking on one, and of odd ones that must be read."""

import io
import os
import socket
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from support.pictures import EVERY, bombs, deep_files, encoded, png_chunk, transparent_files

from runtime.imaging.load import FORMATS

Grey = npt.NDArray[np.uint8]
DAMAGE = {"truncated", "corrupt", "not_an_image"}
CUTS = 12  # of each format


def lay_out(folder: Path, image: Grey) -> tuple[dict[bytes, set[str]], list[bytes]]:
    """Write everything into the folder, of a data set image: uint8 (28, 28).

    Returns:
        The path of each bad picture with the kinds of error it may have, and the paths of the good ones.
    """
    bad: dict[bytes, set[str]] = {}
    for encoded_name, (data, kinds) in bad_files(image).items():
        path = os.fsencode(folder / "bad ") + encoded_name
        with open(path, "wb") as file:
            file.write(data)
        bad[path] = kinds
    for name, kinds in bad_places(folder).items():
        bad[os.fsencode(folder / name)] = kinds
    good = []
    for title, data in odd_but_good(image).items():
        (folder / title).write_bytes(data)
        good.append(os.fsencode(folder / title))
    return bad, good


def bad_files(image: Grey) -> dict[bytes, tuple[bytes, set[str]]]:
    """Contents that are no whole picture, by file name, with the kinds of error that each may have."""
    garment = Image.fromarray(image)
    whole = {name: encoded(garment.resize((60, 50)), **how) for name, how in EVERY.items()}
    found: dict[str, tuple[bytes, set[str]]] = {}
    for name, data in {**whole, **deep_and_strange(image)}.items():
        for cut in np.linspace(1, 0.8 * len(data), CUTS).astype(int):
            found[f"{name} cut at {cut}.{name}"] = data[:cut], DAMAGE
        found[f"{name} with another beginning.{name}"] = data.translate(None, data[:1]), DAMAGE
    for at in (*range(33), *range(37, 60)):  # all but the length of the data, without which Pillow gets by
        flipped = bytearray(whole["png"])
        flipped[at] ^= 1 << at % 8
        found[f"bit flipped at {at}.png"] = bytes(flipped), {*DAMAGE, "too_large", "empty"}
    for name, data in foreign(garment).items():
        found[f"a sound file of {name}.png"] = data, {"not_an_image"}
    for name, data in without_pixels(whole).items():
        found[f"no pixels.{name}"] = data, {"empty", "corrupt", "not_an_image", "truncated"}
    for name, data in bombs().items():
        found[f"bomb.{name}"] = data, {"too_large", "corrupt"}
    for level in (np.nan, np.inf, -1.0, 1e9):
        levels = np.full((28, 28), level, np.float32)
        found[f"all {level}.tiff"] = encoded(Image.fromarray(levels), format="TIFF"), {"corrupt"}
    found |= {
        "nothing.png": (b"", {"empty"}),
        "text.png": (b"not a picture", {"not_an_image"}),
        "page.jpg": (b"<!doctype html><title>404 Not Found</title>", {"not_an_image"}),
        "zeros.png": (bytes(5000), {"not_an_image"}),
        "pointer.png": (b"version https://git-lfs.github.com/spec/v1\noid sha256:", {"not_an_image"}),
        "two\nlines.png": (b"x", {"not_an_image"}),
        "a\ttab and \x1b[31m red.png": (b"x", {"not_an_image"}),
        "-r": (b"x", {"not_an_image"}),
        "[a-z]*?.png": (b"x", {"not_an_image"}),
        "名前 👕.png": (b"x", {"not_an_image"}),
    }
    named = {os.fsencode(name): content for name, content in found.items()}
    return {**named, b"not \xff\xfe unicode.png": (b"x", {"not_an_image"})}


def deep_and_strange(image: Grey) -> dict[str, bytes]:
    """Sound files of unusual kinds, to be cut."""
    cmyk = Image.fromarray(image).convert("RGB").convert("CMYK")
    frames = [Image.fromarray(np.roll(image, step)) for step in range(3)]
    animated: dict[str, Any] = {"save_all": True, "append_images": frames[1:]}
    return {
        "cmyk.jpg": encoded(cmyk, format="JPEG"),
        "16-bit.png": deep_files(image)["16-bit PNG"],
        "transparent.png": transparent_files(image)["palette PNG with an alpha for each entry"],
    } | {f"animated.{kind}": encoded(frames[0], format=kind, **animated)[:700] for kind in ("GIF", "WEBP")}


def foreign(garment: Image.Image) -> dict[str, bytes]:
    """A sound file of every format that Pillow writes and this runtime does not read."""
    Image.init()
    found = {}
    for name in sorted(set(Image.SAVE) - set(FORMATS) - {"MPO"}):  # an MPO is a JPEG
        for mode in ("RGB", "1", "P"):
            file = io.BytesIO()
            try:
                with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # formats on their way out
                    garment.convert(mode).save(file, name)
            except (OSError, ValueError, KeyError):  # not this mode, or only with a program that is not here
                continue
            found[name] = file.getvalue()
            break
    return found


def without_pixels(whole: dict[str, bytes]) -> dict[str, bytes]:
    """Headers that say 0 by 0."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 0, 0, 8, 0, 0, 0, 0))
    end = png_chunk(b"IDAT", zlib.compress(b"")) + png_chunk(b"IEND", b"")
    bmp = whole["bmp"][:18] + struct.pack("<ii", 0, 0) + whole["bmp"][26:]
    return {"bmp": bmp, "png": b"\x89PNG\r\n\x1a\n" + header + end, "ppm": b"P5\n0 0\n255\n"}


def bad_places(folder: Path) -> dict[str, set[str]]:
    """Names at which there is no regular file that can be read; made where they have to be."""
    os.mkfifo(folder / "pipe.png")
    (folder / "folder.png").mkdir()
    (folder / "loop.png").symlink_to("pool.png")
    (folder / "pool.png").symlink_to("loop.png")
    (folder / "itself.png").symlink_to("itself.png")
    (folder / "gone.png").symlink_to("nowhere.png")
    (folder / "zero.png").symlink_to("/dev/zero")
    (folder / "null.png").symlink_to(os.devnull)
    before = Path.cwd()
    os.chdir(folder)  # a socket's address must be short
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("socket.png")
    finally:
        os.chdir(before)
    (folder / "plain").touch()
    found = {
        **{name: {"not_a_file"} for name in ("pipe.png", "folder.png", "zero.png", "null.png", "socket.png")},
        **{name: {"unreadable"} for name in ("loop.png", "pool.png", "itself.png", "x" * 300 + ".png")},
        **{name: {"missing"} for name in ("gone.png", "missing.png", "plain/picture.png")},
    }
    if os.geteuid():  # root may read everything
        (folder / "secret.png").write_bytes(b"x")
        (folder / "secret.png").chmod(0)
        found["secret.png"] = {"unreadable"}
    return found


def odd_but_good(image: Grey) -> dict[str, bytes]:
    """Pictures that are read, however odd they are, by file name."""
    garment = Image.fromarray(image)
    frames = [Image.fromarray(np.roll(image, step)) for step in range(3)]
    found = {f"{name}.{name}": encoded(garment, **how) for name, how in EVERY.items()}
    found |= {
        f"{name.replace('/', ' ')}.png": data
        for name, data in {**deep_files(image), **transparent_files(image)}.items()
    }
    found |= {
        f"animated.{kind}": encoded(frames[0], format=kind, save_all=True, append_images=frames[1:])
        for kind in ("GIF", "PNG", "WEBP", "TIFF")
    }
    found |= {
        f"{width} by {height}.png": encoded(Image.new("L", (width, height), 200), format="PNG")
        for width, height in ((1, 1), (1, 28), (28, 1), (1, 500), (60_000, 1), (1, 60_000))
    }
    return found | {
        "cmyk.jpg": encoded(garment.convert("RGB").convert("CMYK"), format="JPEG"),
        "a png.jpg": encoded(garment, format="PNG"),
        "no suffix": encoded(garment, format="JPEG"),
        "good\nin two lines.png": encoded(garment, format="PNG"),
        "with more after the end.png": encoded(garment, format="PNG") + b"more",
    }
