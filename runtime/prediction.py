"""What a classifier answers: the candidates for one picture, most probable first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


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
    light background and was inverted."""

    top: tuple[Candidate, ...]
    inverted: bool

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
            "inverted": self.inverted,
            "top": [candidate.as_dict() for candidate in self.top],
        }
