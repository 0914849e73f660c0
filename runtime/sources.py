"""Which pictures a command line means: files, folders, `-` for stdin, `@list.txt`, patterns that no shell expanded."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from runtime.decoding import MAX_FILE_BYTES
from runtime.errors import UsageError

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


def expand(arguments: Sequence[str], *, recursive: bool = False) -> Iterator[str]:
    """Yield the path of every picture that the arguments mean, in order; a folder's files are sorted by name.

    A path that does not exist is yielded as it is: that it is missing belongs in its own answer, beside the others.

    Raises:
        UsageError: a folder holds no pictures, or a list cannot be read.
    """
    for argument in arguments:
        if argument == STDIN:
            yield argument
        elif argument.startswith("@") and not os.path.exists(argument):
            yield from expand(_listed(Path(argument[1:])), recursive=recursive)
        elif os.path.isdir(argument):
            yield from _folder(argument, recursive)
        elif not os.path.lexists(argument) and glob.has_magic(argument):
            found = sorted(glob.glob(argument, recursive=True))
            if not found:
                raise UsageError(f"the pattern {argument!r} matches nothing")
            yield from expand(found, recursive=recursive)
        else:
            yield argument


def read_stdin() -> bytes:
    """Return one picture from stdin, and a byte more than is allowed where there is more."""
    return sys.stdin.buffer.read(MAX_FILE_BYTES + 1)


def _listed(path: Path) -> list[str]:
    try:
        lines = os.fsdecode(path.read_bytes()).splitlines()
    except OSError as error:
        raise UsageError(f"the list {path} cannot be read: {error.strerror}") from error
    return [line for line in lines if line.strip() and not line.startswith(("@", "#"))]


def _folder(folder: str, recursive: bool) -> Iterator[str]:
    found = False
    for parent, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            if Path(name).suffix.lower() in SUFFIXES:
                found = True
                yield os.path.join(parent, name)
        if not recursive:
            break
    if not found:
        hint = "" if recursive else "; use -r to look into its folders too"
        raise UsageError(f"the folder {folder} holds no pictures{hint}")
