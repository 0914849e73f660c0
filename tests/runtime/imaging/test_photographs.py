"""Test images made into photographs are answered as they are themselves; and `--show` writes what the network saw."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.command_line import call
from support.pictures import Grey, photograph

from runtime import Classifier
from runtime.imaging.contact_sheet import COLUMNS, GAP
from runtime.imaging.preprocess import to_pixels

LENET = Path(__file__).resolve().parents[3] / "weights" / "lenet"


def test_500_images_made_into_photographs_get_the_class_that_they_get_themselves(
    test_images, test_labels, record_property
):
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


def test_show_writes_exactly_what_the_network_saw(shoe, tmp_path):
    seen = tmp_path / "out" / "seen.png"
    result = call("runtime", "predict", shoe, "--show", seen, "--json", "--device", "cpu")

    assert result.exit_code == 0
    assert json.loads(result.stdout)[0]["label"] == "Ankle boot"
    assert f"wrote what the network saw of 1 picture(s) to {seen}" in result.stderr
    with Image.open(seen) as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", "L", (28, 28))
        np.testing.assert_array_equal(np.asarray(picture), to_pixels(shoe).array)


def test_show_puts_many_pictures_on_one_sheet_and_leaves_the_unreadable_out(shoe, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    seen = tmp_path / "seen.png"
    arguments = ["predict", *[str(shoe)] * 20, str(bad), "--show", str(seen), "--device", "cpu", "-b", "4"]
    result = call("runtime", *arguments)

    assert result.exit_code == 1
    with Image.open(seen) as picture:
        levels = np.asarray(picture)
    assert levels.shape == (2 * (28 + GAP) + GAP, COLUMNS * (28 + GAP) + GAP)
    np.testing.assert_array_equal(levels[GAP : GAP + 28, GAP : GAP + 28], to_pixels(shoe).array)
    assert set(levels[32:, 4 * 30 + GAP :].ravel()) == {128}  # nothing after the twentieth


def test_show_of_nothing_writes_nothing_and_says_so(tmp_path):
    seen = tmp_path / "seen.png"
    result = call("runtime", "predict", tmp_path / "no.png", "--show", seen, "--device", "cpu")

    assert result.exit_code == 1
    assert not seen.exists()
    assert "no picture could be read" in result.stderr


def test_show_of_stdin_reads_it_once(shoe, tmp_path):
    seen = tmp_path / "seen.png"
    arguments = ["predict", "-", "--show", str(seen), "--device", "cpu"]
    result = call("runtime", *arguments, stdin=shoe.read_bytes())

    assert result.exit_code == 0
    assert "Ankle boot" in result.stdout
    assert seen.exists()
