"""The web layout's way from decoded pictures to a network's input, in Node: on a plain background, the runtime's."""

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from runtime import InputSpec
from runtime.imaging.photo import to_levels
from runtime.imaging.preprocess import to_pixels

BROWSER = Path(__file__).resolve().parents[3] / "export" / "deploy" / "browser"
IMAGES_JS, PHOTO_JS = BROWSER / "images.js", BROWSER / "photo.js"


def pictures(images: npt.NDArray[np.uint8]) -> Iterator[npt.NDArray[np.uint8]]:
    """Data set images as they are, enlarged, on a page of one level, and reduced to 28x28 on it."""
    rng = np.random.default_rng(0)
    for image in images:
        garment = Image.fromarray(image)
        yield image
        yield 255 - image
        yield np.asarray(garment.resize((int(rng.integers(20, 600)),) * 2, Image.Resampling.BICUBIC))
        sheet = Image.new(
            "L", (int(rng.integers(150, 1000)), int(rng.integers(150, 1000))), int(rng.integers(200, 256))
        )
        sheet.paste(Image.fromarray(255 - image).resize((120, 120)), (int(rng.integers(30)), int(rng.integers(30))))
        yield np.asarray(sheet)
        yield np.rint(rng.integers(190, 250) * (1 - image / 255)).astype(np.uint8)


def prepared(given: list[npt.NDArray[np.uint8]], tmp_path: Path) -> list[dict[str, Any]]:
    """What the JavaScript makes of grey pictures."""
    node = shutil.which("node") or pytest.skip("Node.js is not on the PATH")
    program = tmp_path / "prepare.mjs"
    program.write_text(
        f"""import {{ toPixels }} from {json.dumps(IMAGES_JS.as_uri())};
        import {{ readFileSync }} from "node:fs";
        const prepare = ({{ levels, width, height }}) => {{
            const found = toPixels({{ levels: Buffer.from(levels, "base64"), width, height }});
            return {{ ...found, array: Array.from(found.array) }};
        }};
        console.log(JSON.stringify(JSON.parse(readFileSync(0)).map(prepare)));"""
    )
    asked = [
        {"levels": base64.b64encode(p.tobytes()).decode(), "width": p.shape[1], "height": p.shape[0]} for p in given
    ]
    command = [node, "--no-warnings", program]  # the page's modules are .js files outside any npm package
    done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, timeout=120, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_the_javascript_that_prepares_pictures_computes_what_the_runtime_computes(test_images, tmp_path):
    given = [np.ascontiguousarray(picture) for picture in pictures(test_images[:15])]
    differences = []
    for picture, found in zip(given, prepared(given, tmp_path), strict=True):
        expected = to_pixels(picture)
        assert found["inverted"] == expected.inverted, picture.shape
        differences.append(np.abs(np.reshape(found["array"], (28, 28)) - expected.array.astype(int)).mean())
        if expected.fit == "exact":
            assert differences[-1] == 0
    # The runtime finds a pale or thin part of a garment that is under the fixed threshold here, and so another box.
    assert np.mean(np.array(differences) < 1) > 0.8, differences


def test_the_javascript_warns_where_the_runtime_does(test_images, tmp_path):
    """Lost otherwise: a wrong answer from the page is the first that is heard of a picture that it cannot read."""
    rng = np.random.default_rng(0)
    sheet = np.full((300, 200), 250, np.uint8)
    sheet[60:172, 40:152] = np.kron(255 - test_images[0], np.ones((4, 4), np.uint8))
    given = {
        "plain": sheet,
        "pale": (250 - (250 - sheet.astype(int)) // 8).astype(np.uint8),
        "flat": np.full((90, 120), 200, np.uint8),
        "noise": rng.integers(0, 256, (120, 90), dtype=np.uint8),
        "halves": np.where(np.arange(150) < 75, 30, 220).astype(np.uint8).repeat(100).reshape(150, 100),
    }
    found = dict(zip(given, prepared(list(given.values()), tmp_path), strict=True))

    assert {name: each["warnings"] for name, each in found.items()} == {
        name: list(to_pixels(picture).warnings) for name, picture in given.items()
    }
    assert [bool(each["warnings"]) for each in found.values()] == [False, True, True, True, True]


def test_the_javascript_that_prepares_photographs_computes_what_the_runtime_computes(test_images, tmp_path):
    """Lost otherwise: the accuracy that was measured here, in the browser."""
    node = shutil.which("node") or pytest.skip("Node.js is not on the PATH")
    rng = np.random.default_rng(3)
    specs = [
        InputSpec.photo(64),
        InputSpec.photo((48, 33), resize=57, interpolation="bicubic"),
        InputSpec.photo(30, channels=1),
        InputSpec.photo((40, 51), resize="stretch"),
    ]
    asked, expected = [], []
    for index in range(18):
        colours = Image.fromarray(test_images[index : index + 3].transpose(1, 2, 0).copy())
        picture = colours.resize(tuple(rng.integers(3, 400, 2).tolist()), Image.Resampling.BICUBIC)
        spec = specs[index % len(specs)]
        rgba = base64.b64encode(picture.convert("RGBA").tobytes()).decode()
        asked.append({"rgba": rgba, "width": picture.width, "height": picture.height, "input": spec.as_dict()})
        expected.append(to_levels(picture, spec).reshape(-1))
    program = tmp_path / "prepare.mjs"
    program.write_text(
        f"""import {{ toPhoto }} from {json.dumps(PHOTO_JS.as_uri())};
        import {{ readFileSync }} from "node:fs";
        const prepare = ({{ rgba, width, height, input }}) =>
            Array.from(toPhoto({{ rgba: Buffer.from(rgba, "base64"), width, height }}, input));
        console.log(JSON.stringify(JSON.parse(readFileSync(0)).map(prepare)));"""
    )
    command = [node, "--no-warnings", program]
    done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, timeout=120, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    differences = [
        np.abs(np.subtract(found, right, dtype=int))
        for found, right in zip(json.loads(done.stdout), expected, strict=True)
    ]
    # Pillow resizes rows or columns first, whichever is less work; the other order rounds differently, by a level.
    assert max(difference.max() for difference in differences) <= 2
    assert np.mean([not difference.any() for difference in differences]) > 0.5
