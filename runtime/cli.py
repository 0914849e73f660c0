"""The `runtime` command: parse, make one library call, print. Only Click is imported until a command runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from runtime.console import CONTEXT_SETTINGS, Bar, Command, Group, emit, emit_json, emit_table, json_option, note

model_option = click.option(
    "--model", "-m", metavar="NAME|FILE", help="A model's name, or a .onnx file.  [default: the best that ships]"
)
device_option = click.option(
    "--device",
    default="auto",
    show_default=True,
    metavar="auto|cpu|cuda|cuda:N",
    help="Where to compute. A device asked for by name is used, or the command exits with 4.",
)
threads_option = click.option("--threads", type=click.IntRange(1), help="CPU threads.  [default: all allowed]")
batch_size_option = click.option(
    "--batch-size", "-b", type=click.IntRange(1), default=256, show_default=True, help="Images at once."
)


@click.group(cls=Group, context_settings=CONTEXT_SETTINGS)
@click.version_option(package_name="fashion-zoo")
def runtime() -> None:
    """Run the zoo's ONNX models on pictures, without PyTorch.

    \b
    runtime predict shoe.png       what is in the picture
    runtime list                   the models on this machine
    runtime info -m lenet          everything a model says of itself
    runtime accuracy -m lenet      measure it on the 10,000 test images
    runtime parity -m lenet        is it the network it was made from, on this device
    runtime bench -m lenet         how fast it starts and runs here
    runtime doctor --selftest      what this machine can do, and whether it computes rightly
    """


@runtime.command(cls=Command)
@click.argument("sources", nargs=-1, required=True, metavar="PICTURE...")
@model_option
@click.option("--recursive", "-r", is_flag=True, help="Look into the folders of a folder, too.")
@click.option("--topk", type=click.IntRange(1), default=3, show_default=True, help="How many classes to name.")
@click.option(
    "--invert",
    type=click.Choice(["auto", "yes", "no"]),
    default="auto",
    show_default=True,
    help="Whether to swap light and dark; auto does for a light background.",
)
@click.option(
    "--fit",
    type=click.Choice(["auto", "exact", "catalogue"]),
    default="auto",
    show_default=True,
    help="How a picture becomes 28x28 pixels.",
)
@click.option("--jsonl", is_flag=True, help="Print one JSON object a line, as results come.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, as results come.")
@batch_size_option
@device_option
@threads_option
@json_option
def predict(
    sources: tuple[str, ...],
    model: str | None,
    recursive: bool,
    topk: int,
    invert: Any,
    fit: Any,
    jsonl: bool,
    as_csv: bool,
    batch_size: int,
    device: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Say what each PICTURE shows: files, folders, patterns, - for stdin, @list.txt for a list of paths.

    A picture that cannot be read is reported, the others are still answered, and the command exits with 1.

    \b
    Example: runtime predict shoe.png photos/ --json
    """
    if as_json + jsonl + as_csv > 1:
        raise click.UsageError("--json, --jsonl and --csv exclude each other")
    from runtime import answers
    from runtime.classifier import Classifier
    from runtime.errors import ImageError
    from runtime.sources import STDIN, expand, read_stdin

    names = list(expand(sources, recursive=recursive))
    classifier = Classifier(model, device=device, threads=threads)
    say_device(classifier)
    documents, failures = [], 0
    if as_csv:
        emit(answers.as_csv(answers.CSV_COLUMNS))
    pictures = (read_stdin() if name == STDIN else name for name in names)
    stream = classifier.stream(pictures, batch_size, topk=topk, invert=invert, fit=fit, return_errors=True)
    with Bar("predicting", len(names) if len(names) > batch_size else None) as bar:
        for name, answer in zip(names, stream, strict=True):
            bar.advance()
            failed = isinstance(answer, ImageError)
            failures += failed
            if as_json:
                documents.append(answers.as_dict(name, answer))
            elif jsonl:
                emit_json(answers.as_dict(name, answer), indent=None)
            elif as_csv:
                emit(answers.as_csv(answers.csv_row(name, answer)))
            elif isinstance(answer, ImageError):
                note(f"Error: {answer}")
            else:
                emit(answers.as_line(name, answer))
    if as_json:
        emit_json(documents)
    if failures:
        if len(names) > 1:
            note(f"{failures} of {len(names)} pictures could not be read")
        raise SystemExit(1)


@runtime.command("list", cls=Command)
@json_option
def list_command(as_json: bool) -> None:
    """List the models on this machine, and which file each name means.

    \b
    Example: runtime list --json
    """
    from runtime.store import find_model, list_models

    models = list_models()
    default = find_model().name if models else None
    if as_json:
        emit_json([{**(stored.entry or {}), "path": str(stored.path), "origin": stored.origin} for stored in models])
        return
    emit_table(
        ["name", "accuracy", "parameters", "bytes", "origin", "file"],
        [
            [
                stored.name + (" (default)" if stored.name == default else ""),
                "-" if stored.accuracy is None else f"{stored.accuracy:.4f}",
                f"{(stored.entry or {}).get('parameters', 0):,}",
                f"{stored.path.stat().st_size:,}",
                stored.origin,
                stored.path,
            ]
            for stored in models
        ],
        right=["accuracy", "parameters", "bytes"],
    )


@runtime.command(cls=Command)
@model_option
@device_option
@json_option
def info(model: str | None, device: str, as_json: bool) -> None:
    """Show everything a model says of itself, which file it is, and where its nodes run.

    \b
    Example: runtime info -m lenet --json
    """
    from runtime.classifier import Classifier

    document = Classifier(model, device=device).info()
    if as_json:
        emit_json(document)
        return
    for key, value in document.items():
        if isinstance(value, dict):
            value = ", ".join(f"{name} {part}" for name, part in value.items())
        elif isinstance(value, list):
            value = ", ".join(str(part) for part in value)
        emit(f"{key:<14} {'-' if value is None else value}")


@runtime.command(cls=Command)
@click.argument("folder", required=False, metavar="[DIR]", type=click.Path(exists=True, file_okay=False))
@model_option
@click.option("--output", "-o", type=click.Path(dir_okay=False), help="Write the confusion matrix as a PNG.")
@batch_size_option
@device_option
@threads_option
@json_option
def accuracy(
    folder: str | None,
    model: str | None,
    output: str | None,
    batch_size: int,
    device: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Measure a model on the 10,000 test images of Fashion-MNIST, or on your own pictures in DIR/<label>/.

    \b
    Example: runtime accuracy -m lenet --device cpu --json
             runtime accuracy photos/ -o confusion.png
    """
    from runtime.classifier import Classifier

    classifier = Classifier(model, device=device, threads=threads)
    say_device(classifier)
    report, errors = measured(classifier, folder, batch_size)
    if output is not None:
        from runtime.confusion import draw_confusion

        draw_confusion(report).save(output, format="PNG")
        note(f"wrote {output}")
    emit_accuracy(report, as_json)
    for error in errors:
        note(f"Error: {error}")
    if errors:
        note(f"{len(errors)} of {report.n + len(errors)} pictures could not be read; they do not count")
        raise SystemExit(1)


def measured(classifier: Any, folder: str | None, batch_size: int) -> tuple[Any, list[Any]]:
    """Return the accuracy on a folder of pictures or, without one, on Fashion-MNIST, and the pictures unread."""
    if folder is not None:
        from runtime.labelled import labelled_pictures, measure_folder

        pictures = labelled_pictures(Path(folder), classifier.labels)
        with Bar(f"measuring {classifier.name}", len(pictures)) as bar:
            return measure_folder(classifier, pictures, batch_size, bar.advance)
    from runtime import fashion_mnist
    from runtime.accuracy import measure_accuracy
    from runtime.fetch import fetch_with_bar

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
            [label, right, n, f"{right / max(1, n):.4f}", taken_for(report, index)]
            for index, (label, right, n) in enumerate(report.per_class())
        ],
        right=["right", "of", "accuracy"],
    )


@runtime.command(cls=Command)
@model_option
@device_option
@threads_option
@json_option
def parity(model: str | None, device: str, threads: int | None, as_json: bool) -> None:
    """Check that this machine's device gives the answers of the PyTorch network the model was made from.

    The network's answers to 16 pictures travel with the model; how far a right device may be from them follows from
    PyTorch's own float32 error, measured when the model was verified. Exits with 3 where the answers differ by more.

    \b
    Example: runtime parity -m lenet --device cuda --json
    """
    from runtime.classifier import Classifier
    from runtime.parity import measure_parity

    classifier = Classifier(model, device=device, threads=threads)
    say_device(classifier)
    report = measure_parity(classifier)
    if as_json:
        emit_json(report.as_dict())
    else:
        emit_table(
            ["output", "result", "largest difference", "allowed"],
            [
                [row.output, "right" if row.passed else "WRONG", f"{row.max_abs_diff:.2g}", f"{row.tolerance:.2g}"]
                for row in report.outputs
            ],
            right=["largest difference", "allowed"],
        )
        verdict = "passed" if report.passed else "FAILED"
        emit(f"{report.model} on {report.device}: {verdict}, {report.flips} of {report.images} pictures change class")
    report.require()


@runtime.command(cls=Command)
@model_option
@click.option(
    "--batch-size",
    "-b",
    "batch_sizes",
    type=click.IntRange(1),
    multiple=True,
    default=(1, 8, 64, 256),
    show_default=True,
    help="Images at once; may be given several times.",
)
@click.option(
    "--min-seconds", type=click.FloatRange(0, 3600), default=1.0, show_default=True, help="Time a batch size."
)
@click.option("--min-runs", type=click.IntRange(1), default=100, show_default=True, help="Runs a batch size.")
@device_option
@threads_option
@json_option
def bench(
    model: str | None,
    batch_sizes: tuple[int, ...],
    min_seconds: float,
    min_runs: int,
    device: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Measure a cold start in its parts, then latency and throughput by batch size; no outlier is dropped.

    \b
    Example: runtime bench -m lenet -b 1 -b 256 --json
    """
    from runtime.bench import COLD_STARTS, measure_bench
    from runtime.classifier import Classifier

    classifier = Classifier(model, device=device, threads=threads)
    say_device(classifier)
    with Bar(f"measuring {classifier.name}", COLD_STARTS + len(batch_sizes)) as bar:
        report = measure_bench(
            classifier,
            threads=threads,
            batch_sizes=batch_sizes,
            min_seconds=min_seconds,
            min_runs=min_runs,
            progress=bar.advance,
        )
    if as_json:
        emit_json(report)
        return
    parts = ", ".join(f"{part.replace('_', ' ')} {value:,.1f}" for part, value in report["cold_start_ms"].items())
    emit(f"{report['model']} on {report['device']}, {report['conditions']['threads']} threads")
    emit(f"cold start, ms: {parts}")
    names = list(report["batches"][0]["latency_ms"])
    emit_table(
        ["batch", "runs", *(f"{name} ms" for name in names), "images/s"],
        [
            [row["batch_size"], row["runs"], *row["latency_ms"].values(), f"{row['images_per_second']:,.0f}"]
            for row in report["batches"]
        ],
        right=["batch", "runs", *(f"{name} ms" for name in names), "images/s"],
    )


@runtime.command(cls=Command)
@click.option("--selftest", is_flag=True, help="Run the book's worked examples on the device and check the answers.")
@device_option
@json_option
def doctor(selftest: bool, device: str, as_json: bool) -> None:
    """Show what this machine can run models on, what stands in the way, and the remedy.

    \b
    Example: runtime doctor --selftest --device cuda
    """
    from runtime.doctor import as_lines, examine, is_healthy

    document, unavailable = examine(device, selftest=selftest)
    if as_json:
        emit_json(document)
    else:
        emit("\n".join(as_lines(document)))
        if document["selftest"]:
            emit_selftest(document["selftest"])
    if unavailable:
        raise unavailable
    if not is_healthy(document):
        raise SystemExit(1)


def emit_selftest(report: dict[str, Any]) -> None:
    """Print how each known answer came out, and what was wrong with those that are."""
    emit_table(
        ["book", "known answer", "result", "largest difference"],
        [
            [
                case["section"],
                case["title"],
                "right" if case["passed"] else "WRONG",
                "-" if case["max_abs_diff"] is None else f"{case['max_abs_diff']:.2g}",
            ]
            for case in report["cases"]
        ],
        right=["largest difference"],
    )
    for case in report["cases"]:
        if not case["passed"]:
            emit(f"{case['name']}: {case['error'] or 'expected {expected}, found {found}'.format(**case)}")
    if report["reason"]:
        note(f"using the CPU: {report['reason']}")
    right = report["n"] - report["failed"]
    emit(f"{right} of {report['n']} known answers right on {report['device']}, in {report['seconds']:.2f} s")


def taken_for(report: Any, index: int) -> str:
    """Return the class that a class is most often mistaken for, with the count."""
    mistakes = report.confusion[index].copy()
    mistakes[index] = 0
    return f"{report.labels[mistakes.argmax()]} ({mistakes.max()})" if mistakes.any() else "-"


def say_device(classifier: Any) -> None:
    """Say on stderr which device `auto` chose, where there was a choice to make and it fell on the CPU."""
    if classifier.device_reason:
        note(f"using the CPU: {classifier.device_reason}")
