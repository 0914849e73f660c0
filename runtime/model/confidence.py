"""The confidence that a model file declares: its temperature, and the score by which it knows pictures of its own kind.

Probabilities are `softmax(logits / T)` (Guo et al., On calibration of modern neural networks, 2017); the division is in
the graph. The score of a picture is

    score(z) = w logsumexp(z) - min over classes k of |A_k (z - m_k)|

of the logits z: the energy (Liu et al., Energy-based out-of-distribution detection, 2020) less the Mahalanobis
distance (Lee et al., A simple unified framework for detecting out-of-distribution samples, 2018) to the nearest class.
m_k is the mean of the logits of class k, and A_k'A_k the inverse of their covariance. Without a table of these, it is
the energy alone. A picture whose score is below the threshold is not like the pictures that the model was trained on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

MAX_CLASSES_IN_TABLE = 16  # K classes take K * K * (K + 3) / 2 numbers


@dataclass(frozen=True, eq=False)
class Score:
    """The score of logits, and its threshold."""

    threshold: float  # the least score of a picture that is like those that the model was trained on
    kept: float  # the share of held-out pictures that are above it
    energy_weight: float = 1.0  # w
    means: npt.NDArray[np.float64] | None = None  # m, (K, K), row by class; None for the energy alone
    factors: npt.NDArray[np.float64] | None = None  # A, (K, K, K), each upper triangular; None likewise

    @cached_property
    def _affine(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """A as a matrix (K, K * K), and A m (K * K,)."""
        assert self.means is not None
        assert self.factors is not None
        classes = len(self.means)
        matrix = self.factors.reshape(classes * classes, classes).T.copy()
        return matrix, np.einsum("kij,kj->ki", self.factors, self.means).reshape(-1)

    def __call__(self, logits: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """logits: float (N, K) -> float64 (N,)."""
        z = np.asarray(logits, np.float64)
        top = z.max(1)
        score = self.energy_weight * (top + np.log(np.exp(z - top[:, None]).sum(1)))
        if self.means is None:
            return np.asarray(score)
        matrix, offset = self._affine
        residuals = (z @ matrix - offset).reshape(len(z), *self.means.shape)
        return np.asarray(score - np.sqrt(np.square(residuals).sum(2)).min(1))

    def accepts(self, logits: npt.NDArray[Any]) -> list[bool]:
        """Whether each picture is like those that the model was trained on; logits: float (N, K)."""
        accepted: list[bool] = (self(logits) >= self.threshold).tolist()
        return accepted

    def as_dict(self, *, table: bool = True) -> dict[str, Any]:
        """Return it as JSON; of each triangular factor, only what is on and above the diagonal."""
        found: dict[str, Any] = {"threshold": self.threshold, "kept": self.kept, "energy_weight": self.energy_weight}
        if table and self.means is not None and self.factors is not None:
            found["means"] = self.means.tolist()
            found["factors"] = [[row[i:].tolist() for i, row in enumerate(factor)] for factor in self.factors]
        return found

    @classmethod
    def from_dict(cls, stored: Any, classes: int) -> Score:
        """Read what `as_dict` wrote. Raises ValueError, which says what is wrong."""
        threshold, kept, weight = (_number(stored, "score", key) for key in ("threshold", "kept", "energy_weight"))
        if not 0 < kept < 1:
            raise ValueError(f"its score keeps a share between 0 and 1, not {kept!r}")
        if ("means" in stored) != ("factors" in stored):
            raise ValueError("its score has both means and factors, or neither")
        if "means" not in stored:
            return cls(threshold, kept, weight)
        try:
            if classes > MAX_CLASSES_IN_TABLE:
                raise ValueError
            means = np.array([list(map(_finite, row)) for row in stored["means"]], np.float64)
            factors = np.zeros((classes, classes, classes))
            if means.shape != (classes, classes) or len(stored["factors"]) != classes:
                raise ValueError
            for factor, rows in zip(factors, stored["factors"], strict=True):
                for i, row in enumerate(rows):
                    factor[i, i:] = np.array(list(map(_finite, row))).reshape(classes - i)
                if len(rows) != classes:
                    raise ValueError
        except (ValueError, TypeError, IndexError) as error:
            raise ValueError(
                f"its score should have {classes} means of {classes} numbers, and as many triangular factors, for at "
                f"most {MAX_CLASSES_IN_TABLE} classes"
            ) from error
        return cls(threshold, kept, weight, means, factors)


@dataclass(frozen=True, eq=False)
class Confidence:
    """What a file declares of its confidence."""

    temperature: float  # T
    score: Score | None = None  # None where the file has no threshold
    fitted_on: dict[str, Any] | None = None  # {"split", "n"}: the pictures that both were fitted on
    # {"before", "after", "n", "bins"}: the expected calibration error on the test pictures, without and with T.
    ece: dict[str, Any] | None = None

    def as_dict(self, *, table: bool = True) -> dict[str, Any]:
        """Return the metadata `confidence`; without the table, what is to be read by people."""
        return {
            "temperature": self.temperature,
            "ece": self.ece,
            "score": self.score and self.score.as_dict(table=table),
            "fitted_on": self.fitted_on,
        }

    @classmethod
    def from_dict(cls, stored: Any, classes: int) -> Confidence:
        """Read what `as_dict` wrote. Raises ValueError, which says what is wrong."""
        if not isinstance(stored, dict) or not {"temperature", "ece", "score", "fitted_on"} <= stored.keys():
            raise ValueError("it should have a temperature, an ece, a score and fitted_on")
        temperature = _number(stored, "confidence", "temperature")
        if not 0.01 <= temperature <= 100:
            raise ValueError(f"its temperature should be from 0.01 to 100, not {temperature!r}")
        for key, parts in (("ece", ("before", "after", "n", "bins")), ("fitted_on", ("split", "n"))):
            value = stored[key]
            if value is not None and not (isinstance(value, dict) and set(parts) <= value.keys()):
                raise ValueError(f"its {key} should be null or have {', '.join(parts)}")
        if stored["ece"] is not None and not all(
            0 <= _number(stored["ece"], "ece", key) <= 1 for key in ("before", "after")
        ):
            raise ValueError("its ece should be from 0 to 1, before and after")
        score = None if stored["score"] is None else Score.from_dict(stored["score"], classes)
        return cls(temperature, score, stored["fitted_on"], stored["ece"])


def _number(stored: Any, what: str, key: str) -> float:
    try:
        return _finite(stored[key])
    except (TypeError, LookupError, ValueError) as error:
        raise ValueError(f"its {what} should have a number called {key}") from error


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no number")
    return float(value)
