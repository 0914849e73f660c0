"""The worked examples of D2L that ship with the runtime: right answers, small files, and wrong ones noticed.

onnxruntime, which shares no code with the generator, reproduces every answer; D2L prints many of them.
"""

import itertools
import json
import math
import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import pytest

from runtime.errors import DeviceUnavailable, ModelNotFound
from runtime.evaluation import self_test
from runtime.evaluation.self_test import FOLDER, run_selftest
from runtime.session.device import CPU, Device
from runtime.session.session import OpenSession
from tools.known_answers import STEPS, TOLERANCE, known_answers, write_known_answers
from tools.worked_example import WorkedExample

FILES = sorted(FOLDER.glob("*.onnx"))
NAMES = [path.stem for path in FILES]
LEARNED = "7.2.4-learned-kernel"
FULL_PRECISION = "7.4.3-one-by-one-full-precision"

# What D2L prints, typed from D2L and not from the generator.
STRIPE = [[1, 1, 0, 0, 0, 0, 1, 1]] * 6
BOOK: dict[tuple[str, str], Any] = {
    ("7.2.1-cross-correlation", "Y"): [[[19, 25], [37, 43]]],
    ("7.2.3-edges", "edges"): [[[0, 1, 0, 0, 0, -1, 0]] * 6],
    ("7.2.3-edges", "nothing"): [[[0] * 5] * 8],
    ("7.3.1-padding", "Y"): [[[0, 3, 8, 4], [9, 19, 25, 10], [21, 37, 43, 16], [6, 7, 8, 0]]],
    ("7.3.2-stride", "Y"): [[[0, 8], [6, 8]]],
    ("7.4.1-input-channels", "Y"): [[[56, 72], [104, 120]]],
    ("7.4.2-output-channels", "Y"): [[[56, 72], [104, 120]], [[76, 100], [148, 172]], [[96, 128], [192, 224]]],
    ("7.5.1-max", "Y"): [[[4, 5], [7, 8]]],
    ("7.5.1-average", "Y"): [[[2, 3], [5, 6]]],
    ("7.5.2-window", "Y"): [[[10]]],
    ("7.5.2-padding", "Y"): [[[5, 7], [13, 15]]],
    ("7.5.2-rectangular", "Y"): [[[5, 7], [13, 15]]],
    ("7.5.3-channels", "Y"): [[[5, 7], [13, 15]], [[6, 8], [14, 16]]],
}
BOOK_SHAPES = {
    "7.3.1-same-square": (8, 8),
    "7.3.1-same-tall": (8, 8),
    "7.3.2-stride-half": (4, 4),
    "7.3.2-stride-wide": (2, 2),
}


def read(name: str) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """A file's graph and its metadata, decoded."""
    model = onnx.load(FOLDER / f"{name}.onnx")
    return model, {prop.key: json.loads(prop.value) for prop in model.metadata_props}


def rewrite(path: Path, **fields: Any) -> None:
    """Replace metadata of a known answer on disk."""
    model = onnx.load(path)
    stored = {prop.key: prop.value for prop in model.metadata_props}
    onnx.helper.set_model_props(model, stored | {key: json.dumps(value) for key, value in fields.items()})
    path.write_bytes(model.SerializeToString())


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    """A folder with copies of three examples, to be tampered with."""
    for name in ("7.2.1-cross-correlation", LEARNED, "7.5.1-max"):
        shutil.copy(FOLDER / f"{name}.onnx", tmp_path)
    return tmp_path


@pytest.mark.parametrize(("name", "output"), BOOK)
def test_an_answer_is_what_the_book_prints(name, output):
    assert read(name)[1]["expected"][output] == [BOOK[name, output]]


@pytest.mark.parametrize("name", BOOK_SHAPES)
def test_an_answer_has_the_shape_that_the_book_prints(name):
    assert np.shape(read(name)[1]["expected"]["Y"]) == (1, 1, *BOOK_SHAPES[name])


def test_the_image_of_the_edges_is_the_books():
    inputs = read("7.2.3-edges")[1]["inputs"]

    assert inputs["X"] == [[STRIPE]]
    assert read(LEARNED)[1]["inputs"]["X"] == [[STRIPE]]


def test_the_learned_kernel_is_near_the_one_that_made_the_edges():
    assert read(LEARNED)[1]["expected"]["kernel"] == [[[[pytest.approx(1, abs=0.03), pytest.approx(-1, abs=0.03)]]]]


def test_every_case_is_right_on_the_cpu_to_the_last_bit():
    report = run_selftest("cpu")

    assert [case.name for case in report.cases] == sorted(NAMES)
    assert report.failures == []
    assert {case.name: case.max_abs_diff for case in report.cases if case.max_abs_diff} == {
        LEARNED: pytest.approx(0, abs=TOLERANCE)
    }


def test_the_files_are_what_the_generator_writes(tmp_path):
    written = write_known_answers(tmp_path)

    assert {path.name: path.read_bytes() for path in written} == {path.name: path.read_bytes() for path in FILES}
    assert len(known_answers()) == len(FILES)


def test_the_generator_removes_examples_that_are_no_more(tmp_path):
    (tmp_path / "7.9.9-dropped.onnx").touch()

    assert set(write_known_answers(tmp_path)) == set(tmp_path.iterdir())


def test_the_files_stay_under_100_kb_together():
    assert sum(path.stat().st_size for path in FILES) < 100_000


@pytest.mark.parametrize("name", NAMES)
def test_old_runtimes_can_load_a_file(name):
    model, case = read(name)

    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version <= 7
    assert [(opset.domain, opset.version <= 13) for opset in model.opset_import] == [("", True)]
    assert {tensor.type.tensor_type.elem_type for tensor in [*model.graph.input, *model.graph.output]} == {1}
    assert name.startswith(f"{case['section']}-")


@pytest.mark.parametrize("name", NAMES)
def test_float32_holds_what_a_case_is_made_of(name):
    model, case = read(name)
    weights = [onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    given = [np.array(value) for value in case["inputs"].values()]
    answers = [] if name == LEARNED else [np.array(value) for value in case["expected"].values()]

    for array in [*given, *answers]:
        assert (array.astype(np.float32) == array).all()
    if name != LEARNED:  # any sum of products in any order stays exact: multiples of 1/16 below 2^20
        largest = sum(abs(array).max() for array in weights) * sum(abs(array).max() for array in given) * 45
        assert all(((array * 16) % 1 == 0).all() for array in [*weights, *given, *answers])
        assert largest < 2**20 or name == FULL_PRECISION


def test_tf32_half_and_bfloat16_get_every_full_precision_answer_wrong():
    model, case = read(FULL_PRECISION)
    (kernel,) = (onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer)
    image, expected = np.array(case["inputs"]["X"]), np.array(case["expected"]["Y"])

    for bits in (11, 8):
        assert (mixed(round_to(image, bits), round_to(kernel, bits)) != expected).all()
    assert (mixed(round_to(image, 24), round_to(kernel, 24)) == expected).all()


def mixed(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """A convolution by a 1 x 1 kernel, in float64."""
    return np.einsum("oc,nchw->nohw", kernel[:, :, 0, 0].astype(np.float64), image)


def round_to(array: np.ndarray, bits: int) -> np.ndarray:
    """Round to so many significant bits."""
    fraction, exponent = np.frexp(array.astype(np.float64))
    return np.ldexp(np.rint(np.ldexp(fraction, bits)), exponent - bits)


def learn(steps: int) -> list[tuple[Fraction, Fraction]]:
    """The kernels of gradient descent on the stripe, in exact arithmetic: before the first step and after each."""
    kernels = [(Fraction(1, 4), Fraction(0))]
    for _ in range(steps):
        first, second = kernels[-1]
        gradient = [Fraction(0), Fraction(0)]
        for row in STRIPE:
            for left, right in itertools.pairwise(row):
                error = first * left + second * right - (left - right)
                gradient[0] += 2 * error * left
                gradient[1] += 2 * error * right
        kernels.append((first - Fraction(3, 100) * gradient[0], second - Fraction(3, 100) * gradient[1]))
    return kernels


def test_the_learned_kernel_is_exact_gradient_descent():
    kernel = read(LEARNED)[1]["expected"]["kernel"]

    assert kernel == [[[[float(weight) for weight in learn(STEPS)[-1]]]]]


def test_the_learned_kernels_tolerance_covers_every_rounding_and_not_much_more():
    """First-order bound of float32's rounding, as the file's own reason has it."""
    kernels, rate, bound = learn(STEPS), Fraction(6, 100), 0.0
    for (first, second), following in itertools.pairwise(kernels):
        local = []
        for index in (0, 1):
            roundings = Fraction(0)
            for row in STRIPE:
                for pixels in itertools.pairwise(row):
                    prediction = first * pixels[0] + second * pixels[1]
                    error = prediction - (pixels[0] - pixels[1])
                    roundings += (19 * abs(error) + abs(prediction) + abs(error)) * pixels[index]
            local.append(float(rate * roundings + abs(following[index])) * 2**-24)
        bound = 0.8 * bound + math.hypot(*local)
    stored = read(LEARNED)[1]["tolerance"]

    assert stored == TOLERANCE
    assert bound < stored < 4 * bound
    for kernel in (kernels[-2], learn(STEPS + 1)[-1]):  # a step too few or too many is far outside
        assert max(abs(a - b) for a, b in zip(kernel, kernels[-1], strict=True)) > 2**-9 > 500 * stored


def test_only_the_learned_kernel_has_a_tolerance_and_it_says_why():
    reasons = {name: case["tolerance_reason"] for name in NAMES if (case := read(name)[1])["tolerance"]}

    assert list(reasons) == [LEARNED]
    assert "2^-19" in reasons[LEARNED]


def test_a_wrong_answer_is_reported_with_what_was_expected_and_found(copies):
    rewrite(copies / "7.5.1-max.onnx", expected={"Y": [[[[4, 5], [7, 9]]]]})

    report = run_selftest("cpu", copies)

    assert not report.passed
    assert [case.name for case in report.failures] == ["7.5.1-max"]
    failure = report.as_dict()["cases"][-1]
    assert (failure["passed"], failure["max_abs_diff"], failure["error"]) == (False, 1.0, None)
    assert failure["expected"] == {"Y": [[[[4, 5], [7, 9]]]]}
    assert failure["found"] == {"Y": [[[[4, 5], [7, 8]]]]}
    assert (report.as_dict()["n"], report.as_dict()["failed"]) == (3, 1)


@pytest.mark.parametrize("name", NAMES)
def test_a_case_notices_the_smallest_difference_it_claims_to_notice(name, tmp_path):
    shutil.copy(FOLDER / f"{name}.onnx", tmp_path)
    case = read(name)[1]
    for output in case["expected"]:
        values = np.array(case["expected"][output], np.float64)
        last = values.reshape(-1)[-1:]
        last += 1.1 * case["tolerance"] or np.spacing(np.float32(abs(last[0])))
        rewrite(tmp_path / f"{name}.onnx", expected=case["expected"] | {output: values.tolist()})

        assert [failure.name for failure in run_selftest("cpu", tmp_path).failures] == [name]


def test_an_answer_of_the_wrong_shape_is_wrong(copies):
    rewrite(copies / "7.5.1-max.onnx", expected={"Y": [[[4, 5, 7, 8]]]})

    (failure,) = run_selftest("cpu", copies).failures

    assert (failure.name, failure.max_abs_diff) == ("7.5.1-max", None)


def test_an_answer_that_is_no_number_is_wrong_and_still_json(tmp_path):
    logarithm = WorkedExample(
        "0-logarithm",
        "logarithm",
        [onnx.helper.make_node("Log", ["X"], ["Y"])],
        {"X": np.array([[[[-1.0, 0, 1]]]])},
        {"Y": np.zeros((1, 1, 1, 3))},
    )
    (tmp_path / "0-logarithm.onnx").write_bytes(logarithm.serialize())

    (failure,) = run_selftest("cpu", tmp_path).failures

    document = json.loads(json.dumps(failure.as_dict(), allow_nan=False))
    assert document["max_abs_diff"] is None
    assert document["found"] == {"Y": [[[["nan", "-inf", 0.0]]]]}


@pytest.mark.parametrize("content", [b"", b"not a model"])
def test_a_damaged_file_is_a_failure_and_the_others_still_run(copies, content):
    (copies / "7.2.1-cross-correlation.onnx").write_bytes(content)

    report = run_selftest("cpu", copies)

    assert [case.passed for case in report.cases] == [False, True, True]
    assert "7.2.1-cross-correlation is not a model" in str(report.cases[0].error)


def test_a_model_that_is_no_known_answer_is_a_failure(copies):
    rewrite(copies / "7.5.1-max.onnx", format="something else")

    (failure,) = run_selftest("cpu", copies).failures

    assert "no known answer" in str(failure.error)


def test_a_folder_without_known_answers_is_an_incomplete_installation(tmp_path):
    with pytest.raises(ModelNotFound, match="holds no known answers"):
        run_selftest("cpu", tmp_path)


class FakeSessions:
    """Stands in for `open_session`: real answers off by `error`, said to be of `device`, in order of the calls."""

    def __init__(self, *outcomes: Exception | None, device: Device, error: float = 0.0) -> None:
        self.outcomes, self.device, self.error, self.asked = list(outcomes), device, error, list[str]()

    def __call__(self, model: bytes, device: str, *, threads: int, what: str) -> OpenSession:
        self.asked.append(device)
        if outcome := self.outcomes.pop(0) if self.outcomes else None:
            raise outcome
        return OpenSession(FakeSession(model, self.error), self.device, {}, "no GPU" if self.device == CPU else None)


class FakeSession:
    def __init__(self, model: bytes, error: float) -> None:
        self.fields = {prop.key: prop.value for prop in onnx.load_from_string(model).metadata_props}
        self.custom_metadata_map, self.error = self.fields, error

    def get_modelmeta(self) -> "FakeSession":
        return self

    def run(self, outputs: list[str], _inputs: dict[str, Any]) -> list[np.ndarray]:
        if math.isinf(self.error):
            raise RuntimeError("CUDNN failure 4000:\nCUDNN_STATUS_INTERNAL_ERROR")
        expected = json.loads(self.fields["expected"])
        return [np.array(expected[output], np.float32) + np.float32(self.error) for output in outputs]


@pytest.mark.parametrize(
    ("device", "error", "passes"),
    [(CPU, 0.0, True), (CPU, 2**-12, False), (Device("cuda"), 2**-12, True), (Device("cuda"), 1 / 16, False)],
)
def test_rounding_of_transforms_is_allowed_on_cuda_alone(device, error, passes, copies, monkeypatch):
    monkeypatch.setattr(self_test, "open_session", FakeSessions(device=device, error=error))

    report = run_selftest("auto", copies)

    assert [case.passed for case in report.cases if case.name != LEARNED] == [passes, passes]


def test_auto_runs_every_case_where_the_first_one_ran(copies, monkeypatch):
    sessions = FakeSessions(device=Device("cuda"))
    monkeypatch.setattr(self_test, "open_session", sessions)

    assert run_selftest("auto", copies).device == "cuda:0"
    assert sessions.asked == ["auto", "cuda:0", "cuda:0"]


def test_auto_says_why_it_chose_the_cpu(copies, monkeypatch):
    monkeypatch.setattr(self_test, "open_session", FakeSessions(device=CPU))

    report = run_selftest("auto", copies)

    assert (report.device, report.reason) == ("cpu", "no GPU")


def test_a_device_that_cannot_be_used_at_all_is_an_error(copies, monkeypatch):
    monkeypatch.setattr(self_test, "open_session", FakeSessions(DeviceUnavailable("no"), device=Device("cuda")))

    with pytest.raises(DeviceUnavailable, match="no"):
        run_selftest("cuda", copies)


def test_a_case_that_the_device_refuses_after_others_ran_is_a_failure(copies, monkeypatch):
    monkeypatch.setattr(
        self_test, "open_session", FakeSessions(None, DeviceUnavailable("1 node strays"), device=Device("cuda"))
    )

    report = run_selftest("cuda", copies)

    assert [case.error for case in report.cases] == [None, "1 node strays", None]


def test_an_engine_that_breaks_while_it_runs_is_a_failure_in_one_line(copies, monkeypatch):
    monkeypatch.setattr(self_test, "open_session", FakeSessions(device=Device("cuda"), error=math.inf))

    report = run_selftest("cuda", copies)

    assert {case.error for case in report.cases} == {"CUDNN failure 4000: CUDNN_STATUS_INTERNAL_ERROR"}
