"""Read Fashion-MNIST, clean release only: where its four files are, and what they hold.

The files are IDX, gzipped or plain. Each is checked by the sha256 of its decompressed content, so a mirror may compress
it as it likes (Debian does), and not one pixel may differ. Nothing here touches the network;
`runtime.datasets.download` does. N images of H x W = 28 x 28 grey pixels, light garment on black, in K = 10 classes.
"""

import hashlib
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from runtime.errors import DatasetError, UsageError
from runtime.storage import configured_folder, home, known_home

Split = Literal["train", "test"]
Origin = Literal["environment", "cache", "system", "mirror", "apt"]

LABELS = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
SIDE = 28  # pixels

ENVIRONMENT_VARIABLE = "FASHION_MNIST_DIR"
PACKAGE = "dataset-fashion-mnist"
SYSTEM_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # where Debian and Ubuntu install PACKAGE


@dataclass(frozen=True)
class IdxFile:
    """One file of the release: an array of unsigned bytes behind an IDX header."""

    name: str
    shape: tuple[int, ...]
    sha256: str  # of the decompressed file, header included

    @property
    def header(self) -> bytes:
        """Two zeros, the type code of unsigned bytes, the rank, then each dimension as a big-endian int32."""
        return bytes([0, 0, 0x08, len(self.shape)]) + np.array(self.shape, dtype=">i4").tobytes()

    @property
    def size(self) -> int:
        """Bytes of the decompressed file."""
        return len(self.header) + math.prod(self.shape)

    def path_in(self, folder: Path) -> Path | None:
        """Return the file's path in `folder`, plain before gzip (it reads faster), or None where it is missing."""
        candidates = (folder / self.name, folder / f"{self.name}.gz")
        return next((path for path in candidates if path.is_file()), None)


FILES: dict[Split, tuple[IdxFile, IdxFile]] = {  # images, labels
    "train": (
        IdxFile(
            "train-images-idx3-ubyte",
            (60000, SIDE, SIDE),
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        ),
        IdxFile(
            "train-labels-idx1-ubyte",
            (60000,),
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        ),
    ),
    "test": (
        IdxFile(
            "t10k-images-idx3-ubyte",
            (10000, SIDE, SIDE),
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        ),
        IdxFile(
            "t10k-labels-idx1-ubyte",
            (10000,),
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    ),
}


def files_of(split: Split | None) -> tuple[IdxFile, ...]:
    """Return the files that `split` needs; None means the whole release.

    Raises:
        UsageError: there is no such split.
    """
    if split is None:
        return FILES["train"] + FILES["test"]
    if split not in FILES:
        raise UsageError(f"Fashion-MNIST has no split {split!r}; it has 'train' and 'test'")
    return FILES[split]


@dataclass(frozen=True)
class Location:
    """A folder that holds the files asked for, and how it was come by."""

    folder: Path
    origin: Origin


def cache_folder() -> Path:
    """Return the folder that downloads go to. Raises what `runtime.storage.home` does."""
    return home() / "data"


def find(split: Split | None = None) -> Location | None:
    """Return the first place that holds every file of `split` (None: of both), or None. Contents are not read.

    The order is $FASHION_MNIST_DIR, the project's cache, the Debian package. Whoever sets the variable means that
    folder and no other, so it is an error for it to lack a file.

    Raises:
        DatasetError: $FASHION_MNIST_DIR is set, but a file is missing there.
        UsageError: that variable, or $ZOO_HOME, begins with the home folder of a user who is not known here.
    """
    wanted = files_of(split)
    if folder := configured_folder(ENVIRONMENT_VARIABLE):
        for file in wanted:
            _path(folder, file)
        return Location(folder, "environment")
    return next((place for place in _places() if all(file.path_in(place.folder) for file in wanted)), None)


def _places() -> list[Location]:
    """Where the files may be if no variable says so; a user without a home folder has no cache."""
    cache = [Location(cache_folder(), "cache")] if known_home() else []
    return [*cache, Location(SYSTEM_FOLDER, "system")]


def verify(folder: Path, split: Split | None = None) -> None:
    """Check every file of `split` (None: of both) in `folder` by its checksum.

    Raises:
        DatasetError: a file is missing, truncated, foreign or of another release; the sentence names it.
    """
    for file in files_of(split):
        _read_in(folder, file)


def load(split: Split, folder: Path | None = None) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return the images and labels of a split, checked, from `folder` or from the place that `find` names.

    Returns:
        images: uint8 (N, 1, 28, 28), and labels: uint8 (N,) in 0..9, as the files hold them. Both are writable, so
        that `torch.from_numpy` takes them as they are. N is 60000 for "train" and 10000 for "test".

    Raises:
        DatasetError: the split is nowhere on this machine, or a file of it is refused; the sentence names it.
    """
    images, labels = files_of(split)
    if folder is None:
        if (found := find(split)) is None:
            places = " or ".join(str(place.folder) for place in _places())
            raise DatasetError(
                f"the {split} split of Fashion-MNIST is not in {places}, and "
                f"${ENVIRONMENT_VARIABLE} is not set; run `zoo data` to get it"
            )
        folder = found.folder
    return _read_in(folder, images)[:, np.newaxis], _read_in(folder, labels)


def read_idx(path: Path, expected: IdxFile) -> npt.NDArray[np.uint8]:
    """Return the array in `path`, uint8 of `expected.shape`, if its content is exactly that of `expected`.

    Raises:
        DatasetError: it is not; the sentence names the file, but not its folder.
        OSError: the file cannot be read.
    """
    content = _content(path, expected.size + 1)
    if not expected.header.startswith(content[: len(expected.header)]):
        raise DatasetError(f"{path.name} should be {_described(expected.header)}, but is {_described(content)}")
    if len(content) < expected.size:
        raise DatasetError(f"{path.name} is truncated: it holds {len(content)} of {expected.size} bytes")
    if len(content) > expected.size:
        raise DatasetError(f"{path.name} holds more than the {expected.size} bytes of the clean release")
    if (digest := hashlib.sha256(content).hexdigest()) != expected.sha256:
        raise DatasetError(
            f"{path.name} is damaged or of another release than the clean one: the sha256 of its content is "
            f"{digest}, not {expected.sha256}"
        )
    # A copy, because an array over `bytes` is read-only.
    return np.frombuffer(content, dtype=np.uint8, offset=len(expected.header)).reshape(expected.shape).copy()


def _content(path: Path, limit: int) -> bytes:
    """Return the file, decompressed, but little more than `limit` bytes of it: a gzip bomb stops there.

    Gzip is known by its first bytes and not by the name, since browsers decompress what they save under `.gz`.
    """
    with path.open("rb") as file:
        stored = file.read(2 * limit)  # gzip without compression is a little larger than its content
    if not stored.startswith(b"\x1f\x8b"):
        return stored
    decoder = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)  # 16 asks for the gzip container and its CRC-32
    try:
        return decoder.decompress(stored, limit)
    except zlib.error as error:
        raise DatasetError(f"{path.name} is damaged: {error}") from error


def _described(content: bytes) -> str:
    """Say what the first bytes of a file promise."""
    if len(content) < 4 or content[:3] != b"\0\0\x08" or len(content) < 4 + 4 * content[3]:
        return f"no IDX file of unsigned bytes (it starts with {content[:4].hex(' ')})"
    shape = np.frombuffer(content, dtype=">i4", count=content[3], offset=4)
    return f"IDX of shape {tuple(shape.tolist())}"


def _read_in(folder: Path, file: IdxFile) -> npt.NDArray[np.uint8]:
    path = _path(folder, file)
    try:
        return read_idx(path, file)
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}") from error
    except DatasetError as error:
        raise DatasetError(f"in {folder}, {error}; {_remedy(folder)}") from error


def _path(folder: Path, file: IdxFile) -> Path:
    if path := file.path_in(folder):
        return path
    raise DatasetError(f"{folder} has neither {file.name} nor {file.name}.gz; {_remedy(folder)}")


def _remedy(folder: Path) -> str:
    if folder == configured_folder(ENVIRONMENT_VARIABLE):
        return f"correct ${ENVIRONMENT_VARIABLE}, which names that folder, or unset it and run `zoo data`"
    return f"remove what is wrong there and run `zoo data`, or set ${ENVIRONMENT_VARIABLE} to a folder with the files"
