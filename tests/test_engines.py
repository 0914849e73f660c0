"""The same file on engines that are not ours: "runs anywhere" is measured, by the tolerance of the file's own proof.

onnx.reference comes with onnx. OpenVINO and tract come with `pip install 'fashion-zoo[engines]'`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx.reference
import pytest
from mutants import make_network

from export import Description
from export.graph import build_graph
from export.precision import Precision
from export.subject import Subject, run_network
from runtime import contract
from runtime.fashion_mnist import LABELS
from runtime.golden import read_tensor
from runtime.parity import INPUT_FILE, OUTPUT_FILES, read_tolerances
from runtime.store import read_index

WEIGHTS = Path(__file__).resolve().parents[1] / "weights"
OUTPUTS = (contract.LOGITS, contract.PROBABILITIES)
Answers = dict[str, npt.NDArray[Any]]


def by_the_reference(file: Path, images: npt.NDArray[np.uint8]) -> Answers:
    evaluator = onnx.reference.ReferenceEvaluator(str(file))
    return dict(zip(OUTPUTS, evaluator.run(list(OUTPUTS), {contract.INPUT: images}), strict=True))


def by_openvino(file: Path, images: npt.NDArray[np.uint8]) -> Answers:
    openvino = engine("openvino")
    core = openvino.Core()
    # By itself it may choose bfloat16 on a processor that has it.
    compiled = core.compile_model(core.read_model(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled({contract.INPUT: images})
    return {name: found[name] for name in OUTPUTS}


def by_tract(file: Path, images: npt.NDArray[np.uint8]) -> Answers:
    model = engine("tract").onnx().load(str(file)).into_model()
    names = [model.output_name(index) for index in range(model.output_count())]
    found = [tensor.to_numpy() for tensor in model.into_runnable().run([images])]
    assert len(names) == len(OUTPUTS)
    return dict(zip(OUTPUTS, found, strict=True))


ENGINES: dict[str, Callable[[Path, npt.NDArray[np.uint8]], Answers]] = {
    "onnx.reference": by_the_reference,
    "OpenVINO": by_openvino,
    "tract": by_tract,
}


def engine(name: str) -> Any:
    return pytest.importorskip(name, reason=f"{name} is not installed: pip install 'fashion-zoo[engines]'")


@pytest.mark.parametrize("model", sorted(read_index(WEIGHTS)))
@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_gives_a_published_models_golden_answers(name: str, model: str) -> None:
    entry = read_index(WEIGHTS)[model]
    file = WEIGHTS / entry["file"]
    tolerances = read_tolerances(file.parent, entry["sha256"])
    images = read_tensor(file.parent / INPUT_FILE)[1]
    found = ENGINES[name](file, images)

    for output, path in OUTPUT_FILES.items():
        golden = read_tensor(file.parent / path)[1]
        assert np.abs(found[output] - golden).max() <= tolerances[output], output


FORMS = {"fp32": Precision(), "half-size": Precision(storage="fp16"), "fp16": Precision("fp16")}
UNABLE = pytest.mark.xfail(reason="tract 0.23 takes a float16 Gemm's result for float32 and refuses the file")


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        pytest.param(name, precision, id=f"{name}-{form}", marks=[UNABLE] if (name, form) == ("tract", "fp16") else [])
        for name in ENGINES
        for form, precision in FORMS.items()
    ],
)
def test_an_engine_gives_what_a_resized_residual_network_does_in_every_precision(
    name: str,
    precision: Precision,
    tmp_path: Path,
    test_images: npt.NDArray[np.uint8],
    test_labels: npt.NDArray[np.uint8],
) -> None:
    images = test_images[:16, None].copy()
    network = make_network("small-resnet")
    content = build_graph(network, Description(name="m", labels=LABELS, precision=precision).metadata(None))
    (tmp_path / "model.onnx").write_bytes(content)
    subject = Subject(network, content, images, test_labels[:16], {})
    found = ENGINES[name](tmp_path / "model.onnx", images)

    for output, exact in zip(OUTPUTS, run_network(subject.double, images), strict=True):
        assert found[output].dtype == np.float32
        assert np.abs(found[output] - exact).max() <= subject.parity[output]["tolerance"], output
