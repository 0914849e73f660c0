"""A prediction: the candidates for one picture, most probable first, and how they are printed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.errors import ImageError


@dataclass(frozen=True, slots=True)
class Candidate:
    """One class that a picture may show."""

    label: str
    index: int
    probability: float

    def as_dict(self) -> dict[str, Any]:
        return {"label": self.label, "index": self.index, "probability": self.probability}


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model sees in one picture: `top` is sorted, most probable first; `inverted` says that the picture had a
    light background and was inverted; `warnings` says why the answer may be wrong, a short sentence each;
    `in_distribution` whether it is like the pictures that the model was trained on, None where the file has no
    threshold for that."""

    top: tuple[Candidate, ...]
    inverted: bool
    warnings: tuple[str, ...] = ()
    in_distribution: bool | None = None

    @property
    def label(self) -> str:
        return self.top[0].label

    @property
    def index(self) -> int:
        return self.top[0].index

    @property
    def confidence(self) -> float:
        return self.top[0].probability

    def as_dict(self) -> dict[str, Any]:
        return {
            "label": self.label,
            "index": self.index,
            "confidence": self.confidence,
            "in_distribution": self.in_distribution,
            "inverted": self.inverted,
            "top": [candidate.as_dict() for candidate in self.top],
            "warnings": list(self.warnings),
        }


def most_probable(
    labels: Sequence[str], probabilities: npt.NDArray[np.float32], topk: int
) -> list[tuple[Candidate, ...]]:
    """Return the `topk` most probable classes of each picture; labels: K names; probabilities: float32 (N, K)."""
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :topk]  # a tie goes to the lower index, as with argmax
    found = np.take_along_axis(probabilities, order, axis=1)
    return [
        tuple([Candidate(labels[index], index, probability) for index, probability in zip(*row, strict=True)])
        for row in zip(order.tolist(), found.tolist(), strict=True)
    ]


CSV_COLUMNS = (
    "source", "ok", "label", "index", "confidence", "inverted", "error_kind", "error_message", "in_distribution",
    "warnings",
)  # fmt: skip


def as_dict(source: str, answer: Prediction | ImageError) -> dict[str, Any]:
    """Return the answer as JSON has it."""
    if isinstance(answer, ImageError):
        return {"source": source, "ok": False, "error": {"kind": answer.kind, "message": str(answer)}}
    return {"source": source, "ok": True} | answer.as_dict()


def as_line(source: str, answer: Prediction, subject: str = "a garment") -> str:
    """Return a prediction as a line: the label, how sure, and what else it may be; or that it is no `subject`."""
    first, *others = answer.top
    line = f"{source}: {first.label} {first.probability:.1%}"
    if answer.in_distribution is False:
        line = (
            f"{source}: not sure: this does not look like {subject} (most like {first.label} {first.probability:.1%})"
        )
    elif others:
        line += " (" + ", ".join(f"{other.label} {other.probability:.1%}" for other in others) + ")"
    return "; ".join([line, *(["light background, inverted"] if answer.inverted else []), *answer.warnings])


def as_csv(row: tuple[Any, ...]) -> str:
    """Return a row of CSV, without its line end."""
    import csv
    import io

    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(row)
    return text.getvalue()


def csv_row(source: str, answer: Prediction | ImageError) -> tuple[Any, ...]:
    """Return the values of CSV_COLUMNS."""
    if isinstance(answer, ImageError):
        return (source, "false", "", "", "", "", answer.kind, str(answer), "", "")
    inverted, known = ({True: "true", False: "false", None: ""}[x] for x in (answer.inverted, answer.in_distribution))
    confidence, warnings = f"{answer.confidence:.6f}", "; ".join(answer.warnings)
    return (source, "true", answer.label, answer.index, confidence, inverted, "", "", known, warnings)
