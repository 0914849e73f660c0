"""File systems that offer less: what is written there is whole, or one sentence says why it is not written at all."""

import builtins
import errno
import fcntl
import functools
import io
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.command_line import ROOT, call

from export.bundle.artifact import write_artifact
from export.deploy import web
from export.deploy.triton import write_triton
from runtime.cli import fetch
from runtime.datasets import fashion_mnist
from runtime.datasets.download import ensure
from runtime.model.registry import find_model, read_index
from runtime.storage import locked, new_folder_beside, write_bytes
from zoo.data.dataset import LabelledImages, load_split
from zoo.publishing import publish
from zoo.runs import run
from zoo.runs.folder import RunFolder

pytestmark = pytest.mark.slow

CHECKPOINT = ROOT / "weights" / "lenet" / "checkpoint.safetensors"
TRAIN = ["zoo", "train", "lenet", "--recipe", "d2l", "--epochs", "1", "--device", "cpu"]
Patch = pytest.MonkeyPatch
load_once = functools.cache(load_split)
load_arrays = functools.cache(fashion_mnist.load)


def refusing(number: int) -> Callable[..., Any]:
    def refuse(*arguments: Any, **_: Any) -> Any:
        name = next((os.fspath(path) for path in arguments if isinstance(path, str | os.PathLike)), None)
        raise OSError(number, os.strerror(number), *([name] if name else []))

    return refuse


def no_folder_is_synced(patch: Patch) -> None:
    fsync = os.fsync

    def files_only(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    patch.setattr(os, "fsync", files_only)


def no_folder_can_be_opened(patch: Patch) -> None:
    """As where a folder may be written to and searched, but not read; and as on Windows."""
    os_open = os.open

    def files_only(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if not more and Path(path).is_dir():  # rmtree, which says `dir_fd`, empties folders that can be read
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return os_open(path, flags, *rest, **more)

    patch.setattr(os, "open", files_only)


def nothing_is_synced(patch: Patch) -> None:
    patch.setattr(os, "fsync", refusing(errno.ENOSYS))


def no_permissions_links_or_times(patch: Patch) -> None:
    for name in ("chmod", "fchmod", "lchmod", "chown", "link", "utime", "umask"):
        if hasattr(os, name):
            patch.setattr(os, name, refusing(errno.EPERM))


def no_locks(number: int) -> Callable[[Patch], None]:
    def install(patch: Patch) -> None:
        for name in ("flock", "lockf", "fcntl"):
            patch.setattr(fcntl, name, refusing(number))

    return install


def everything_less(patch: Patch) -> None:
    for install in (no_folder_is_synced, no_permissions_links_or_times, no_locks(errno.ENOLCK)):
        install(patch)


def read_only(patch: Patch) -> None:
    """Every call that would change something is refused; devices are written to all the same."""
    refuse = refusing(errno.EROFS)
    os_open, io_open, mkdir = os.open, io.open, os.mkdir

    def is_file(path: Any) -> bool:
        return isinstance(path, str | os.PathLike) and not os.fspath(path).startswith("/dev/")

    def checked_open(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and is_file(path):
            refuse(path)
        return os_open(path, flags, *rest, **more)

    def checked_io_open(path: Any, mode: str = "r", *rest: Any, **more: Any) -> Any:
        if set(mode) & set("wax+") and is_file(path):
            refuse(path)
        return io_open(path, mode, *rest, **more)

    def checked_mkdir(path: Any, *rest: Any, **more: Any) -> None:
        if os.path.lexists(path):
            mkdir(path, *rest, **more)
        refuse(path)

    patch.setattr(os, "open", checked_open)
    patch.setattr(os, "mkdir", checked_mkdir)
    for module in (io, builtins):
        patch.setattr(module, "open", checked_io_open)
    for name in ("rename", "replace", "unlink", "remove", "rmdir", "link", "symlink", "chmod", "utime"):
        patch.setattr(os, name, refuse)


def no_rename(patch: Patch) -> None:
    """As of a file that is open, on Windows and on network drives."""
    for name in ("rename", "replace"):
        patch.setattr(os, name, refusing(errno.EACCES))


LESS = {
    "no folder is synced": no_folder_is_synced,
    "no folder can be opened": no_folder_can_be_opened,
    "nothing is synced": nothing_is_synced,
    "no permissions, links or times": no_permissions_links_or_times,
    "ENOLCK": no_locks(errno.ENOLCK),
    "ENOTSUP": no_locks(errno.ENOTSUP),
    "524": no_locks(524),  # a number of the kernel's own, which NFS lets out
    "everything less": everything_less,
}
WITHOUT_LOCKS = ("ENOLCK", "ENOTSUP", "524", "everything less")
REFUSALS = {"read-only": (read_only, "Read-only file system"), "no rename": (no_rename, "Permission denied")}


@pytest.fixture(autouse=True)
def few_images(monkeypatch: Patch, fashion_mnist_dir: Path) -> None:
    def few(split: str, device: torch.device) -> LabelledImages:
        return load_once(split)[slice(0, 500)].to(device)

    def few_arrays(split: Any = "test", *rest: Any) -> Any:
        images, labels = load_arrays(split, *rest)
        return images[:500], labels[:500]

    monkeypatch.setattr(run, "load_split", few)
    monkeypatch.setattr(fashion_mnist, "load", few_arrays)


@pytest.fixture
def repository(empty_home: Path, tmp_path: Path, monkeypatch: Patch) -> Path:
    """A weights folder that stands for the repository's."""
    monkeypatch.setattr(publish, "repository_weights", lambda: tmp_path / "repository")
    return tmp_path / "repository"


def files_under(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def done(monkeypatch: Patch, install: Callable[[Patch], None], *command: object) -> Any:
    with monkeypatch.context() as patch:
        install(patch)
        return call(*map(str, command))


@pytest.mark.parametrize("name", LESS)
def test_each_kind_of_write_is_done_where_a_file_system_offers_less(
    repository, empty_home, tmp_path, monkeypatch, picture_folder, name
):
    for command in (
        TRAIN,
        [*TRAIN, "--seed", "1"],  # sets the first aside
        ["runtime", "predict", "-m", "lenet", picture_folder / "0.png", "--show", tmp_path / "seen.png"],
    ):
        result = done(monkeypatch, LESS[name], *command)

        assert result.exit_code == 0, result.output
        assert result.stderr.count("cannot be locked") == (name in WITHOUT_LOCKS and command[0] == "zoo")
    with monkeypatch.context() as patch:
        LESS[name](patch)
        for content in (b"first", b"second"):
            write_artifact(repository, read_index(ROOT / "weights")["lenet"], {"model.onnx": content})
        write_triton(find_model("lenet"), tmp_path / "triton")
        web.replace_folder(tmp_path / "site", {"a/b": b"content"}, {web.KEY: 1})

    assert (tmp_path / "seen.png").read_bytes().startswith(b"\x89PNG")
    assert len(list((empty_home / "runs" / "lenet").glob("before-*/checkpoint.safetensors"))) == 1
    assert (repository / "lenet" / "model.onnx").read_bytes() == b"second"
    assert (tmp_path / "triton" / "lenet" / "1" / "model.onnx").read_bytes() == find_model("lenet").read()
    assert (tmp_path / "site" / "a" / "b").read_bytes() == b"content"
    assert not [path for path in tmp_path.rglob(".*") if path.name != ".lock"]


def test_a_model_is_exported_and_published_where_a_file_system_offers_less_of_everything(
    repository, empty_home, tmp_path, monkeypatch
):
    for command in (["zoo", "export", "lenet", "--checkpoint", CHECKPOINT], ["zoo", "publish", "lenet"]):
        result = done(monkeypatch, everything_less, *command)

        assert result.exit_code == 0, result.output
        assert result.stderr.count("cannot be locked") == 1
    exported, published = (files_under(folder / "lenet") for folder in (empty_home / "weights", repository))
    assert exported.keys() == published.keys()
    assert exported["model.onnx"] == published["model.onnx"]


@pytest.mark.usefixtures("bare_machine")
@pytest.mark.parametrize("name", LESS)
def test_data_is_fetched_where_a_file_system_offers_less(mirror, fashion_mnist_dir, tmp_path, monkeypatch, name):
    held = {file.name: file.path_in(fashion_mnist_dir) for file in fashion_mnist.files_of(None)}
    mirror.files = {f"{name}.gz": path.read_bytes() for name, path in held.items() if path is not None}
    monkeypatch.setattr(fetch, "ensure", functools.partial(ensure, mirrors=[mirror.url]))
    result = done(monkeypatch, LESS[name], "zoo", "data")

    assert result.exit_code == 0, result.output
    assert result.stderr.count("cannot be locked") == (name in WITHOUT_LOCKS)
    assert files_under(tmp_path / "home" / "data") == mirror.files


@pytest.fixture
def older(repository: Path, empty_home: Path, tmp_path: Path, picture_folder: Path) -> Path:
    """A run, an export, a published model and a drawing, which a refused command must leave as they are."""
    for weights in (repository, empty_home / "weights"):
        write_artifact(weights, read_index(ROOT / "weights")["lenet"], files_under(ROOT / "weights" / "lenet"))
    assert call(*TRAIN).exit_code == 0
    (tmp_path / "seen.png").write_bytes(b"older")
    return tmp_path


def test_what_cannot_be_written_is_told_in_a_sentence_and_what_was_there_is_left_as_it_was(
    older, monkeypatch, picture_folder
):
    before = files_under(older)
    for name, (install, reason) in REFUSALS.items():
        checkpoint = ["--checkpoint", CHECKPOINT] if install is read_only else []
        for command in (
            [*TRAIN, "--seed", "1", "-o", older / "new"],
            [*TRAIN, "--seed", "1"],
            ["zoo", "export" if install is read_only else "publish", "lenet", *checkpoint],
            ["zoo", "export", "lenet", "--layout", "triton", "-o", older / "triton", "--checkpoint", CHECKPOINT],
            ["zoo", "eval", "lenet", "--checkpoint", CHECKPOINT, "-o", older / "pictures"],
            ["zoo", "verify", "lenet", "--images", "16", "-o", older / "report.json"],
            ["runtime", "predict", "-m", "lenet", picture_folder / "0.png", "--show", older / "seen.png"],
        ):
            result = done(monkeypatch, install, *command)
            (sentence,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]

            assert (result.exit_code, reason in sentence) == (1, True), (name, command, result.output)
            assert "Traceback" not in result.output
            assert files_under(older) == before, (name, command)


@pytest.mark.usefixtures("bare_machine")
@pytest.mark.parametrize("name", REFUSALS)
def test_data_that_cannot_be_stored_is_told_in_a_sentence(mirror, fashion_mnist_dir, tmp_path, monkeypatch, name):
    held = {file.name: file.path_in(fashion_mnist_dir) for file in fashion_mnist.files_of(None)}
    mirror.files = {f"{name}.gz": path.read_bytes() for name, path in held.items() if path is not None}
    monkeypatch.setattr(fetch, "ensure", functools.partial(ensure, mirrors=[mirror.url]))
    result = done(monkeypatch, REFUSALS[name][0], "zoo", "data")

    assert (result.exit_code, REFUSALS[name][1] in result.stderr) == (1, True), result.output
    assert "set $ZOO_HOME elsewhere" in result.stderr
    assert fashion_mnist.find() is None


def test_what_writes_nothing_works_where_nothing_can_be_written(older, monkeypatch, picture_folder):
    before = files_under(older)
    for command in (
        ["runtime", "list"],
        ["runtime", "info", "-m", "lenet"],
        ["runtime", "predict", "-m", "lenet", picture_folder / "0.png"],
        ["runtime", "accuracy", "-m", "lenet"],
        ["runtime", "parity", "-m", "lenet"],
        ["runtime", "doctor"],
        ["zoo", "list"],
        ["zoo", "data"],
        ["zoo", "summary", "lenet"],
        ["zoo", "eval", "lenet", "--checkpoint", CHECKPOINT],
        ["zoo", "verify", "lenet", "--images", "16"],
    ):
        result = done(monkeypatch, read_only, *command)

        assert result.exit_code == 0, (command, result.output)
    assert files_under(older) == before


def test_new_files_and_folders_get_the_permissions_of_any_other_and_no_thread_sees_another_umask(tmp_path):
    mask = os.umask(0o027)
    try:
        write_bytes(tmp_path / "file", b"")
        folder = new_folder_beside(tmp_path / "folder")
    finally:
        os.umask(mask)

    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750


def test_a_lock_that_is_held_is_no_lock_that_is_missing(tmp_path, capsys):
    busy = TimeoutError("held")
    with (
        locked(tmp_path / "new" / ".lock"),
        pytest.raises(TimeoutError, match="held"),
        locked(tmp_path / "new" / ".lock", busy, 0.1),
    ):
        pass
    with locked(tmp_path / "new" / ".lock", busy):
        pass

    assert capsys.readouterr().err == ""


def test_an_older_run_is_set_aside_beside_another_of_the_same_time(tmp_path):
    folder = RunFolder(tmp_path)
    for content in (b"first", b"second", b"third"):
        folder.checkpoint.write_bytes(content)
        os.utime(folder.checkpoint, (0, 0))  # as file systems without times have it
        folder.archive()

    assert sorted(path.read_bytes() for path in tmp_path.glob("before-*/*")) == [b"first", b"second", b"third"]
