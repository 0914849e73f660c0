"""Compare this device's answers with the stored answers of the PyTorch network.

The tolerance is derived, not typed. When the model was verified, PyTorch's own float32 error against the network in
float64 was measured (`noise_floor`), and a graph was allowed a multiple of it (`tolerance`); both are in
`verification.json` beside the model. The golden answers are PyTorch's float32, so they are themselves off by up to the
noise floor: a right device differs from them by at most `tolerance + noise_floor`. Where a file computes in float32
with rounded weights, golden answers and measures are both of the rounded weights: what the rounding itself
cost is no room for a device.

In TF32 a GPU rounds the factors of its products to 11 significant bits in place of 24, 2**13 times as coarsely, and
adds up in float32 as before. So 2**13 times the noise floor is allowed beside the tolerance. TF32 may also turn a close
decision, which is counted and reported, but does not fail.
"""

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.classifier import Classifier
from runtime.errors import FashionZooError, ModelInvalid, ModelNotFound
from runtime.evaluation.golden import FOLDER, read_tensor
from runtime.model.metadata import LOGITS, PROBABILITIES
from runtime.model.spec import INPUT

REPORT = "verification.json"
INPUT_FILE = f"{FOLDER}/input_0.pb"
OUTPUT_FILES = {LOGITS: f"{FOLDER}/output_0.pb", PROBABILITIES: f"{FOLDER}/output_1.pb"}
TF32_ROUNDING = 2.0**13  # unit roundoff of TF32, 2**-11, over that of float32, 2**-24
GOLDEN = "the golden answers"
READ_AS_FLOAT = "read as float32"  # the measures of a file with rounded weights against these very weights
AS_QUANTIZED = "as quantized"  # the same where what they multiply is rounded too: of the file as it is
_HINT = "`zoo export` and `zoo publish` write it beside the model"


class ParityFailed(FashionZooError):
    """The device gives other answers than the network."""

    exit_code = 3


@dataclass(frozen=True)
class OutputParity:
    """One output: `max_abs_diff` from the golden answers, and how large it may be. A NaN is an infinite difference."""

    output: str
    max_abs_diff: float
    tolerance: float

    @property
    def passed(self) -> bool:
        return self.max_abs_diff <= self.tolerance

    def as_dict(self) -> dict[str, Any]:
        finite = self.max_abs_diff if math.isfinite(self.max_abs_diff) else None
        return {"passed": self.passed, "max_abs_diff": finite, "tolerance": self.tolerance}


@dataclass(frozen=True)
class ParityReport:
    """All outputs of one model on one device; `flips` counts the pictures that got another class."""

    model: str
    file: str
    sha256: str
    device: str
    providers: list[str]
    images: int
    flips: int
    outputs: tuple[OutputParity, ...]
    seconds: float
    tf32: bool = False
    reference: str = GOLDEN

    @property
    def passed(self) -> bool:
        return (self.tf32 or self.flips == 0) and all(output.passed for output in self.outputs)

    def as_dict(self) -> dict[str, Any]:
        """Return the report; `max_abs_diff` (null where it is no number) and `tolerance` are those of the logits."""
        rows = {output.output: output.as_dict() for output in self.outputs}
        return {
            "model": self.model,
            "passed": self.passed,
            "max_abs_diff": rows[LOGITS]["max_abs_diff"],
            "tolerance": rows[LOGITS]["tolerance"],
            "device": self.device,
            "providers": self.providers,
            "images": self.images,
            "flips": self.flips,
            "outputs": rows,
            "file": self.file,
            "sha256": self.sha256,
            "seconds": round(self.seconds, 4),
            **({} if self.device == "cpu" else {"tf32": self.tf32}),
            **({} if self.reference == GOLDEN else {"reference": self.reference}),
        }

    def require(self) -> None:
        """Raise ParityFailed, with the worst output named, unless the answers agree."""
        if self.passed:
            return
        worst = max(self.outputs, key=lambda output: output.max_abs_diff / output.tolerance)
        raise ParityFailed(
            f"{self.model} on {self.device} is not the network it was made from: {worst.output} differ by up to "
            f"{worst.max_abs_diff:.3g}, at most {worst.tolerance:.3g} is allowed, and {self.flips} of {self.images} "
            "pictures get another class; see `runtime doctor --selftest`"
        )


def measure_parity(classifier: Classifier) -> ParityReport:
    """Run the golden pictures of a model on its device and compare the answers.

    Raises:
        ModelNotFound: the model has no golden answers or no verification report beside it.
        ModelInvalid: one of these is damaged, or belongs to another file.
    """
    folder = classifier.path.parent
    tolerances = read_tolerances(folder, classifier.sha256, tf32=classifier.tf32)
    images = _tensor(folder / INPUT_FILE, INPUT, classifier.input.dtype, classifier.input.shape)
    golden = {
        output: _tensor(folder / file, output, np.float32, (len(classifier.labels),))
        for output, file in OUTPUT_FILES.items()
    }
    if any(len(answers) != len(images) for answers in golden.values()) or not len(images):
        raise ModelInvalid(f"{folder / FOLDER} is damaged: it has not as many golden answers as pictures")
    started = time.perf_counter()
    found = dict(zip((LOGITS, PROBABILITIES), classifier.outputs(images), strict=True))
    return compare_outputs(classifier, found, golden, tolerances, time.perf_counter() - started)


def compare_outputs(
    classifier: Classifier,
    found: dict[str, npt.NDArray[np.float32]],
    expected: dict[str, npt.NDArray[np.float32]],
    tolerances: dict[str, float],
    seconds: float,
    reference: str = GOLDEN,
) -> ParityReport:
    """Compare a classifier's outputs by name, each float32 (N, K), with those of its network.

    Args:
        found, expected: outputs by name; the logits are among them.
        tolerances: largest allowed difference by output, see `read_tolerances`.
        seconds: how long the classifier took.
        reference: where `expected` comes from.
    """
    decided, right = (outputs[LOGITS].argmax(axis=1) for outputs in (found, expected))
    return ParityReport(
        classifier.name,
        str(classifier.path),
        classifier.sha256,
        classifier.device,
        classifier.providers,
        len(decided),
        int(np.count_nonzero(decided != right)),
        tuple(OutputParity(name, _difference(found[name], expected[name]), tolerances[name]) for name in expected),
        seconds,
        classifier.tf32,
        reference,
    )


def read_tolerances(folder: Path, sha256: str, *, tf32: bool = False) -> dict[str, float]:
    """Return how far each output may be from the golden answers, by the report of the model with this checksum.

    Raises:
        ModelNotFound: there is no report.
        ModelInvalid: it is damaged, or of another file.
    """
    path = folder / REPORT
    try:
        document = json.loads(path.read_bytes())
        verified = document["conditions"]["onnx_sha256"]
        (measures,) = (check["measures"] for check in document["checks"] if check["name"] == "parity")
        if ((document["conditions"].get("precision") or {}).get("dtype") or "fp32") == "fp32":
            # The golden answers are of the rounded weights.
            measures = measures.get(AS_QUANTIZED) or measures.get(READ_AS_FLOAT, measures)
        noise_floors = TF32_ROUNDING if tf32 else 1.0
        tolerances = {
            output: float(measures[output]["tolerance"]) + noise_floors * float(measures[output]["noise_floor"])
            for output in OUTPUT_FILES
        }
    except FileNotFoundError as error:
        raise ModelNotFound(f"parity needs the tolerance measured in {path}, which is missing; {_HINT}") from error
    except OSError as error:
        raise ModelInvalid(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ModelInvalid(f"{path} is damaged: it has no parity measures ({type(error).__name__}: {error})") from error
    if verified != sha256:
        raise ModelInvalid(f"{path} is of another file: of sha256 {verified}, but the model's is {sha256}")
    if not all(0 < tolerance < math.inf for tolerance in tolerances.values()):
        raise ModelInvalid(f"{path} is damaged: its tolerances are {tolerances}")
    return tolerances


def _tensor(path: Path, name: str, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    try:
        found, array = read_tensor(path)
    except ModelNotFound as error:
        raise ModelNotFound(f"parity needs the golden tensor {path}, which is missing; {_HINT}") from error
    if found != name or array.dtype != dtype or array.shape[1:] != shape or array.ndim != len(shape) + 1:
        raise ModelInvalid(
            f"{path} should be {name}, {np.dtype(dtype)} {('N', *shape)}, but is {found}, {array.dtype} {array.shape}"
        )
    return array


def _difference(found: npt.NDArray[np.float32], golden: npt.NDArray[np.float32]) -> float:
    """The largest difference; infinite if anything is NaN."""
    difference = np.abs(found.astype(np.float64) - golden)
    return float(np.nan_to_num(difference, nan=np.inf).max())
