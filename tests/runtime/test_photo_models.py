"""Files of classifiers of photographs: pictures in, the file's own labels out, by every way that the runtime has."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx.numpy_helper
import pytest
from click.testing import Result
from PIL import Image
from support.command_line import call
from support.photo_models import COLOURS, colour_model, paint, random_model
from support.pictures import encoded
from support.running_server import RunningServer, require_serve

from runtime import Classifier, ImageError, InputSpec, UsageError
from runtime.evaluation.golden import FOLDER
from runtime.imaging.contact_sheet import GAP
from runtime.imaging.photo import to_levels
from runtime.model.metadata import LOGITS, PROBABILITIES
from runtime.prediction import most_probable

SPECS = {
    "colours": InputSpec.photo(32),
    "floats": InputSpec.photo(32, datatype="FP32", range=(-1, 1)),
    "thousand": InputSpec.photo((48, 64), resize=70, interpolation="bicubic"),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    found = {name: colour_model(folder / f"{name}.onnx", SPECS[name]) for name in ("colours", "floats")}
    return found | {"thousand": random_model(folder / "thousand.onnx", SPECS["thousand"], 1000)}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two pictures of each colour, of different sizes and formats, in folders of their labels."""
    for colour in COLOURS:
        (tmp_path / "photos" / colour).mkdir(parents=True)
        paint(colour, (300, 200)).save(tmp_path / "photos" / colour / "large.jpg")
        paint(colour, (9, 14)).save(tmp_path / "photos" / colour / "small.png")
    return tmp_path / "photos"


def run(command: str, model: Path, *arguments: object) -> Result:
    return call("runtime", command, "-m", model, "--device", "cpu", *arguments)


@pytest.mark.parametrize("name", SPECS)
def test_files_arrays_and_the_very_pixels_get_one_answer(models, photos, name):
    spec = SPECS[name]
    for path in sorted(photos.rglob("*.*")):
        with Classifier(models[name], device="cpu") as classifier, Image.open(path) as picture:
            levels = to_levels(path, spec)[None]
            expected = classifier.probabilities(spec.from_levels(levels))[0]
            answers = classifier.predict_batch([path, path.read_bytes(), picture, np.asarray(picture)], topk=1000)

        for answer in answers:
            by_index = sorted(answer.top, key=lambda candidate: candidate.index)
            np.testing.assert_allclose([each.probability for each in by_index], expected, rtol=1e-5, atol=1e-7)
            assert (len(answer.top), answer.inverted) == (len(expected), False)
            if name != "thousand":
                assert answer.label == path.parent.name


def test_arrays_are_checked_by_the_files_own_input(models):
    with Classifier(models["floats"], device="cpu") as classifier:
        assert str(classifier.input) == "float32 (N, 3, 32, 32)"
        with pytest.raises(ImageError, match=r"expected float32 \(N, 3, 32, 32\), found uint8 \(1, 1, 28, 28\)"):
            classifier.logits(np.zeros((1, 1, 28, 28), np.uint8))
        with pytest.raises(ImageError, match=r"expected values from -1\.0 to 1\.0, found 0\.0 to 255\.0"):
            classifier.logits(np.full((1, 3, 32, 32), 255, np.float32) * (np.arange(32) > 0).astype(np.float32))


def test_options_of_garments_are_refused_in_a_sentence(models, photos):
    with Classifier(models["colours"], device="cpu") as classifier:
        for options in ({"fit": "auto"}, {"invert": "yes"}, {"fit": "exact", "invert": "no"}):
            with pytest.raises(UsageError, match=r"this model takes photos .* there is no (fit|invert)"):
                classifier.predict(photos / "red" / "large.jpg", **options)  # type: ignore[arg-type]
    result = run("predict", models["colours"], photos / "red" / "large.jpg", "--fit", "exact")

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines()[-1].startswith("Error: this model takes photos")


def test_predict_and_its_contact_sheet(models, photos, tmp_path):
    sheet = tmp_path / "sheet.png"
    result = run("predict", models["colours"], photos, "-r", "--json", "--show", sheet)
    answers = json.loads(result.stdout)

    assert result.exit_code == 0, result.stderr
    assert [answer["label"] for answer in answers] == [Path(answer["source"]).parent.name for answer in answers]
    assert len(answers) == 6
    with Image.open(sheet) as picture:
        assert (picture.mode, picture.size) == ("RGB", (6 * (32 + GAP) + GAP, 32 + 2 * GAP))
        levels = np.asarray(picture)
    first = to_levels(answers[0]["source"], SPECS["colours"])
    np.testing.assert_array_equal(levels[GAP : GAP + 32, GAP : GAP + 32].transpose(2, 0, 1), first)


def test_accuracy_is_measured_on_folders_and_not_on_fashion_mnist(models, photos):
    report = json.loads(run("accuracy", models["floats"], photos, "--json").stdout)
    refused = run("accuracy", models["colours"])

    assert (report["n"], report["correct"], report["labels"]) == (6, 6, list(COLOURS))
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr == (
        "Error: the model 'colours' takes images (3, 32, 32), and those of Fashion-MNIST are (1, 28, 28); measure it "
        "on pictures of its own classes: runtime accuracy DIR\n"
    )


def test_only_classes_that_have_pictures_are_listed_of_a_thousand(models, tmp_path):
    (tmp_path / "thing 7").mkdir()
    paint("red").save(tmp_path / "thing 7" / "a.png")
    lines = run("accuracy", models["thousand"], tmp_path).stdout.splitlines()

    assert "thing 7 " in "\n".join(lines)
    assert len(lines) < 10


@pytest.mark.parametrize("name", ["floats", "thousand"])
def test_parity_compares_the_golden_answers_of_any_input(models, name, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(models[name].read_bytes())
    spec = SPECS[name]
    images = spec.structured()
    with Classifier(path, device="cpu") as classifier:
        outputs = dict(zip((LOGITS, PROBABILITIES), classifier.outputs(images), strict=True))
    tensors = [("input_0", "image", images), *((f"output_{i}", *pair) for i, pair in enumerate(outputs.items()))]
    (tmp_path / FOLDER).mkdir()
    for file, tensor, values in tensors:
        golden = onnx.numpy_helper.from_array(values, tensor)
        (tmp_path / FOLDER / f"{file}.pb").write_bytes(golden.SerializeToString())
    measures = {output: {"tolerance": 1e-5, "noise_floor": 1e-6} for output in outputs}
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    report = {"conditions": {"onnx_sha256": digest}, "checks": [{"name": "parity", "measures": measures}]}
    (tmp_path / "verification.json").write_text(json.dumps(report))
    result = run("parity", path, "--json")

    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["images"] == len(images)
    (tmp_path / FOLDER / "input_0.pb").write_bytes(
        onnx.numpy_helper.from_array(spec.random(len(images)), "image").SerializeToString()
    )
    assert run("parity", path).exit_code == 3


def test_bench_and_info_take_the_files_input(models):
    bench = run("bench", models["floats"], "-b", "3", "--min-runs", "2", "--min-seconds", "0", "--json")
    info = json.loads(run("info", models["thousand"], "--json").stdout)

    assert bench.exit_code == 0, bench.stderr
    assert json.loads(bench.stdout)["batches"][0]["batch_size"] == 3
    assert info["inputs"] == ["image UINT8[batch, 3, 48, 64]"]
    assert info["outputs"][1] == "probabilities FP32[batch, 1000]"
    assert len(info["labels"]) == 1000
    assert len(run("info", models["thousand"]).stdout) < 3000


@pytest.mark.parametrize("topk", [1, 5, 64, 999, 1000, 5000])
def test_the_top_of_a_thousand_is_that_of_a_stable_sort(topk):
    row = np.random.default_rng(0).integers(0, 300, 1000).astype(np.float32) / 300  # with many ties
    unknown = np.full(1000, np.nan, np.float32)
    found, of_no_number = most_probable([str(index) for index in range(1000)], np.stack([row, unknown]), topk)

    assert [each.index for each in found] == np.argsort(-row, kind="stable")[:topk].tolist()
    assert [each.probability for each in found] == np.sort(row)[::-1][:topk].tolist()
    assert len(of_no_number) == min(topk, 1000)


# Over HTTP


@pytest.fixture(scope="module")
def photo_server(models: dict[str, Path]) -> Iterator[RunningServer]:
    require_serve()
    arguments = [argument for path in models.values() for argument in ("-m", str(path))]
    with RunningServer(*arguments) as running:
        yield running


def test_a_photograph_is_answered_with_what_the_network_saw(photo_server):
    for colour in COLOURS:
        document = photo_server.ask("POST", "/predict?pixels=true", encoded(paint(colour))).json()

        assert (document["label"], document["model"]) == (colour, "colours")
        np.testing.assert_array_equal(document["pixels"], to_levels(paint(colour), SPECS["colours"]))
    many = photo_server.ask("POST", "/predict?model=thousand&topk=1000", encoded(paint("red"))).json()
    refused = photo_server.ask("POST", "/predict?fit=auto", encoded(paint("red")))

    assert len(many["top"]) == 1000
    assert refused.status == 400
    assert refused.json()["error"].startswith("this model takes photos")
    assert [row["input"]["preprocess"]["name"] for row in photo_server.ask("GET", "/models").json()] == ["photo"] * 3


def infer(
    server: RunningServer, name: str, images: npt.NDArray[Any], binary: bool, **tensor: Any
) -> tuple[int, dict[str, Any]]:
    described = {"name": "image", "datatype": SPECS[name].datatype, "shape": list(images.shape)} | tensor
    body, headers = b"", {}
    if binary:
        body = images.tobytes()
        described["parameters"] = {"binary_data_size": len(body)}
    else:
        described["data"] = images.tolist()
    header = json.dumps({"inputs": [described]}).encode()
    if binary:
        headers = {"Inference-Header-Content-Length": str(len(header))}
    answer = server.ask("POST", f"/v2/models/{name}/infer", header + body, headers)
    return answer.status, answer.json()


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("name", SPECS)
def test_tensors_of_the_models_own_input_are_answered(photo_server, models, name, binary):
    images = SPECS[name].random(3)
    status, document = infer(photo_server, name, images, binary)
    with Classifier(models[name], device="cpu") as classifier:
        expected = classifier.logits(images)
    metadata = photo_server.ask("GET", f"/v2/models/{name}").json()

    assert status == 200, document
    np.testing.assert_allclose(np.reshape(document["outputs"][0]["data"], expected.shape), expected, atol=1e-4)
    (described,) = metadata["inputs"]
    assert (described["datatype"], described["shape"]) == (SPECS[name].datatype, [-1, *SPECS[name].shape])


def test_other_tensors_are_refused_in_a_sentence(photo_server):
    floats, nan = SPECS["floats"].random(1), SPECS["floats"].random(1)
    nan[0, 0, 0, 0] = np.nan
    wrong = [
        infer(photo_server, "floats", floats * 2, True),
        infer(photo_server, "floats", floats * 2, False),
        infer(photo_server, "floats", nan, True),
        infer(photo_server, "floats", floats, True, datatype="UINT8"),
        infer(photo_server, "colours", SPECS["thousand"].random(1), True),
        infer(photo_server, "colours", SPECS["colours"].random(1) + 0.5, False),
    ]

    assert [status for status, _ in wrong] == [400] * len(wrong)
    sentences = [document["error"] for _, document in wrong]
    assert "expected values from -1.0 to 1.0" in sentences[0]
    assert f"should be {3 * 32 * 32} numbers from -1.0 to 1.0" in sentences[1]
    assert "the datatype of image is FP32" in sentences[3]
    assert "the shape of image is [N, 3, 32, 32]" in sentences[4]
    assert f"should be {3 * 32 * 32} whole numbers from 0 to 255" in sentences[5]


def test_lists_and_texts_in_place_of_a_large_image_are_refused_before_they_are_parsed():
    """Lost otherwise: a hundred times a request's bytes, where an image of 224 x 224 allows many values."""
    pytest.importorskip("starlette", reason="the extra serve is not installed")
    from starlette.exceptions import HTTPException

    from runtime.serving.open_inference import read_request

    head = b'{"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 3, 224, 224], "data": ['
    for part in (b"[],", b'"ab",', b'{"a":0},'):
        with pytest.raises(HTTPException) as raised:
            read_request(head + part * 2**20 + b"0]}]}", None, 512, InputSpec.photo(224))

        assert raised.value.status_code == 413
    image = InputSpec.photo(224).random(3)
    tensor = {"name": "image", "datatype": "UINT8", "shape": list(image.shape), "data": image.tolist()}
    found = read_request(json.dumps({"inputs": [tensor]}).encode(), None, 512, InputSpec.photo(224))
    np.testing.assert_array_equal(found.pixels, image)
