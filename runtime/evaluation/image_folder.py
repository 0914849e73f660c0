"""Accuracy on a folder of pictures: `DIR/<label>/*.png`, a folder a class."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from runtime.classifier import Classifier
from runtime.datasets.fashion_mnist import LABELS
from runtime.errors import ImageError, UsageError
from runtime.evaluation.accuracy import AccuracyReport
from runtime.evaluation.labels import listed, match_labels
from runtime.imaging.folder import is_litter, is_picture, passed_over_sentence


def labelled_pictures(
    folder: Path, labels: tuple[str, ...], passed_over: Counter[str] | None = None
) -> list[tuple[Path, int]]:
    """Return the pictures of each class's folder, sorted, with the index of their class in `labels`.

    A folder is named for its label, in any case and with any punctuation (`t-shirt-top` is "T-shirt/top", which no
    folder can be called), or for its index in `labels`. Hidden folders are passed over. Classes without a folder are
    not measured. `passed_over` counts the suffixes of files that are no pictures.

    Raises:
        UsageError: a folder is no class of the model, or its number may mean two classes; or there are no pictures.
    """
    passed_over = Counter() if passed_over is None else passed_over
    try:
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        folders = [path for path in entries if path.is_dir() and not is_litter(path.name)]
        classes = _classes(folders, labels)
        found = []
        for path, index in zip(folders, classes, strict=True):
            pictures = sorted(
                file for file in path.iterdir() if not file.is_dir() and is_picture(file.name, passed_over)
            )
            found += [(picture, index) for picture in pictures]
    except OSError as error:
        raise UsageError(f"the folder {error.filename} cannot be read: {error.strerror}") from error
    if not found:
        sentence = passed_over_sentence(passed_over)
        hint = f"; {sentence}" if sentence else ""
        raise UsageError(f"{folder} holds no pictures in folders named for their classes: DIR/<label>/*.png{hint}")
    return found


def _classes(folders: Sequence[Path], labels: Sequence[str]) -> list[int]:
    """Return the class that each folder's name means: a label or, where no label is a number, an index."""
    indices = {} if any(label.isdecimal() for label in labels) else {str(index): index for index in range(len(labels))}
    classes: list[int] = []
    unknown: list[Path] = []
    for path, named in zip(folders, match_labels([path.name for path in folders], labels), strict=True):
        if named is not None:
            classes.append(named)
        elif path.name in indices:
            _require_one_meaning(path, indices[path.name], labels)
            classes.append(indices[path.name])
        else:
            unknown.append(path)
    if unknown:
        several = f"the folders {listed([path.name for path in unknown])} in {unknown[0].parent} are no classes"
        which = several if len(unknown) > 1 else f"the folder {unknown[0]} is no class"
        index = ", or an index from 0" if indices else ""
        raise UsageError(f"{which} of this model; expected one of {listed(labels)}{index}")
    return classes


def _require_one_meaning(path: Path, number: int, labels: Sequence[str]) -> None:
    """Refuse a number that is one class in Fashion-MNIST's order and another in the model's, where it has both."""
    if number < len(LABELS) and match_labels([LABELS[number]], labels) not in ([None], [number]):
        raise UsageError(
            f"the folder {path} may mean {LABELS[number]!r}, which is number {number} in Fashion-MNIST, or "
            f"{labels[number]!r}, which is number {number} in this model; name it for its label"
        )


def measure_folder(
    classifier: Classifier,
    pictures: list[tuple[Path, int]],
    batch_size: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> tuple[AccuracyReport, list[ImageError]]:
    """Classify pictures as `predict` does; return the report on all that can be read, and the errors of the others."""
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
