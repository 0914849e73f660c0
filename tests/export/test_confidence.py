"""The confidence of a file: what is fitted is what the graph computes, and a picture of another kind is called one."""

import copy
import json
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator

from export.confidence import fit_confidence
from export.convert.exporter import build_graph
from export.description import Description
from export.precision import Precision
from runtime.datasets.fashion_mnist import LABELS
from runtime.errors import ModelInvalid
from runtime.evaluation.calibration import calibration_error, softmax
from runtime.model.confidence import Confidence, Score
from runtime.model.metadata import encode_metadata, parse_metadata
from zoo.models import create_model


def drawn(n: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose labels are drawn from softmax(logits / 2): a network twice too sure."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, n)
    logits = rng.normal(0, 1.5, (n, 10)) + 5 * np.eye(10)[labels]
    cumulated = softmax(logits, 2.0).cumsum(1)
    return logits, (rng.random((n, 1)) > cumulated).sum(1).clip(0, 9)


def test_the_temperature_found_is_the_one_that_the_labels_were_drawn_by():
    """Without it, a network twice too sure stays so, and its probabilities mean nothing."""
    logits, labels = drawn()
    found = fit_confidence(logits, labels)

    assert found.temperature == pytest.approx(2.0, rel=0.1)
    assert fit_confidence(3 * logits, labels).temperature == pytest.approx(3 * found.temperature, rel=0.01)
    before, after = (calibration_error(softmax(logits, t), labels) for t in (1.0, found.temperature))
    assert after < 0.03 < before


def test_the_threshold_keeps_the_share_that_it_says_and_refuses_what_is_far():
    """Without it, garments are called none, or noise is called a garment."""
    logits, _ = drawn()
    score = fit_confidence(logits, logits.argmax(1)).score
    assert score is not None

    assert np.mean(score.accepts(logits)) == pytest.approx(0.95, abs=0.005)
    for other in (
        np.array([[12.0] * 3 + [0.0] * 7]),
        np.full((1, 10), 9.0),
        -20 * np.ones((1, 10)),
        np.full((1, 10), np.nan),
    ):
        assert score.accepts(other) == [False]
    read = Score.from_dict(json.loads(json.dumps(score.as_dict())), 10)
    np.testing.assert_allclose(read(logits), score(logits), rtol=1e-9)


@pytest.mark.parametrize("precision", [Precision(), Precision("fp16"), Precision(storage="fp16")], ids=str)
def test_the_graph_divides_by_the_temperature_in_every_precision(precision, test_images):
    """Without it, a file declares a temperature that its probabilities do not have."""
    torch.manual_seed(0)
    network = create_model("lenet-modern").eval()
    for t, divisions in ((1.0, 1), (0.37, 2)):
        description = Description(name="x", labels=LABELS, precision=precision, confidence=Confidence(t))
        model = onnx.load_from_string(build_graph(copy.deepcopy(network), description.metadata(None)))
        logits, probabilities = ReferenceEvaluator(model).run(None, {"image": test_images[:4, None]})

        assert [node.op_type for node in model.graph.node].count("Div") == divisions
        np.testing.assert_allclose(probabilities, softmax(logits, t), rtol=1e-4, atol=1e-6)


def change(path: str, value: Any) -> dict[str, Any]:
    logits, labels = drawn(500)
    stored: dict[str, Any] = fit_confidence(logits, labels).as_dict()
    *parents, last = path.split(".")
    place = stored
    for name in parents:
        place = place[name]
    place[last] = value
    return stored


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("temperature", 0),
        ("temperature", "2"),
        ("temperature", None),
        ("temperature", -1.0),
        ("ece", 0.1),
        ("ece", {"before": 2.0, "after": 0.1, "n": 1, "bins": 15}),
        ("fitted_on", {"split": "x"}),
        ("score", {}),
        ("score.threshold", True),
        ("score.kept", 1.5),
        ("score.means", [[1.0] * 9] * 10),
        ("score.factors", [[[1.0] * 10] * 10] * 10),
        ("score.factors", None),
    ],
)
def test_a_malformed_confidence_is_refused_by_name(path, value):
    """Without it, a damaged file answers with numbers that mean nothing, or fails at the first picture."""
    fields = Description(name="x", labels=LABELS).metadata(None) | {"confidence": change(path, value)}

    with pytest.raises(ModelInvalid, match="'confidence'"):
        parse_metadata(encode_metadata(fields), "the file")


def test_a_file_of_before_has_none():
    """Without it, files that were published before cannot be read any more."""
    props = encode_metadata(Description(name="x", labels=LABELS).metadata(None))

    assert "confidence" not in props
    assert parse_metadata(props, "the file").temperature == 1.0
