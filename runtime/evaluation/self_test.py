"""Run D2L's worked examples on the device and compare with their exact answers.

Each file of `known_answers/` is a tiny ONNX graph with its inputs and the right outputs in its own metadata;
`tools.known_answers` writes them.
"""

import json
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.errors import DeviceUnavailable, ModelInvalid, ModelNotFound
from runtime.session.session import OpenSession, open_session

FOLDER = Path(__file__).resolve().parent / "known_answers"
SUFFIX = ".onnx"
FORMAT = "fashion-zoo known answer 1"

# The answers are exact in float32 in whatever order one multiplies and adds, so the tolerance on the CPU is zero. On
# CUDA, cuDNN may choose a Winograd or Fourier transform, which rounds. Right answers are multiples of 1/16, so a wrong
# one is off by far more than this.
_SLACK = {"cpu": 0.0, "cuda": 2.0**-10, "tensorrt": 2.0**-10}

_Exact = npt.NDArray[np.float64]
_Found = npt.NDArray[np.float32]


@dataclass(frozen=True)
class CaseResult:
    """How one worked example came out."""

    name: str  # of the file, which begins with the section of D2L
    title: str
    section: str
    passed: bool
    seconds: float
    max_abs_diff: float | None = None  # the largest difference from the right answers, where they can be compared
    tolerance: float = 0.0  # how large it may be here
    expected: dict[str, Any] | None = None  # the right answers by output; only for a wrong one, as is `found`
    found: dict[str, Any] | None = None
    error: str | None = None  # why there is nothing to compare

    def as_dict(self) -> dict[str, Any]:
        document = {
            "name": self.name,
            "title": self.title,
            "section": self.section,
            "passed": self.passed,
            "max_abs_diff": self.max_abs_diff,
            "tolerance": self.tolerance,
            "seconds": round(self.seconds, 4),
        }
        failure = {"expected": self.expected, "found": self.found, "error": self.error}
        return document if self.passed else document | failure


@dataclass(frozen=True)
class SelfTestReport:
    """All of them; `device` is where every node ran, `reason` why `auto` did not choose CUDA."""

    device: str
    reason: str | None
    cases: tuple[CaseResult, ...]
    seconds: float

    @property
    def failures(self) -> list[CaseResult]:
        return [case for case in self.cases if not case.passed]

    @property
    def passed(self) -> bool:
        return not self.failures

    def as_dict(self) -> dict[str, Any]:
        return {
            "passed": self.passed,
            "device": self.device,
            "reason": self.reason,
            "n": len(self.cases),
            "failed": len(self.failures),
            "seconds": round(self.seconds, 4),
            "cases": [case.as_dict() for case in self.cases],
        }


def run_selftest(device: str = "auto", folder: Path = FOLDER) -> SelfTestReport:
    """Run every worked example of `folder` on `device`; with `auto`, all on the device that the first one got.

    Raises:
        UsageError: no such device.
        DeviceUnavailable: the device asked for by name cannot be used at all.
        ModelNotFound: there are no examples.
    """
    paths = sorted(folder.glob(f"*{SUFFIX}"), key=lambda path: path.stem)
    if not paths:
        raise ModelNotFound(f"{folder} holds no known answers: this installation is incomplete, install it again")
    started = time.perf_counter()
    first: OpenSession | None = None
    cases = []
    for path in paths:
        began = time.perf_counter()
        where, what = str(first.device) if first else device, f"known answer {path.stem}"
        try:
            opened = open_session(path.read_bytes(), where, threads=1, what=what)
            first = first or opened
            result = _run(path.stem, opened)
        except (DeviceUnavailable, ModelInvalid) as error:
            if first is None and isinstance(error, DeviceUnavailable):
                raise
            result = _failed(path.stem, str(error))
        cases.append(replace(result, seconds=time.perf_counter() - began))
    ran_on, reason = (str(first.device), first.reason) if first else (device, None)
    return SelfTestReport(ran_on, reason, tuple(cases), time.perf_counter() - started)


def _run(name: str, opened: OpenSession) -> CaseResult:
    fields = opened.session.get_modelmeta().custom_metadata_map
    if json.loads(fields.get("format", "null")) != FORMAT:
        return _failed(name, f"{name}{SUFFIX} is no known answer of the format {FORMAT!r}")
    case = {key: json.loads(value) for key, value in fields.items()}
    inputs = {name: np.array(values, np.float32) for name, values in case["inputs"].items()}
    expected = {name: np.array(values, np.float64) for name, values in case["expected"].items()}
    try:
        found: dict[str, _Found] = dict(zip(expected, opened.session.run(list(expected), inputs), strict=True))
    except Exception as error:  # onnxruntime's errors share no base class
        return _failed(name, " ".join(str(error).split()), case["title"])
    differences = [_difference(found[output], expected[output]) for output in expected]
    # A tolerance of the example's own is stated in its file, with the reason.
    tolerance = case["tolerance"] or _SLACK[opened.device.kind]
    passed = all(difference <= tolerance for difference in differences)
    worst = math.nan if any(map(math.isnan, differences)) else max(differences)
    return CaseResult(
        name,
        case["title"],
        case["section"],
        passed,
        0.0,
        worst if math.isfinite(worst) else None,
        tolerance,
        None if passed else case["expected"],
        None if passed else {output: _listed(value) for output, value in found.items()},
    )


def _failed(name: str, error: str, title: str = "") -> CaseResult:
    return CaseResult(name, title or name, name.partition("-")[0], False, 0.0, error=error)


def _difference(found: _Found, expected: _Exact) -> float:
    """The largest difference; infinite if `found` is not float32 of the right shape, NaN if it has a NaN."""
    if found.dtype != np.float32 or found.shape != expected.shape:
        return math.inf
    return float(np.abs(found.astype(np.float64) - expected).max())


def _listed(array: _Found) -> Any:
    """Nested lists that JSON can hold: NaN and infinities become words."""
    if array.ndim:
        return [_listed(part) for part in array]
    return float(array) if np.isfinite(array) else str(array)
