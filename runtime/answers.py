"""One picture's answer as the command line gives it: an object, a line of text, or a row of CSV."""

from __future__ import annotations

from typing import Any

from runtime.errors import ImageError
from runtime.prediction import Prediction

CSV_COLUMNS = ("source", "ok", "label", "index", "confidence", "inverted", "error_kind", "error_message")


def as_dict(source: str, answer: Prediction | ImageError) -> dict[str, Any]:
    """Return the answer as JSON has it."""
    if isinstance(answer, ImageError):
        return {"source": source, "ok": False, "error": {"kind": answer.kind, "message": str(answer)}}
    return {"source": source, "ok": True} | answer.as_dict()


def as_line(source: str, answer: Prediction) -> str:
    """Return a prediction as a line: the label, how sure, and what else it may be."""
    first, *others = answer.top
    line = f"{source}: {first.label} {first.probability:.1%}"
    if others:
        line += " (" + ", ".join(f"{other.label} {other.probability:.1%}" for other in others) + ")"
    return line + ("; light background, inverted" if answer.inverted else "")


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
        return (source, "false", "", "", "", "", answer.kind, str(answer))
    inverted = "true" if answer.inverted else "false"
    return (source, "true", answer.label, answer.index, f"{answer.confidence:.6f}", inverted, "", "")
