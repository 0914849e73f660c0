"""The user's files: where they are (`$ZOO_HOME`), and atomic writes and locks on file systems of all kinds.

Where writing, syncing the file or the rename fails, an error names the file, the older file is whole and nothing new is
left. CIFS, Azure Files, FUSE and network drives lack syncing a folder, locks, or `fsync` altogether ("not supported"):
then the work is done without. No step changes permissions: new files get those of the folder and the umask.
"""

import contextlib
import errno
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from runtime.errors import UsageError

_NO_SUCH_OPERATION = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
_HELD = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES}  # the last on Windows and CIFS
_SECONDS_BETWEEN_ATTEMPTS = 0.05


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
        with _naming(path), os.fdopen(descriptor, "wb") as file:
            yield file
            sync_file(file)
        replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def write_synced(path: Path, content: bytes) -> None:
    """Write a file of a folder that is not in place yet; its bytes reach the disk before this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _naming(path), path.open("wb") as file:
        file.write(content)
        sync_file(file)


def write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` with `content`, atomically."""
    with atomic_write(path) as file:
        file.write(content)


def require_writable(path: Path) -> None:
    """See that `path` can be written before there is anything to write; its folder is made where it is missing."""
    if not _takes_bytes_only(path):
        descriptor, temporary = _open_beside(Path(os.path.realpath(path)))
        os.close(descriptor)
        os.unlink(temporary)


def replace(temporary: Path, path: Path) -> None:
    """Give a whole file its name, and see that the name survives a power cut, where the file system can."""
    try:
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    sync_folder(path.parent)


def sync_file(file: IO[bytes]) -> None:
    """Bring what was written to an open file to the disk; where there is no such operation, to the file system."""
    file.flush()
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in _NO_SUCH_OPERATION:
            raise


def sync_folder(folder: Path) -> None:
    """Make a rename inside `folder` survive a power cut, where the platform and the file system can.

    Never fails: the rename is done, and a folder may be closed to reading, or not be a thing that can be synced.
    """
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def new_folder_beside(path: Path) -> Path:
    """Make an empty folder that may take the name `path` later; the folder around both is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = _name_beside(path)
    try:
        folder.mkdir()
    except OSError as error:
        error.filename = str(path)
        raise
    return folder


@contextlib.contextmanager
def locked(path: Path, busy: Exception | None = None, seconds: float = 0.0) -> Iterator[None]:
    """Hold an exclusive lock between processes. The system lets go of it when a process dies: it is never stale.

    Where the file system has no locks, the block is run without one, and a sentence on stderr says so.

    Args:
        path: the file to lock, made where it is missing, its folder too; it stays.
        busy: what to raise where another process holds the lock; None waits until that one has ended.
        seconds: how long to wait before that.

    Raises:
        OSError: the file cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
    try:
        deadline = time.monotonic() + seconds
        while True:
            try:
                _lock(descriptor)
                break
            except OSError as error:
                if error.errno not in _HELD:
                    sentence = f"{path} cannot be locked ({error.strerror}): going on without a lock, so let no other"
                    print(f"{sentence} process write to {path.parent} meanwhile", file=sys.stderr, flush=True)
                    break
            if busy is not None and time.monotonic() >= deadline:
                raise busy
            time.sleep(_SECONDS_BETWEEN_ATTEMPTS)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    """Take the lock of an open file, or raise OSError at once."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _open_beside(path: Path) -> tuple[int, Path]:
    """Open a new file that may take the name `path` later: in its folder, since no rename leaves a disk."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _name_beside(path, ".part")
        # Permissions are given with the file: a later chmod is refused on some file systems.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        return os.open(temporary, flags, 0o666), temporary
    except OSError as error:
        error.filename = str(path)
        raise


def _name_beside(path: Path, suffix: str = "") -> Path:
    return path.with_name(f".{path.name}.{os.urandom(8).hex()}{suffix}")


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


def home() -> Path:
    """Return `$ZOO_HOME`, or `fashion-zoo` in the platform's folder for user data. Creates nothing.

    Raises:
        UsageError: this user has no home folder and no `$ZOO_HOME`, or it names a user who is not known here.
    """
    if (known := known_home()) is None:
        raise UsageError("this user has no home folder; set $ZOO_HOME to a folder for data, runs and weights")
    return known


def known_home() -> Path | None:
    """Return what `home` does, or None for a user without a home folder, who has no files there to be read."""
    if configured := configured_folder("ZOO_HOME"):
        return configured
    try:
        if os.name == "nt":
            base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
        else:
            base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    except RuntimeError:  # a user without a line in the password file, as in containers, and no $HOME
        return None
    return Path(base) / "fashion-zoo"


def configured_folder(variable: str) -> Path | None:
    """Return the folder that an environment variable names, or None where it is not set.

    Raises:
        UsageError: it begins with the home folder of a user who is not known here.
    """
    if not (value := os.environ.get(variable)):
        return None
    try:
        return Path(value).expanduser()
    except RuntimeError:
        user = Path(value).parts[0]
        raise UsageError(
            f"${variable} is {value!r}, but {user} has no home folder here; write the whole path"
        ) from None
