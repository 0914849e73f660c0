"""Accuracy on one's own pictures: `DIR/<label>/*.png`, a folder a class."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from runtime.accuracy import AccuracyReport
from runtime.classifier import DEFAULT_BATCH_SIZE, Classifier
from runtime.errors import ImageError, UsageError
from runtime.sources import SUFFIXES


def labelled_pictures(folder: Path, labels: tuple[str, ...]) -> list[tuple[Path, int]]:
    """Return the pictures of each class's folder, sorted, with the index of their class.

    A folder is named for its label, in any case and with any punctuation (`t-shirt-top` is "T-shirt/top", which no
    folder can be called), or for its index. Hidden folders are passed over.

    Raises:
        UsageError: a folder is no class of the model, or there are no pictures.
    """
    classes = {str(index): index for index in range(len(labels))}
    classes |= {_plain(label): index for index, label in enumerate(labels)}
    try:
        folders = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        found = []
        for path in folders:
            if _plain(path.name) not in classes:
                raise UsageError(
                    f"the folder {path} is no class of this model; expected one of {', '.join(map(repr, labels))}, "
                    "or an index from 0"
                )
            pictures = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
            found += [(picture, classes[_plain(path.name)]) for picture in pictures]
    except OSError as error:
        raise UsageError(f"the folder {error.filename} cannot be read: {error.strerror}") from error
    if not found:
        raise UsageError(f"{folder} holds no pictures in folders named for their classes: DIR/<label>/*.png")
    return found


def measure_folder(
    classifier: Classifier,
    pictures: list[tuple[Path, int]],
    batch_size: int = DEFAULT_BATCH_SIZE,
    progress: Callable[[int], None] | None = None,
) -> tuple[AccuracyReport, list[ImageError]]:
    """Classify pictures, prepared as `predict` prepares them; return the report on all that can be read, and the rest.

    Raises:
        UsageError: none can be read.
    """
    classes = len(classifier.labels)
    confusion = np.zeros((classes, classes), np.int64)
    errors: list[ImageError] = []
    started = time.perf_counter()
    answers = classifier.stream((path for path, _ in pictures), batch_size, topk=1, return_errors=True)
    for (_, label), answer in zip(pictures, answers, strict=True):
        if isinstance(answer, ImageError):
            errors.append(answer)
        else:
            confusion[label, answer.index] += 1
        if progress is not None:
            progress(1)
    seconds = time.perf_counter() - started
    if len(errors) == len(pictures):
        raise UsageError(f"none of the {len(pictures)} pictures can be read; the first: {errors[0]}")
    report = AccuracyReport(
        classifier.name, classifier.labels, confusion, classifier.device, classifier.providers, seconds, classifier.tf32
    )
    return report, errors


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.lower())
