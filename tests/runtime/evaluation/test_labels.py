"""Classes are matched by name: a file with other labels gets the right figure or one sentence."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.numpy_helper
import pytest
from click.testing import Result
from PIL import Image
from support.command_line import call

from runtime import Classifier, UsageError
from runtime.datasets.fashion_mnist import LABELS
from runtime.evaluation.accuracy import measure_accuracy
from runtime.evaluation.labels import class_indices, match_labels

LENET = Path(__file__).resolve().parents[3] / "weights" / "lenet" / "model.onnx"
REVERSED = LABELS[::-1]
MIXED = tuple(LABELS[index] for index in (3, 1, 4, 0, 5, 9, 2, 6, 8, 7))
FIVE = ("Ankle boot", "Bag", "Sneaker", "Sandal", "Trouser")


def labelled(path: Path, labels: Sequence[str], *, classes: Sequence[int] | None = None) -> Path:
    """Write lenet with other labels; its output k is that of the published file's class `classes[k]`."""
    model = onnx.load(LENET)
    (prop,) = [prop for prop in model.metadata_props if prop.key == "labels"]
    prop.value = json.dumps(list(labels), ensure_ascii=False)
    for prop in [prop for prop in model.metadata_props if prop.key == "confidence"]:  # a table by class
        model.metadata_props.remove(prop)
    if classes is not None:
        last = next(node for node in reversed(model.graph.node) if node.op_type == "Gemm")
        for tensor in model.graph.initializer:
            if tensor.name in last.input:
                array = onnx.numpy_helper.to_array(tensor)
                tensor.CopyFrom(onnx.numpy_helper.from_array(_rows(array, classes), tensor.name))
        for output in model.graph.output:
            output.type.tensor_type.shape.dim[1].dim_value = len(classes)
        del model.graph.value_info[:]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


def _rows(array: npt.NDArray[Any], classes: Sequence[int]) -> npt.NDArray[Any]:
    """The classes of a matrix or a bias, along whichever axis they are."""
    picked = [index if index < 10 else 0 for index in classes]
    taken = np.take(array, picked, axis=array.shape.index(10)).copy()
    if array.ndim == 1:
        taken[[place for place, index in enumerate(classes) if index >= 10]] = -1e6  # a class that is never answered
    return taken


def places(labels: Sequence[str]) -> list[int]:
    return [LABELS.index(label) for label in labels]


def accuracy(model: Path, *arguments: object) -> Result:
    return call("runtime", "accuracy", "-m", model, "--device", "cpu", *arguments)


@pytest.fixture(scope="module")
def published(fashion_mnist_dir: Path) -> Any:
    return json.loads(accuracy(LENET, "--json").stdout)


@pytest.mark.parametrize("labels", [REVERSED, MIXED])
def test_a_file_that_has_its_classes_in_another_order_is_as_accurate_as_before(labels, tmp_path, published):
    report = json.loads(accuracy(labelled(tmp_path / "m.onnx", labels, classes=places(labels)), "--json").stdout)

    assert (report["n"], report["correct"]) == (10_000, published["correct"])
    order = places(labels)
    assert np.array_equal(report["confusion"], np.array(published["confusion"])[np.ix_(order, order)])
    assert report["labels"] == list(labels)  # a reader of the confusion needs them


def test_a_file_whose_labels_were_reversed_alone_is_as_wrong_as_its_answers(tmp_path, published):
    report = json.loads(accuracy(labelled(tmp_path / "m.onnx", REVERSED), "--json").stdout)

    # The logits are lenet's; a picture of class k is named right where lenet answers 9 - k.
    right = int(np.fliplr(np.array(published["confusion"])).trace())
    assert (report["n"], report["correct"]) == (10_000, right)
    assert report["top1"] < 0.2


def test_labels_in_another_spelling_are_the_same_labels(tmp_path, published):
    spelled = [label.upper().replace("/", " - ").replace(" BOOT", "_boot") for label in LABELS]
    report = json.loads(accuracy(labelled(tmp_path / "m.onnx", spelled), "--json").stdout)

    assert report["correct"] == published["correct"]


def test_a_file_with_more_classes_than_the_data_is_measured(tmp_path, published):
    labels, classes = ["Hat", *LABELS, "Sock"], [10, *range(10), 11]
    model = labelled(tmp_path / "m.onnx", labels, classes=classes)
    report = json.loads(accuracy(model, "--json").stdout)

    assert (report["n"], report["correct"]) == (10_000, published["correct"])
    assert np.array(report["confusion"]).shape == (12, 12)
    assert ["Sock", "0", "0", "-", "-"] in [line.split() for line in accuracy(model).stdout.splitlines()]


@pytest.mark.parametrize(
    ("labels", "missing", "foreign"),
    [
        (FIVE, "'T-shirt/top', 'Pullover', 'Dress', 'Coat', 'Shirt'", None),
        (("Handbag" if label == "Bag" else label for label in LABELS), "'Bag'", "'Handbag'"),
        (tuple("0123456789"), "'T-shirt/top', 'Trouser'", "'0', '1'"),
        (("T-shirt", *LABELS[1:]), "'T-shirt/top'", "'T-shirt'"),
    ],
)
def test_data_with_classes_that_the_file_does_not_know_are_refused_and_these_are_named(
    labels, missing, foreign, tmp_path, fashion_mnist_dir
):
    labels = tuple(labels)
    classes = places(labels) if labels == FIVE else None
    result = accuracy(labelled(tmp_path / "m.onnx", labels, classes=classes), "--json")

    assert (result.exit_code, result.stdout) == (2, "")
    sentence = result.stderr.strip().splitlines()[-1]
    assert f"has no label for the classes {missing}" in sentence
    assert "Fashion-MNIST" in sentence
    assert "runtime accuracy DIR" in sentence
    assert (foreign is None) == ("its labels" not in sentence)
    assert foreign is None or foreign in sentence


def test_a_file_of_five_classes_is_measured_on_pictures_of_its_classes(tmp_path, test_images, test_labels):
    model = labelled(tmp_path / "m.onnx", FIVE, classes=places(FIVE))
    chosen = [index for index in range(60) if LABELS[test_labels[index]] in FIVE]
    for index in chosen:
        path = tmp_path / "mine" / LABELS[test_labels[index]].lower() / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(test_images[index]).save(path)
    report = json.loads(accuracy(model, tmp_path / "mine", "--json", "-o", tmp_path / "c.png").stdout)
    with Classifier(LENET, device="cpu") as classifier:
        logits = classifier.logits(test_images[chosen, None])[:, places(FIVE)]

    expected = [
        FIVE[answer] == LABELS[test_labels[index]] for answer, index in zip(logits.argmax(1), chosen, strict=True)
    ]
    assert (report["n"], report["correct"]) == (len(chosen), sum(expected))
    assert (tmp_path / "c.png").is_file()


def test_folders_that_the_file_has_no_label_for_are_all_named(tmp_path):
    for name in ("bag", "Coat", "Dress"):
        (tmp_path / "mine" / name).mkdir(parents=True)
        Image.new("L", (28, 28)).save(tmp_path / "mine" / name / "0.png")
    result = accuracy(labelled(tmp_path / "m.onnx", FIVE, classes=places(FIVE)), tmp_path / "mine")

    assert (result.exit_code, result.stdout) == (2, "")
    assert f"the folders 'Coat', 'Dress' in {tmp_path / 'mine'} are no classes of this model" in result.stderr


def test_a_folder_called_by_a_number_that_is_two_classes_is_refused(tmp_path):
    """Folders `0` to `9` are how many exports of Fashion-MNIST look: by its order, which is not this file's."""
    (tmp_path / "mine" / "3").mkdir(parents=True)
    Image.new("L", (28, 28)).save(tmp_path / "mine" / "3" / "0.png")
    result = accuracy(labelled(tmp_path / "m.onnx", REVERSED), tmp_path / "mine")

    assert (result.exit_code, result.stdout) == (2, "")
    assert "may mean 'Dress', which is number 3 in Fashion-MNIST, or 'Shirt', which is number 3" in result.stderr


def test_a_number_that_is_a_label_is_that_label_and_not_an_index(tmp_path):
    """A classifier of digits may have them in any order; folder `9` holds nines."""
    model = labelled(tmp_path / "m.onnx", tuple("9876543210"))
    (tmp_path / "mine" / "9").mkdir(parents=True)
    Image.new("L", (28, 28)).save(tmp_path / "mine" / "9" / "0.png")
    report = json.loads(accuracy(model, tmp_path / "mine", "--json").stdout)

    assert sum(report["confusion"][0]) == 1


@pytest.mark.parametrize(
    ("names", "labels", "expected"),
    [
        (["ankle-boot", "TROUSER"], LABELS, [9, 1]),
        (["C", "C++", "c"], ["C++", "C"], [1, 0, None]),  # "c" may be either: none is guessed
        (["+", "-", "?"], ["-", "+"], [1, 0, None]),
        (["Mun\u0303eca"], ["Mu\u00f1eca", "x"], [0]),  # as macOS spells the names of folders
        (["कि", "का"], ["का", "कि"], [1, 0]),
        (["STRASSE"], ["Straße", "x"], [0]),
    ],
)
def test_a_name_means_one_label_or_none(names, labels, expected):
    assert match_labels(names, labels) == expected


def test_two_classes_of_the_data_are_never_taken_for_one():
    with pytest.raises(UsageError, match="no label for the classes 'Bag', 'bag' of mine"):
        class_indices(["Bag", "bag"], ["BAG", "Coat"], data="mine", model="the file")


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (np.array([0, -1]), "from 0 to 9, found -1 to 0"),  # numpy would take -1 for the last class
        (np.array([0, 10]), "found 0 to 10"),
        (np.array([[0], [1]]), r"found int64 \(2, 1\)"),  # numpy would count each picture twice
        (np.array([0.0, 1.0]), "found float64"),
        (np.array([1]), "as many labels"),
    ],
)
def test_labels_that_are_no_classes_are_refused_before_they_give_a_figure(labels, sentence):
    with Classifier(LENET, device="cpu") as classifier, pytest.raises(UsageError, match=sentence):
        measure_accuracy(classifier, np.zeros((2, 1, 28, 28), np.uint8), labels)


def drawn(labels: Sequence[str]) -> Image.Image:
    from runtime.evaluation.accuracy import AccuracyReport
    from runtime.evaluation.confusion import draw_confusion

    counts = np.eye(len(labels), dtype=np.int64)
    return draw_confusion(AccuracyReport("mine", tuple(labels), counts, "cpu", [], 1.0))


def test_the_confusion_of_two_classes_has_room_for_its_title():
    picture = np.asarray(drawn(["a", "b"]))

    assert (picture[:36] != 255).any(), "there is a title"
    assert (picture[:, -10:] == 255).all()


def test_a_confusion_of_too_many_classes_is_refused_before_anything_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr("runtime.evaluation.confusion.MOST_CLASSES", 9)
    monkeypatch.setattr("runtime.cli.accuracy.measured", lambda *_: pytest.fail("it was measured"))
    result = accuracy(LENET, "-o", tmp_path / "confusion.png")

    assert (result.exit_code, result.stdout) == (2, "")
    assert "a confusion matrix of 10 classes is not drawn, only of up to 9" in result.stderr
