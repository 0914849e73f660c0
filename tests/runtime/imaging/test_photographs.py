"""Test images made into photographs are answered as they are themselves; and `--show` writes what the network saw."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner
from PIL import Image

from runtime import Classifier
from runtime.cli import runtime
from runtime.imaging.contact_sheet import COLUMNS, GAP
from runtime.imaging.preprocess import to_pixels

LENET = Path(__file__).resolve().parents[3] / "weights" / "lenet"
Grey = npt.NDArray[np.uint8]
# EXIF orientation -> how a camera that was turned so stores an upright picture.
STORED = {1: None, 3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}


def photograph(image: Grey, rng: np.random.Generator) -> bytes:
    """Enlarged, in colour, dark on a light page and off its centre, JPEG, and stored as a turned camera does."""
    side = int(rng.integers(160, 400))
    garment = Image.fromarray(255 - image).resize((side, side), Image.Resampling.BICUBIC)
    width, height = (side + rng.integers(10, 300, 2)).tolist()
    page = Image.new("L", (width, height), 255)
    page.paste(garment, tuple(rng.integers(0, (width - side + 1, height - side + 1)).tolist()))
    tint = rng.uniform(0.9, 1.0, 3)
    colours = Image.merge("RGB", [page.point([int(level * share) for level in range(256)]) for share in tint])
    orientation = int(rng.choice(list(STORED)))
    turn = STORED[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = io.BytesIO()
    (colours if turn is None else colours.transpose(turn)).save(content, "JPEG", quality=85, exif=exif)
    return content.getvalue()


def test_500_images_made_into_photographs_get_the_class_that_they_get_themselves(
    test_images: Grey, test_labels: Grey, record_property: Callable[[str, object], None]
) -> None:
    rng = np.random.default_rng(7)
    chosen = rng.choice(len(test_images), 500, replace=False)
    with Classifier(LENET, device="cpu") as classifier:
        plain = classifier.predict_batch([test_images[index] for index in chosen])
        found = classifier.predict_batch([photograph(test_images[index], rng) for index in chosen])
    agree = float(np.mean([a.index == b.index for a, b in zip(plain, found, strict=True)]))
    right = float(np.mean([answer.index == label for answer, label in zip(found, test_labels[chosen], strict=True)]))
    record_property("agreement", agree)
    record_property("accuracy", right)

    assert all(answer.inverted for answer in found)
    # Measured: 0.960 agree (lenet-modern: 0.970), and 0.898 are right, of 0.904 before.
    assert agree > 0.94, (agree, right)
    assert right > 0.88, (agree, right)


@pytest.fixture
def shoe(test_images: Grey, tmp_path: Path) -> Path:
    path = tmp_path / "shoe.jpg"
    path.write_bytes(photograph(test_images[0], np.random.default_rng(0)))
    return path


def test_show_writes_exactly_what_the_network_saw(shoe: Path, tmp_path: Path) -> None:
    seen = tmp_path / "out" / "seen.png"
    result = CliRunner().invoke(runtime, ["predict", str(shoe), "--show", str(seen), "--json", "--device", "cpu"])

    assert result.exit_code == 0
    assert json.loads(result.stdout)[0]["label"] == "Ankle boot"
    assert f"wrote what the network saw of 1 picture(s) to {seen}" in result.stderr
    with Image.open(seen) as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", "L", (28, 28))
        np.testing.assert_array_equal(np.asarray(picture), to_pixels(shoe).array)


def test_show_puts_many_pictures_on_one_sheet_and_leaves_the_unreadable_out(shoe: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    seen = tmp_path / "seen.png"
    arguments = ["predict", *[str(shoe)] * 20, str(bad), "--show", str(seen), "--device", "cpu", "-b", "4"]
    result = CliRunner().invoke(runtime, arguments)

    assert result.exit_code == 1
    with Image.open(seen) as picture:
        levels = np.asarray(picture)
    assert levels.shape == (2 * (28 + GAP) + GAP, COLUMNS * (28 + GAP) + GAP)
    np.testing.assert_array_equal(levels[GAP : GAP + 28, GAP : GAP + 28], to_pixels(shoe).array)
    assert set(levels[32:, 4 * 30 + GAP :].ravel()) == {128}  # nothing after the twentieth


def test_show_of_nothing_writes_nothing_and_says_so(tmp_path: Path) -> None:
    seen = tmp_path / "seen.png"
    result = CliRunner().invoke(runtime, ["predict", str(tmp_path / "no.png"), "--show", str(seen), "--device", "cpu"])

    assert result.exit_code == 1
    assert not seen.exists()
    assert "no picture could be read" in result.stderr


def test_show_of_stdin_reads_it_once(shoe: Path, tmp_path: Path) -> None:
    seen = tmp_path / "seen.png"
    arguments = ["predict", "-", "--show", str(seen), "--device", "cpu"]
    result = CliRunner().invoke(runtime, arguments, input=shoe.read_bytes())

    assert result.exit_code == 0
    assert "Ankle boot" in result.stdout
    assert seen.exists()
