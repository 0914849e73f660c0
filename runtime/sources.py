"""Which pictures a command line means: files, folders, `-` for stdin, `@list.txt`, patterns that no shell expanded."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.decoding import MAX_FILE_BYTES
from runtime.errors import ImageError, UsageError, quoted

# A folder's files are chosen by name; a file named on the command line is always tried.
SUFFIXES = frozenset(
    [
        ".png",
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".gif",
        ".bmp",
        ".dib",
        ".webp",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".avif",
    ]
)
STDIN = "-"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # with which Windows' editors begin a text


@dataclass(frozen=True)
class Nothing:
    """A source that means no picture, as it was typed or found, and why: a folder, a list or a pattern."""

    source: str
    error: ImageError


def expand(arguments: Sequence[str], *, recursive: bool = False) -> Iterator[str | Nothing]:
    """Yield the path of every picture that the arguments mean, in order; a folder's files are sorted by name.

    A path that does not exist is yielded as it is: that it is missing belongs in its own answer, beside the others. So
    is a folder that is called like a picture and holds none. What means no picture is yielded as `Nothing`.

    Raises:
        UsageError: all of them mean none: each folder or list names no pictures, or cannot be read; each pattern
            matches nothing. The sentence is the first one's.
    """
    first: Nothing | None = None
    some = False
    for argument in arguments:
        listed = argument.startswith("@") and not os.path.exists(argument)
        for found in _listed(argument, recursive) if listed else _meant(argument, recursive):
            if isinstance(found, Nothing):
                first = first or found
            else:
                some = True
            yield found
    if first and not some:
        raise UsageError(str(first.error)) from first.error


def _meant(argument: str, recursive: bool) -> Iterator[str | Nothing]:
    if argument == STDIN:
        yield argument
    elif os.path.isdir(argument):
        yield from _folder(argument, recursive)
    elif glob.has_magic(argument) and "\0" not in argument and not os.path.lexists(argument):
        found = sorted(glob.glob(argument, recursive=True))
        if not found:
            yield Nothing(argument, ImageError("missing", f"the pattern {quoted(argument)} matches nothing"))
        for path in found:
            yield from _meant(path, recursive)
    else:
        yield argument


def read_stdin() -> bytes:
    """Return one picture from stdin, with a byte more than is allowed where there is more; b"" where it is closed."""
    if sys.stdin is None:
        return b""
    try:
        return sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
    except OSError:  # opened for writing alone, or a terminal that is gone
        return b""


def _listed(argument: str, recursive: bool) -> Iterator[str | Nothing]:
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
    lines = [os.fsdecode(line.removesuffix(b"\r")) for line in content.removeprefix(BYTE_ORDER_MARK).split(b"\n")]
    named = [line for line in lines if line.strip() and not line.startswith("#")]
    if not named:
        yield Nothing(argument, ImageError("empty", f"the list {path} names no pictures"))
    for line in named:
        yield from _meant(line, recursive)


def _folder(folder: str, recursive: bool) -> Iterator[str | Nothing]:
    refused: list[OSError] = []
    found = False
    for parent, folders, files in os.walk(folder, onerror=refused.append):
        folders.sort()
        for name in sorted(files):
            if Path(name).suffix.lower() in SUFFIXES:
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
        yield Nothing(folder, ImageError("empty", f"the folder {folder} holds no pictures{hint}"))
