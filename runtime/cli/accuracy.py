"""`runtime accuracy`: accuracy by class, on the test images or on a folder of pictures."""

from collections import Counter
from pathlib import Path
from typing import Any

import click

from runtime.cli.console import (
    Bar,
    Command,
    batch_size_option,
    compute_options,
    emit,
    emit_json,
    emit_table,
    json_option,
    model_option,
    note,
    open_classifier,
)

MOST_CLASSES = 100  # of more, only those that have pictures are listed


@click.command(cls=Command)
@click.argument("folder", required=False, metavar="[DIR]", type=click.Path(exists=True, file_okay=False))
@model_option
@click.option("--output", "-o", type=click.Path(dir_okay=False), help="Write the confusion matrix as a PNG.")
@batch_size_option
@compute_options
@json_option
def accuracy(
    folder: str | None,
    model: str | None,
    output: str | None,
    batch_size: int | None,
    device: str,
    tf32: bool,
    threads: int | None,
    as_json: bool,
) -> None:
    """Measure a model on the 10,000 test images of Fashion-MNIST, or on your own pictures in DIR/<label>/.

    Classes are matched by name, whatever their order, case, spaces and punctuation. The model may know other classes
    beside those of the data; data with a class that it has no label for are refused.

    \b
    Example: runtime accuracy -m lenet --device cpu --json
             runtime accuracy photos/ -o confusion.png
    """
    from runtime.storage import require_writable

    if output is not None:
        require_writable(Path(output))
    classifier = open_classifier(model, device, threads, tf32)
    if output is not None:
        from runtime.evaluation.confusion import require_drawable, write_confusion

        require_drawable(classifier.labels)
    report, errors = measured(classifier, folder, batch_size)
    emit_accuracy(report, as_json)
    for error in errors:
        note(f"Error: {error}")
    if output is not None:
        write_confusion(report, Path(output))
        note(f"wrote {output}")
    if errors:
        note(f"{len(errors)} of {report.n + len(errors)} pictures could not be read; they do not count")
        raise SystemExit(1)


def measured(classifier: Any, folder: str | None, batch_size: int | None) -> tuple[Any, list[Any]]:
    """Return the accuracy on a folder of pictures or, without one, on Fashion-MNIST, and the pictures unread."""
    if folder is not None:
        from runtime.evaluation.image_folder import labelled_pictures, measure_folder
        from runtime.imaging.folder import passed_over_sentence

        passed_over: Counter[str] = Counter()
        pictures = labelled_pictures(Path(folder), classifier.labels, passed_over)
        if sentence := passed_over_sentence(passed_over):
            note(sentence)
        with Bar(f"measuring {classifier.name}", len(pictures)) as bar:
            return measure_folder(classifier, pictures, batch_size, bar.advance)
    from runtime.cli.fetch import fetch_with_bar
    from runtime.datasets import fashion_mnist
    from runtime.evaluation.accuracy import measure_accuracy, require_shape
    from runtime.model.spec import FASHION_MNIST

    require_shape(classifier, FASHION_MNIST.shape)  # sooner than the data are fetched
    fetch_with_bar("test")
    images, labels = fashion_mnist.load("test")
    with Bar(f"measuring {classifier.name}", len(images)) as bar:
        return measure_accuracy(classifier, images, labels, batch_size, bar.advance), []


def emit_accuracy(report: Any, as_json: bool) -> None:
    """Print an accuracy report, as a JSON document or with a row for each class."""
    if as_json:
        emit_json(report.as_dict())
        return
    emit(
        f"{report.model}: {report.correct:,} of {report.n:,} right, top-1 {report.top1:.4f}, on {report.device}, "
        f"{report.n / report.seconds:,.0f} images/s"
    )
    emit_table(
        ["class", "right", "of", "accuracy", "most taken for"],
        [
            [label, right, n, f"{right / n:.4f}" if n else "-", taken_for(report, index)]
            for index, (label, right, n) in enumerate(report.per_class())
            if n or len(report.labels) <= MOST_CLASSES
        ],
        right=["right", "of", "accuracy"],
    )


def taken_for(report: Any, index: int) -> str:
    """Return the class that a class is most often mistaken for, with the count."""
    mistakes = report.confusion[index].copy()
    mistakes[index] = 0
    return f"{report.labels[mistakes.argmax()]} ({mistakes.max()})" if mistakes.any() else "-"
