"""`runtime predict`: parse, make one library call, print. Only Click is imported until it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from runtime.console import Bar, Command, emit, emit_json, json_option, note
from runtime.options import batch_size_option, device_option, model_option, say_device, tf32_option, threads_option


@click.command(cls=Command)
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
@click.option("--show", type=click.Path(dir_okay=False), metavar="OUT.png", help="Write what the network saw.")
@click.option("--jsonl", is_flag=True, help="Print one JSON object a line, as results come.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, as results come.")
@batch_size_option
@device_option
@tf32_option
@threads_option
@json_option
def predict(
    sources: tuple[str, ...],
    model: str | None,
    recursive: bool,
    topk: int,
    invert: Any,
    fit: Any,
    show: str | None,
    jsonl: bool,
    as_csv: bool,
    batch_size: int,
    device: str,
    tf32: bool,
    threads: int | None,
    as_json: bool,
) -> None:
    """Say what each PICTURE shows: files, folders, patterns, - for stdin, @list.txt for a list of paths.

    A picture that cannot be read is reported, the others are still answered, and the command exits with 1.

    \b
    Example: runtime predict shoe.png photos/ --json
             runtime predict shoe.png --show seen.png
    """
    if as_json + jsonl + as_csv > 1:
        raise click.UsageError("--json, --jsonl and --csv exclude each other")
    if show is not None:
        from runtime.storage import require_writable

        require_writable(Path(show))
    from runtime import prediction
    from runtime.classifier import Classifier
    from runtime.errors import ImageError
    from runtime.sources import STDIN, Nothing, expand, read_stdin

    found = list(expand(sources, recursive=recursive))
    classifier = Classifier(model, device=device, threads=threads, tf32=tf32)
    say_device(classifier)
    documents, failures = [], 0
    seen: list[Any] = []
    if as_csv:
        emit(prediction.as_csv(prediction.CSV_COLUMNS))
    pictures: Any = (read_stdin() if name == STDIN else name for name in found if not isinstance(name, Nothing))
    if show is not None:
        from runtime.sheet import recorded

        pictures = recorded(pictures, seen, invert, fit)
    stream = classifier.stream(pictures, batch_size, topk=topk, invert=invert, fit=fit, return_errors=True)
    with Bar("predicting", len(found) if len(found) > batch_size else None) as bar:
        for item in found:
            name, answer = (item.source, item.error) if isinstance(item, Nothing) else (item, next(stream))
            bar.advance()
            failed = isinstance(answer, ImageError)
            failures += failed
            if as_json:
                documents.append(prediction.as_dict(name, answer))
            elif jsonl:
                emit_json(prediction.as_dict(name, answer), indent=None)
            elif as_csv:
                emit(prediction.as_csv(prediction.csv_row(name, answer)))
            elif isinstance(answer, ImageError):
                note(f"Error: {answer}")
            else:
                emit(prediction.as_line(name, answer))
    if as_json:
        emit_json(documents)
    if show is not None:
        from runtime.sheet import write_sheet

        note(write_sheet(seen, show))
    if failures:
        if len(found) > 1:
            note(f"{failures} of {len(found)} pictures could not be read")
        raise SystemExit(1)
