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
BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # with which Windows' editors begin a text


def expand(arguments: Sequence[str], *, recursive: bool = False) -> Iterator[str]:
    """Yield the path of every picture that the arguments mean, in order; a folder's files are sorted by name.

    A path that does not exist is yielded as it is: that it is missing belongs in its own answer, beside the others. So
    is a folder that is called like a picture and holds none.

    Raises:
        UsageError: a folder or a list names no pictures, or cannot be read; a pattern matches nothing.
    """
    for argument in arguments:
        if argument.startswith("@") and not os.path.exists(argument):
            yield from _paths(_listed(Path(argument[1:])), recursive)
        else:
            yield from _paths([argument], recursive)


def _paths(arguments: Sequence[str], recursive: bool) -> Iterator[str]:
    for argument in arguments:
        if argument == STDIN:
            yield argument
        elif os.path.isdir(argument):
            yield from _folder(argument, recursive)
        elif glob.has_magic(argument) and "\0" not in argument and not os.path.lexists(argument):
            found = sorted(glob.glob(argument, recursive=True))
            if not found:
                raise UsageError(f"the pattern {argument!r} matches nothing")
            yield from _paths(found, recursive)
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


def _listed(path: Path) -> list[str]:
    """The lines of a list that are neither blank nor remarks; they may end as on Windows, and name anything but lists.

    Only line ends part them: `str.splitlines` would also break at characters that a name may hold.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"the list {path} cannot be read: {error.strerror}") from error
    lines = [os.fsdecode(line.removesuffix(b"\r")) for line in content.removeprefix(BYTE_ORDER_MARK).split(b"\n")]
    named = [line for line in lines if line.strip() and not line.startswith("#")]
    if not named:
        raise UsageError(f"the list {path} names no pictures")
    return named


def _folder(folder: str, recursive: bool) -> Iterator[str]:
    def refuse(error: OSError) -> None:
        if error.filename == folder:
            raise UsageError(f"the folder {folder} cannot be read: {error.strerror}") from error

    found = False
    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders.sort()
        for name in sorted(files):
            if Path(name).suffix.lower() in SUFFIXES:
                found = True
                yield os.path.join(parent, name)
        if not recursive:
            break
    if not found and Path(folder).suffix.lower() in SUFFIXES:
        yield folder
    elif not found:
        hint = "" if recursive else "; use -r to look into its folders too"
        raise UsageError(f"the folder {folder} holds no pictures{hint}")
