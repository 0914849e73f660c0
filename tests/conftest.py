"""Fixtures that several tests share."""

import gzip
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from support.mirror import GZ, LABELS, Mirror
from support.running_server import RunningServer, require_serve

from runtime.datasets import download, fashion_mnist
from runtime.errors import DatasetError


@pytest.fixture(scope="session", autouse=True)
def heeded_interrupts() -> Iterator[None]:
    """What a shell starts in the background ignores Ctrl-C and hands that on; programs tested here are sent some."""
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if ignored:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    if ignored:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


@pytest.fixture(scope="session")
def fashion_mnist_dir() -> Path:
    """A folder with the four files of the clean release, verified; fetched where this machine lacks them."""
    try:
        folder = download.ensure().folder
    except DatasetError as error:
        pytest.skip(str(error))
    fashion_mnist.verify(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def own_home(fashion_mnist_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An empty `$ZOO_HOME`: what the user of this machine has trained and exported is neither seen nor touched."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASHION_MNIST_DIR", str(fashion_mnist_dir))
        patch.setenv("ZOO_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="session")
def test_images(fashion_mnist_dir: Path) -> npt.NDArray[np.uint8]:
    """uint8 (10000, 28, 28); shared, so read-only."""
    images = fashion_mnist.load("test", fashion_mnist_dir)[0][:, 0]
    images.flags.writeable = False
    return images


@pytest.fixture
def shirt(test_images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """One data set image with all sorts of greys, uint8 (28, 28)."""
    return np.asarray(test_images[1])


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)


@pytest.fixture(scope="session")
def test_labels(fashion_mnist_dir: Path) -> npt.NDArray[np.uint8]:
    """uint8 (10000,); shared, so read-only."""
    labels = fashion_mnist.load("test", fashion_mnist_dir)[1]
    labels.flags.writeable = False
    return labels


@pytest.fixture(scope="session")
def plain_test_split(fashion_mnist_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the two files of the test split, decompressed."""
    folder = tmp_path_factory.mktemp("plain_test_split")
    for file in fashion_mnist.FILES["test"]:
        path = file.path_in(fashion_mnist_dir)
        assert path is not None
        stored = path.read_bytes()
        (folder / file.name).write_bytes(gzip.decompress(stored) if path.suffix == ".gz" else stored)
    return folder


@pytest.fixture
def mirror(plain_test_split: Path) -> Iterator[Mirror]:
    """A mirror that has the test labels, which are the smallest file."""
    with Mirror({GZ: gzip.compress((plain_test_split / LABELS).read_bytes())}) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.hangs_up.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `$ZOO_HOME` of this test's own."""
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def picture_folder(tmp_path: Path, test_images: npt.NDArray[np.uint8]) -> Path:
    """A folder: three good pictures, a bad one, a text file, and a folder with one more picture."""
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    for index in range(3):
        Image.fromarray(test_images[index]).save(folder / f"{index}.png")
    (folder / "bad.png").write_bytes(b"not a picture")
    (folder / "notes.txt").write_text("not a picture, and not called one")
    Image.fromarray(255 - test_images[3]).resize((280, 280)).convert("RGB").save(folder / "more" / "photo.jpg")
    return folder


@pytest.fixture
def bare_machine(fashion_mnist_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without Fashion-MNIST, and with no way to it: no variable, an empty home, no Debian package, no apt.

    It asks for `fashion_mnist_dir` only for that to be found before the machine is bare.
    """
    monkeypatch.delenv("FASHION_MNIST_DIR", raising=False)
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    for module in (fashion_mnist, download):
        monkeypatch.setattr(module, "SYSTEM_FOLDER", tmp_path / "usr" / "share" / "datasets" / "fashion-mnist")


@pytest.fixture(scope="session")
def server(own_home: None) -> Iterator[RunningServer]:
    """A server of both models that ship, for all tests that leave it as it was."""
    require_serve()
    with RunningServer("-m", "lenet", "-m", "lenet-modern", "--max-body", "1", "--read-timeout", "1.5") as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The machine's Chromium, driven by playwright. Not for the session: while it is open, asyncio.run is refused."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright drives the browser: pip install playwright"
    )
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no chromium on the PATH (Debian: apt-get install chromium)")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=chromium, args=flags)
        yield opened
        opened.close()
