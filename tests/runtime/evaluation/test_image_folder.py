"""`runtime accuracy DIR`: a folder a class, each picture counted once, and the confusion as a picture."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import Result
from PIL import Image
from support.command_line import call


def accuracy(*arguments: object) -> Result:
    return call("runtime", "accuracy", "-m", "lenet", "--device", "cpu", *arguments)


@pytest.fixture
def folder(tmp_path: Path, test_images: npt.NDArray[np.uint8], test_labels: npt.NDArray[np.uint8]) -> Path:
    """60 pictures, their folders named in several ways: by label, in another spelling, by index."""
    names = ["t-shirt_TOP", "Trouser", "pullover", "3", "Coat", "Sandal", "Shirt", "SNEAKER", "Bag", "ankle-boot"]
    for index in range(60):
        path = tmp_path / "mine" / names[test_labels[index]] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(test_images[index]).save(path)
    return tmp_path / "mine"


def test_a_folder_gives_what_the_same_images_give(folder, test_images, test_labels):
    from runtime import Classifier
    from runtime.evaluation.accuracy import measure_accuracy

    report = json.loads(accuracy(folder, "--json").stdout)
    with Classifier("lenet", device="cpu") as classifier:
        expected = measure_accuracy(classifier, test_images[:60, None], test_labels[:60])

    assert (report["n"], report["correct"]) == (60, expected.correct)
    assert report["confusion"] == expected.confusion.tolist()


def test_a_folder_that_is_no_class_is_a_sentence(folder):
    (folder / "Hats").mkdir()
    result = accuracy(folder)

    assert (result.exit_code, result.stdout) == (2, "")
    assert "Hats is no class of this model; expected one of 'T-shirt/top'" in result.stderr


def test_a_folder_without_pictures_is_a_sentence(tmp_path):
    (tmp_path / "Bag").mkdir()
    result = accuracy(tmp_path)

    assert (result.exit_code, result.stdout) == (2, "")
    assert "DIR/<label>/*.png" in result.stderr


def test_a_bad_picture_is_named_and_does_not_count(folder):
    (folder / "Bag" / "bad.png").write_bytes(b"no picture")
    result = accuracy(folder, "--json")

    assert (result.exit_code, json.loads(result.stdout)["n"]) == (1, 60)
    assert "bad.png" in result.stderr
    assert "1 of 61 pictures could not be read" in result.stderr


def test_the_confusion_is_drawn_with_what_is_right_in_blue(folder, tmp_path):
    result = accuracy(folder, "-o", tmp_path / "confusion.png")
    picture = Image.open(tmp_path / "confusion.png")

    assert result.exit_code == 0, result.stderr
    assert picture.mode == "RGB"
    assert min(picture.size) > 500
    blue = np.asarray(picture)[..., 2].astype(int) - np.asarray(picture)[..., 0]
    assert (blue > 60).sum() > 10_000


def test_a_disk_that_is_full_costs_the_picture_and_not_the_measurement(folder, tmp_path, monkeypatch):
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "confusion.png").write_bytes(b"old")
    monkeypatch.setattr("os.fsync", full)
    result = accuracy(folder, "--json", "-o", tmp_path / "confusion.png")

    assert (result.exit_code, json.loads(result.stdout)["n"]) == (1, 60)
    assert result.stderr.strip() == f"Error: {tmp_path / 'confusion.png'}: No space left on device"
    assert (tmp_path / "confusion.png").read_bytes() == b"old"


def test_a_place_that_takes_no_picture_is_told_before_anything_is_measured(folder, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr("runtime.cli.accuracy.measured", lambda *_: pytest.fail("it was measured"))
    result = accuracy(folder, "-o", tmp_path / "file" / "confusion.png")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: {tmp_path / 'file' / 'confusion.png'}: ")
