"""Download Fashion-MNIST from a public mirror, or take it out of the Debian package.

What arrives goes into the project's cache, and takes its final name only after its checksum was checked. `progress` is
called with what is being fetched, the bytes so far and the bytes in all (None where unknown); drawing is the caller's.
"""

import http.client
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from runtime.datasets import debian_package
from runtime.datasets.fashion_mnist import (
    ENVIRONMENT_VARIABLE,
    PACKAGE,
    SYSTEM_FOLDER,
    IdxFile,
    Location,
    Split,
    cache_folder,
    files_of,
    find,
    read_idx,
)
from runtime.errors import DatasetError
from runtime.storage import locked, replace, sync_file, write_bytes

Progress = Callable[[str, int, int | None], None]

MIRRORS = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",  # the mirror torchvision uses
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",  # the source
)
TIMEOUT_SECONDS = 5  # of silence; while connecting, for each address of the host
ATTEMPTS = 5  # at one file from one mirror, as long as each brings it further
BLOCK_BYTES = 1 << 16


def ensure(split: Split | None = None, progress: Progress | None = None, mirrors: Sequence[str] = MIRRORS) -> Location:
    """Return where `split` (None: the whole release) is, after fetching the files that this machine lacks.

    What is found is not read (`load` and `verify` check it); what is fetched is checked here.

    Raises:
        DatasetError: no route worked (the sentence says what each one said), or $FASHION_MNIST_DIR lacks a file.
    """
    if found := find(split):
        return found
    folder = cache_folder()
    try:
        with locked(folder / ".lock"):
            # Another process may have fetched it while this one waited for the lock.
            return find(split) or _fetch(files_of(split), folder, progress or (lambda *_: None), mirrors)
    except OSError as error:
        raise DatasetError(f"Fashion-MNIST cannot be stored in {folder}: {error}; set $ZOO_HOME elsewhere") from error


def _fetch(wanted: Sequence[IdxFile], folder: Path, progress: Progress, mirrors: Sequence[str]) -> Location:
    refusals = []
    for mirror in mirrors:
        try:
            for file in _lacking(wanted, folder):
                _download(f"{mirror}{file.name}.gz", folder / f"{file.name}.gz", file, progress)
            return Location(folder, "mirror")
        except DatasetError as error:
            refusals.append(f"{mirror} ({error})")
    try:
        _take_from_package(wanted, folder, progress)
        return Location(folder, "apt")
    except DatasetError as error:
        refusals.append(f"apt-get download {PACKAGE} ({error})")
    raise DatasetError(
        f"Fashion-MNIST is neither in {folder} nor in {SYSTEM_FOLDER}, and no source gave it: {', '.join(refusals)}; "
        f"install the package {PACKAGE}, or set ${ENVIRONMENT_VARIABLE} to a folder with the four files"
    )


def _download(url: str, target: Path, expected: IdxFile, progress: Progress) -> None:
    """Write the content of `url` to `target`, through a `.part` file that later attempts, and later runs, continue."""
    part = target.with_name(f"{target.name}.part")
    for _ in range(ATTEMPTS):
        held = _size(part)
        try:
            _continue(url, part, expected, progress)
            read_idx(part, expected)
        except ConnectionError as interruption:
            reason = str(interruption)
            if _size(part) == held:
                break
        except DatasetError as refusal:
            reason = str(refusal)
            part.unlink()
            if not held:  # All of it came from this mirror just now: asking again would bring the same.
                break
        else:
            replace(part, target)
            return
    raise DatasetError(reason)


def _continue(url: str, part: Path, expected: IdxFile, progress: Progress) -> None:
    """Append to `part` the bytes of `url` that it lacks; start over where the server cannot continue.

    Raises:
        ConnectionError: the mirror did not answer, or stopped in the middle; `part` keeps what arrived.
        DatasetError: more is coming than the file can hold.
    """
    held = _size(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={held}-"} if held else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # `part` is as long as the file, or longer: the checksum decides which
        raise ConnectionError(f"HTTP {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise ConnectionError(str(getattr(error, "reason", None) or error)) from error
    with response:
        # A server that knows no ranges answers 200 and sends all of it. One that gets them wrong fails the checksum.
        continues = response.status == http.HTTPStatus.PARTIAL_CONTENT
        done = held if continues else 0
        total = None if response.length is None else done + response.length
        with part.open("ab" if continues else "wb") as file:
            for block in _blocks(response):
                done += len(block)
                if done > expected.size:  # compressed, it is smaller than that
                    raise DatasetError(f"it sends more than the {expected.size} bytes of {expected.name}")
                file.write(block)
                progress(f"{expected.name}.gz", done, total)
            sync_file(file)
    if total is not None and done < total:
        raise ConnectionError(f"the connection broke after {done} of {total} bytes of {expected.name}.gz")


def _blocks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """Yield the body as it comes, so that a break loses nothing that came before it."""
    try:
        while block := response.read1(BLOCK_BYTES):
            yield block
    except (OSError, http.client.HTTPException) as error:
        raise ConnectionError(f"the connection broke: {error}") from error


def _take_from_package(wanted: Sequence[IdxFile], folder: Path, progress: Progress) -> None:
    """Copy the files that `folder` lacks out of the distribution's package, which is fetched and not installed."""
    progress(PACKAGE, 0, None)
    with tempfile.TemporaryDirectory(prefix="fashion-mnist-") as scratch:
        unpacked = debian_package.unpack(PACKAGE, Path(scratch)) / SYSTEM_FOLDER.relative_to(SYSTEM_FOLDER.anchor)
        for file in _lacking(wanted, folder):
            if (path := file.path_in(unpacked)) is None:
                raise DatasetError(f"the package has no {file.name}")
            read_idx(path, file)
            write_bytes(folder / path.name, path.read_bytes())


def _lacking(wanted: Sequence[IdxFile], folder: Path) -> list[IdxFile]:
    return [file for file in wanted if file.path_in(folder) is None]


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
