"""The file in other languages, on other engines: Node with onnxruntime, C++ with OpenVINO. Same answers as here."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from PIL import Image
from support.photo_models import random_model

from runtime import Classifier, InputSpec
from runtime.evaluation import parity
from runtime.evaluation.golden import read_tensor
from runtime.model.registry import find_model

ROOT = Path(__file__).resolve().parents[2]
NODE = ROOT / "examples" / "node"
CPP = ROOT / "examples" / "cpp"
WEIGHTS = ROOT / "weights"
MODELS = ("lenet", "lenet-modern")
PICTURES = 200


@pytest.fixture(scope="module")
def pictures(test_images: npt.NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    paths = [folder / f"{index}.png" for index in range(PICTURES)]
    for path, image in zip(paths, test_images, strict=False):
        Image.fromarray(image).save(path)
    return paths


@pytest.fixture(scope="module")
def node() -> str:
    found = shutil.which("node") or pytest.skip("Node.js is not on the PATH")
    if not (ROOT / "node_modules" / "onnxruntime-node").is_dir():
        pytest.skip("the npm packages of examples/node are not installed: npm ci")
    return str(found)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """examples/cpp, built as its CMakeLists.txt says."""
    openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed; it is in the extra dev")
    for tool, package in (("cmake", "cmake"), ("c++", "g++")):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not on the PATH (Debian: apt-get install {package})")
    if not any(Path(prefix, "include", "png.h").exists() for prefix in ("/usr", "/usr/local", "/opt/homebrew")):
        pytest.skip("libpng's header is missing (Debian: apt-get install libpng-dev)")
    build = tmp_path_factory.mktemp("build")
    where = f"-DOpenVINO_DIR={Path(openvino.__file__).parent / 'cmake'}"
    for command in (["cmake", "-S", CPP, "-B", build, where], ["cmake", "--build", build]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return build / "predict"


@dataclass(frozen=True)
class Example:
    """A program of examples/, to be run with a file and pictures."""

    name: str
    command: tuple[str | Path, ...]

    def __call__(self, *arguments: Path) -> subprocess.CompletedProcess[str]:
        command = [*self.command, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(params=["node", "cpp"])
def example(request: pytest.FixtureRequest) -> Example:
    if request.param == "node":
        return Example("node", (request.getfixturevalue("node"), NODE / "predict.mjs"))
    return Example("cpp", (request.getfixturevalue("program"),))


def lines(model: str, pictures: list[Path]) -> list[str]:
    """What the examples should print, but for the share, which may round the other way."""
    with Classifier(WEIGHTS / model, device="cpu") as classifier:
        answers = classifier.predict_batch(pictures, topk=1)
    return [f"{picture}: {answer.label}" for picture, answer in zip(pictures, answers, strict=True)]


def without_shares(text: str) -> list[str]:
    return [line.rsplit(" ", 1)[0] for line in text.splitlines()]


def with_labels(labels: list[str], path: Path) -> Path:
    """lenet with other labels."""
    model = onnx.load(WEIGHTS / "lenet" / "model.onnx")
    next(prop for prop in model.metadata_props if prop.key == "labels").value = json.dumps(labels, ensure_ascii=False)
    onnx.save(model, path)
    return path


LABELS_WITH_QUOTES = [f'no. {index}: "\\{index}", Schuhgröße' for index in range(10)]


def test_an_example_reads_labels_with_quotes_and_refuses_a_file_with_too_few(example, pictures, tmp_path):
    quoted = with_labels(LABELS_WITH_QUOTES, tmp_path / "quoted.onnx")
    named = example(quoted, pictures[0])
    refused = example(with_labels(["a", "b"], tmp_path / "few.onnx"), pictures[0])

    assert without_shares(named.stdout) == [f"{pictures[0]}: {LABELS_WITH_QUOTES[9]}"], named.stderr
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "not as many labels as outputs" in refused.stderr


@pytest.mark.parametrize("model", MODELS)
def test_an_example_makes_the_same_200_decisions(example, model, pictures):
    done = example(WEIGHTS / model / "model.onnx", *pictures)

    assert (done.returncode, done.stderr) == (0, "")
    assert without_shares(done.stdout) == lines(model, pictures)


@pytest.mark.parametrize("model", MODELS)
def test_node_gives_the_golden_answers_within_the_derived_tolerance(node, model):
    pixels, expected, tolerance = golden(model)
    program = """
        import { readFileSync } from "node:fs";
        import { InferenceSession, Tensor } from "onnxruntime-node";
        const { model, shape, pixels } = JSON.parse(readFileSync(0));
        const session = await InferenceSession.create(model);
        const image = new Tensor("uint8", Uint8Array.from(pixels), shape);
        const { logits } = await session.run({ image }, ["logits"]);
        console.log(JSON.stringify(Array.from(logits.data)));
    """
    asked = {"model": str(WEIGHTS / model / "model.onnx"), "shape": pixels.shape, "pixels": pixels.reshape(-1).tolist()}
    command = [node, "--input-type=module", "--eval", program]
    done = subprocess.run(
        command, input=json.dumps(asked), cwd=NODE, capture_output=True, text=True, timeout=120, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert np.abs(np.reshape(json.loads(done.stdout), expected.shape) - expected).max() <= tolerance


@pytest.mark.parametrize("model", MODELS)
def test_the_node_example_reads_all_of_the_metadata(model):
    node = shutil.which("node") or pytest.skip("Node.js is not on the PATH")
    program = """
        import { readFileSync } from "node:fs";
        import { readMetadata } from "./metadata.mjs";
        console.log(JSON.stringify(readMetadata(readFileSync(process.argv[1]))));
    """
    command = [str(node), "--input-type=module", "--eval", program, str(WEIGHTS / model / "model.onnx")]
    done = subprocess.run(command, cwd=NODE, capture_output=True, text=True, timeout=120, check=True)
    session = onnxruntime.InferenceSession(WEIGHTS / model / "model.onnx", providers=["CPUExecutionProvider"])
    stored = session.get_modelmeta().custom_metadata_map

    assert json.loads(done.stdout) == {key: json.loads(value) for key, value in stored.items()}


@pytest.fixture(scope="module")
def in_colour(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Path], list[Path], list[str]]:
    """Files of a network for RGB pictures, by datatype; such pictures; and what the examples should print of them."""
    folder = tmp_path_factory.mktemp("in_colour")
    specs = {name: InputSpec.photo((20, 30), datatype=name, range=high) for name, high in DATATYPES.items()}
    models = {name: random_model(folder / f"{name}.onnx", spec, 1000) for name, spec in specs.items()}
    images = specs["UINT8"].random(12) // np.arange(1, 13, dtype=np.uint8)[:, None, None, None]
    paths = [folder / f"{index}.png" for index in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image.transpose(1, 2, 0)).save(path)
    with Classifier(models["UINT8"], device="cpu") as classifier:
        named = [classifier.labels[index] for index in classifier.logits(images).argmax(axis=1)]
    return models, paths, [f"{path}: {label}" for path, label in zip(paths, named, strict=True)]


DATATYPES: dict[Any, Any] = {"UINT8": None, "FP32": (-1, 1)}


def test_an_example_takes_colour_pictures_as_the_file_says_or_says_why_not(example, in_colour):
    models, pictures, expected = in_colour
    done, floats = (example(models[datatype], *pictures) for datatype in DATATYPES)

    assert (done.returncode, done.stderr) == (0, "")
    assert without_shares(done.stdout) == expected
    if example.name == "node":
        assert (floats.returncode, floats.stderr) == (0, "")
        assert without_shares(floats.stdout) == expected
    else:
        assert (floats.returncode, floats.stderr) == (1, "the file takes floats, and this passes bytes\n")


def test_an_example_names_what_it_cannot_read(example, tmp_path):
    (tmp_path / "no.png").write_bytes(b"no picture")
    Image.new("L", (30, 28)).save(tmp_path / "wide.png")
    reasons = {"wide.png": "another size", "no.png": "not a png", "missing.png": "no such file"}
    if example.name == "node":
        reasons = {"wide.png": "wide.png is 30x28; the network takes 28x28"}
    for name, reason in reasons.items():
        done = example(WEIGHTS / "lenet" / "model.onnx", tmp_path / name)

        assert (done.returncode, done.stdout) == (1, "")
        assert name in done.stderr
        assert reason in done.stderr.lower()


def golden(model: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], float]:
    """The golden pictures, the network's logits for them, and how far an engine may be from these."""
    entry = find_model(WEIGHTS / model).entry or {}
    pixels = read_tensor(WEIGHTS / model / parity.INPUT_FILE)[1]
    logits = read_tensor(WEIGHTS / model / parity.OUTPUT_FILES["logits"])[1]
    return pixels, logits, parity.read_tolerances(WEIGHTS / model, entry["sha256"])["logits"]
