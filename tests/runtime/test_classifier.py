"""The Classifier: its answers, in batches and alone, from every kind of source; and refusals that say why."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from PIL import Image

from runtime import Classifier, DeviceUnavailable, FashionZooError, ImageError, ModelInvalid, UsageError
from runtime.evaluation.accuracy import measure_accuracy
from runtime.model.registry import SHIPPED

WEIGHTS = Path(__file__).resolve().parents[2] / "weights"


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier(WEIGHTS / "lenet", device="cpu")


@pytest.fixture(scope="module")
def pixels(test_images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return test_images[:600, None].copy()


@pytest.mark.parametrize("model", SHIPPED)
def test_a_published_model_is_as_accurate_as_it_declares(model, test_images, test_labels):
    classifier = Classifier(WEIGHTS / model, device="cpu")
    report = measure_accuracy(classifier, test_images[:, None], test_labels)

    assert {"n": report.n, "correct": report.correct, "top1": report.top1} == classifier.metadata.fields["accuracy"]
    assert report.confusion.sum(axis=1).tolist() == [1000] * 10


def test_many_images_give_what_each_gives_alone(classifier, pixels):
    together = classifier.logits(pixels[:300])
    alone = np.concatenate([classifier.logits(image[None]) for image in pixels[:300]])

    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert classifier.logits(pixels, batch_size=7).shape == (600, 10)


def test_no_images_give_no_logits(classifier):
    assert classifier.logits(np.zeros((0, 1, 28, 28), np.uint8)).shape == (0, 10)


def test_an_array_in_any_memory_order_gives_the_same(classifier, pixels):
    expected = classifier.logits(pixels[:8])

    np.testing.assert_array_equal(classifier.logits(np.asfortranarray(pixels[:8])), expected)
    np.testing.assert_array_equal(classifier.logits(pixels[7::-1]), expected[::-1])


def test_candidates_are_sorted_and_are_the_models_probabilities(classifier, pixels):
    answer = classifier.predict(pixels[4, 0], topk=99)
    expected = classifier.probabilities(pixels[4:5])[0]

    assert len(answer.top) == 10
    assert [candidate.probability for candidate in answer.top] == sorted(expected.tolist(), reverse=True)
    assert answer.index == int(expected.argmax())
    assert (answer.label, answer.confidence) == (answer.top[0].label, answer.top[0].probability)
    assert json.loads(json.dumps(answer.as_dict()))["label"] == answer.label


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.zeros((2, 1, 28, 28), np.float32), r"found float32 \(2, 1, 28, 28\)"),
        (np.zeros((2, 28, 28), np.uint8), r"found uint8 \(2, 28, 28\)"),
        (np.zeros((2, 3, 28, 28), np.uint8), r"found uint8 \(2, 3, 28, 28\)"),
        ([[0]], "found list"),
    ],
)
def test_pixels_of_another_type_or_shape_are_refused_with_expected_and_found(classifier, array, found):
    with pytest.raises(ImageError, match=found) as failure:
        classifier.logits(array)

    assert failure.value.kind == "array"
    assert "(N, 1, 28, 28)" in str(failure.value)


@pytest.mark.parametrize("call", [{"topk": 0}, {"batch_size": 0}])
def test_counts_below_one_are_refused(classifier, pixels, call):
    with pytest.raises(UsageError, match="at least 1, not 0"):
        classifier.predict_batch([pixels[0, 0]], **call)


@pytest.mark.parametrize(
    "one",
    ["boot.png", Path("boot.png"), b"bytes", Image.new("L", (28, 28)), 3, None],
    ids=lambda one: type(one).__name__,
)
def test_one_picture_where_several_are_expected_is_said_at_once(classifier, one):
    with pytest.raises(UsageError, match=r"expected several pictures, found one .*; use predict"):
        classifier.stream(one)
    with pytest.raises(UsageError, match="use predict"):
        classifier.predict_batch(one)


def test_several_pictures_may_be_of_every_kind_at_once(classifier, pixels, tmp_path):
    path = tmp_path / "boot.png"
    Image.fromarray(pixels[0, 0]).save(path)
    mixed = [path, str(path), path.read_bytes(), Image.fromarray(pixels[0, 0]), pixels[0, 0], pixels[0]] * 5

    assert {answer.label for answer in classifier.predict_batch(mixed, 7)} == {"Ankle boot"}
    assert len(classifier.predict_batch(pixels[:40])) == 40  # an array of pictures is several, too
    assert classifier.predict_batch([]) == []


def test_closing_while_others_classify_harms_nobody(pixels):
    wrong, refused = [], []

    def work() -> None:
        try:
            while True:
                wrong.append(float(np.abs(classifier.logits(pixels[:64]) - expected).max()) > 1e-4)
        except FashionZooError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(4)]
    with Classifier("lenet", device="cpu") as classifier:
        expected = classifier.logits(pixels[:64])
        for thread in threads:
            thread.start()
        while len(wrong) < 20 and all(thread.is_alive() for thread in threads):
            time.sleep(0.01)
    for thread in threads:
        thread.join(timeout=60)

    assert not any(wrong)
    assert len(refused) == 4
    assert {"has been closed" in sentence for sentence in refused} == {True}


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cpu:1", "cuda:-1", ""])
def test_a_device_of_another_name_is_a_usage_error(name):
    with pytest.raises(UsageError, match="use auto, cpu, cuda or cuda:N"):
        Classifier("lenet", device=name)


def test_a_device_that_is_not_there_is_refused_and_auto_says_why_it_took_the_cpu():
    classifier = Classifier("lenet")
    if classifier.device != "cpu":
        pytest.skip("this machine has a GPU that works; the CUDA tests cover it")

    assert classifier.device_reason
    with pytest.raises(DeviceUnavailable) as failure:
        Classifier("lenet", device="cuda")
    assert failure.value.exit_code == 4


def broken(tmp_path: Path, change: Any) -> Path:
    model = onnx.load(WEIGHTS / "lenet" / "model.onnx")
    change(model)
    path = tmp_path / "broken.onnx"
    onnx.save(model, path)
    return path


def rename_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].name = "pixels"
    model.graph.node[0].input[0] = "pixels"


def freeze_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def drop_label(model: onnx.ModelProto) -> None:
    prop = next(prop for prop in model.metadata_props if prop.key == "labels")
    prop.value = json.dumps(json.loads(prop.value)[:-1])
    model.metadata_props.remove(next(prop for prop in model.metadata_props if prop.key == "confidence"))


def drop_metadata(model: onnx.ModelProto) -> None:
    del model.metadata_props[:]


def drop_output(model: onnx.ModelProto) -> None:
    del model.graph.output[1]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (rename_input, r"inputs should be image UINT8\[batch, 1, 28, 28\], but are pixels UINT8"),
        (freeze_batch, r"but are image UINT8\[1, 1, 28, 28\]"),
        (drop_label, r"logits FP32\[batch, 9\]"),
        (drop_metadata, "its metadata lacks format, model, labels"),
        (drop_output, r"outputs should be .*probabilities.*, but are logits FP32\[batch, 10\]"),
    ],
)
def test_a_file_that_breaks_the_contract_is_refused_with_the_difference(tmp_path, change, sentence):
    with pytest.raises(ModelInvalid, match=sentence):
        Classifier(broken(tmp_path, change), device="cpu")


@pytest.mark.parametrize("content", [b"hello", b"\x08" * 100, b"\x89PNG\r\n\x1a\n" + bytes(200)])
def test_a_file_that_is_no_model_is_refused(tmp_path, content):
    path = tmp_path / "junk.onnx"
    path.write_bytes(content)

    with pytest.raises(ModelInvalid, match=r"junk\.onnx"):
        Classifier(path, device="cpu")


@pytest.mark.parametrize(("text", "damaged"), [(b"Ankle boot", b"Ankle\xffboot"), (b"image", b"im\xffge")])
def test_a_file_whose_text_is_not_utf_8_is_refused(text, damaged, tmp_path):
    path = tmp_path / "damaged.onnx"
    path.write_bytes((WEIGHTS / "lenet" / "model.onnx").read_bytes().replace(text, damaged))

    with pytest.raises(ModelInvalid, match="holds text that is not UTF-8"):
        Classifier(path, device="cpu")


def test_a_session_that_fails_is_a_sentence_that_names_the_file(test_images):
    class Failing:
        def run(self, *_: object) -> None:
            raise RuntimeError("Non-zero status code\nindices out of bounds")

    with Classifier("lenet", device="cpu") as classifier:
        classifier._live.session = Failing()
        with pytest.raises(ModelInvalid, match=r"model\.onnx failed on 1 images: Non-zero status code indices out"):
            classifier.logits(test_images[:1, None])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"model": 3}, "expected a model's name or the path of a .onnx file, found int"),
        ({"model": b"lenet"}, "expected a model's name or the path of a .onnx file, found bytes"),
        ({"device": None}, "None is no device; use auto, cpu"),
        ({"device": 0}, "0 is no device; use auto, cpu"),
        ({"threads": "2"}, "threads must be a whole number, not '2'"),
        ({"threads": 1.0}, "threads must be a whole number, not 1.0"),
    ],
)
def test_an_argument_of_another_type_is_refused_in_a_sentence(arguments, sentence):
    with pytest.raises(UsageError) as refusal:
        Classifier(**{"model": "lenet", "device": "cpu"} | arguments)

    assert str(refusal.value).startswith(sentence)


def test_a_count_is_a_whole_number_of_any_kind(classifier, shirt):
    for wrong in (1.5, "3", [2]):
        for name in ("topk", "batch_size"):
            arguments: dict[str, Any] = {name: wrong}
            with pytest.raises(UsageError, match="must be a whole number, not "):
                classifier.predict_batch([shirt], **arguments)
        count: Any = wrong
        with pytest.raises(UsageError, match="the batch size must be a whole number"):
            classifier.logits(shirt[None, None], count)

    two: Any = np.int64(2)
    assert len(classifier.predict_batch([shirt], two, topk=two)[0].top) == 2
