"""`runtime predict`: which pictures the arguments mean, one library call, the output.

Only Click is imported until it runs.
"""

import glob
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
    json_option,
    model_option,
    note,
    open_classifier,
)
from runtime.errors import ImageError, UsageError, quoted

STDIN = "-"
# With which Windows' editors, and PowerShell's `>`, begin a text, and the encoding each stands for.
BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}


@click.command(cls=Command)
@click.argument("sources", nargs=-1, required=True, metavar="PICTURE...")
@model_option
@click.option("--recursive", "-r", is_flag=True, help="Look into the folders of a folder, too.")
@click.option("--topk", type=click.IntRange(1), default=3, show_default=True, help="How many classes to name.")
@click.option(
    "--invert",
    type=click.Choice(["auto", "yes", "no"]),
    help="Of garments: whether to swap light and dark; auto does for a light background.  [default: auto]",
)
@click.option(
    "--fit",
    type=click.Choice(["auto", "exact", "catalogue"]),
    help="Of garments: how a picture becomes what the network sees.  [default: auto]",
)
@click.option("--show", type=click.Path(dir_okay=False), metavar="OUT.png", help="Write what the network saw.")
@click.option("--jsonl", is_flag=True, help="Print one JSON object a line, as results come.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, as results come.")
@batch_size_option
@compute_options
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
    batch_size: int | None,
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
             runtime predict -m path/to/model.onnx photo.jpg --topk 5
    """
    if as_json + jsonl + as_csv > 1:
        raise click.UsageError("--json, --jsonl and --csv exclude each other")
    if show is not None:
        from runtime.storage import require_writable

        require_writable(Path(show))
    from runtime import prediction

    passed_over: Counter[str] = Counter()
    found = list(expand(sources, recursive=recursive, passed_over=passed_over))
    if passed_over:
        from runtime.imaging.folder import passed_over_sentence

        note(passed_over_sentence(passed_over))
    classifier = open_classifier(model, device, threads, tf32)
    # What is below the threshold of its score, as a sentence has it.
    garments = classifier.metadata.input.preprocess == "garment"
    subject = "a garment" if garments else "what this model was trained on"
    documents, failures = [], 0
    seen: list[Any] = []
    if as_csv:
        emit(prediction.as_csv(prediction.CSV_COLUMNS))
    pictures: Any = (read_stdin() if name == STDIN else name for name in found if not isinstance(name, Nothing))
    if show is not None:
        from functools import partial

        from runtime.imaging.contact_sheet import recorded
        from runtime.pipeline import preprocess

        pictures = recorded(pictures, partial(preprocess, spec=classifier.input, invert=invert, fit=fit), seen)
    stream = classifier.stream(pictures, batch_size, topk=topk, invert=invert, fit=fit, return_errors=True)
    with Bar("predicting", len(found) if len(found) > (batch_size or classifier.batch_size) else None) as bar:
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
                emit(prediction.as_line(name, answer, subject))
    if as_json:
        emit_json(documents)
    if show is not None:
        from runtime.imaging.contact_sheet import write_sheet

        note(write_sheet(seen, show))
    if failures:
        if len(found) > 1:
            note(f"{failures} of {len(found)} pictures could not be read")
        raise SystemExit(1)


@dataclass(frozen=True)
class Nothing:
    """A source that means no picture, as it was typed or found, and why: a folder, a list or a pattern."""

    source: str
    error: ImageError


def expand(
    arguments: Sequence[str], *, recursive: bool = False, passed_over: Counter[str] | None = None
) -> Iterator[str | Nothing]:
    """Yield the path of every picture that the arguments mean, in order; a folder's files are sorted by name.

    `passed_over` counts the suffixes of files in folders that are no pictures, but for those that systems leave there.

    A path that does not exist is yielded as it is: that it is missing belongs in its own answer, beside the others. So
    is a folder that is called like a picture and holds none. What means no picture is yielded as `Nothing`.

    Raises:
        UsageError: all of them mean none: each folder or list names no pictures, or cannot be read; each pattern
            matches nothing. The sentence is the first one's.
    """
    passed_over = Counter() if passed_over is None else passed_over
    first: Nothing | None = None
    some = False
    for argument in arguments:
        listed = argument.startswith("@") and not os.path.exists(argument)
        for found in _listed(argument, recursive, passed_over) if listed else _meant(argument, recursive, passed_over):
            if isinstance(found, Nothing):
                first = first or found
            else:
                some = True
            yield found
    if first and not some:
        raise UsageError(str(first.error)) from first.error


def _meant(argument: str, recursive: bool, passed_over: Counter[str]) -> Iterator[str | Nothing]:
    if argument == STDIN:
        yield argument
    elif os.path.isdir(argument):
        yield from _folder(argument, recursive, passed_over)
    elif glob.has_magic(argument) and "\0" not in argument and not os.path.lexists(argument):
        found = sorted(glob.glob(argument, recursive=True))
        if not found:
            yield Nothing(argument, ImageError("missing", f"the pattern {quoted(argument)} matches nothing"))
        for path in found:
            yield from _meant(path, recursive, passed_over)
    else:
        yield argument


def read_stdin() -> bytes:
    """Return one picture from stdin, with a byte more than is allowed where there is more; b"" where it is closed."""
    from runtime.imaging.load import MAX_FILE_BYTES

    if sys.stdin is None:
        return b""
    try:
        return sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
    except OSError:  # opened for writing alone, or a terminal that is gone
        return b""


def _listed(argument: str, recursive: bool, passed_over: Counter[str]) -> Iterator[str | Nothing]:
    """What the lines of a list mean that are neither blank nor remarks; they may end as on Windows.

    They may name anything but lists. Only line ends part them: `str.splitlines` would also break at characters that a
    name may hold.
    """
    path = argument[1:]
    try:
        content = Path(path).read_bytes()
    except (OSError, ValueError) as error:  # a name with a null byte in it
        kind = "missing" if isinstance(error, FileNotFoundError) else "unreadable"
        reason = getattr(error, "strerror", None) or error
        yield Nothing(argument, ImageError(kind, f"the list {path} cannot be read: {reason}"))
        return
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if content.startswith(mark):
            text = content.removeprefix(mark)
            content = text if encoding == "utf-8" else os.fsencode(text.decode(encoding, "replace"))
            break
    lines = [os.fsdecode(line.removesuffix(b"\r")) for line in content.split(b"\n")]
    named = [line for line in lines if line.strip() and not line.startswith("#")]
    if not named:
        yield Nothing(argument, ImageError("empty", f"the list {path} names no pictures"))
    for line in named:
        yield from _meant(line, recursive, passed_over)


def _folder(folder: str, recursive: bool, passed_over: Counter[str]) -> Iterator[str | Nothing]:
    from runtime.imaging.folder import is_litter, is_picture, passed_over_sentence
    from runtime.imaging.load import SUFFIXES

    refused: list[OSError] = []
    found = False
    for parent, folders, files in os.walk(folder, onerror=refused.append):
        folders[:] = sorted(name for name in folders if not is_litter(name))
        for name in sorted(files):
            if is_picture(name, passed_over):
                found = True
                yield os.path.join(parent, name)
        if not recursive:
            break
    for error in refused:
        sentence = f"the folder {error.filename} cannot be read: {error.strerror}"
        yield Nothing(error.filename, ImageError("unreadable", sentence))
    if found or refused:
        return
    if Path(folder).suffix.lower() in SUFFIXES:
        yield folder
    else:
        hint = "" if recursive else "; use -r to look into its folders too"
        skipped = passed_over_sentence(passed_over)
        hint += f"; {skipped}" if skipped else ""
        yield Nothing(folder, ImageError("empty", f"the folder {folder} holds no pictures{hint}"))
