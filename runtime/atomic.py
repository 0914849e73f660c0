"""Writes that either happen whole or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Yield a binary file that becomes `path` when the block ends well, and vanishes when it does not.

    The bytes reach the disk before the name does, so a crash leaves the old file or the new one, never half of one.
    Of a symbolic link the target is replaced. A pipe or a device is written to as the bytes come, and stays one.

    Raises:
        OSError: the folder cannot be written or the disk is full; `path` is as it was. The error names the file.
    """
    if _takes_bytes_only(path):
        with _naming(path), path.open("wb") as file:
            yield file
        return
    path = Path(os.path.realpath(path))
    descriptor, temporary = _open_beside(path)
    try:
        with _naming(path):
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    sync_folder(path.parent)


def write_synced(path: Path, content: bytes) -> None:
    """Write a file of a folder that is not in place yet; its bytes reach the disk before this returns.

    Raises:
        OSError: it cannot be written; the error names the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _naming(path), path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` with `content`, atomically."""
    with atomic_write(path) as file:
        file.write(content)


def require_writable(path: Path) -> None:
    """See that `path` can be written before there is anything to write; its folder is made where it is missing.

    Raises:
        OSError: the folder takes no file; the error names the one asked for.
    """
    if not _takes_bytes_only(path):
        descriptor, temporary = _open_beside(Path(os.path.realpath(path)))
        os.close(descriptor)
        os.unlink(temporary)


def sync_folder(folder: Path) -> None:
    """Make a rename inside `folder` survive a power cut, where the platform can."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open_beside(path: Path) -> tuple[int, str]:
    """Open a new file that may take the name `path` later: in its folder, since no rename leaves a disk."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    except OSError as error:
        error.filename = str(path)
        raise


def _takes_bytes_only(path: Path) -> bool:
    """Whether something is at `path` that no file may replace: a pipe, a device, a folder, a link to itself."""
    target = Path(os.path.realpath(path))  # of /dev/stdout on a pipe, a name that exists nowhere
    return not target.is_file() and (path.exists() or target.is_symlink())


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Give an error that names no file, as that of a full disk, the name of this one."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
