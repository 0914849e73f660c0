"""Which pictures a command line means: lists, patterns, folders, stdin; and what stops it: a closed pipe, Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from runtime.cli.predict import Nothing, expand
from runtime.errors import UsageError

ROOT = Path(__file__).resolve().parents[3]
PREDICT = [sys.executable, "-m", "runtime", "predict", "-m", "lenet", "--device", "cpu"]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (b"a.png\n\n   \n# a remark\nb.png", ["a.png", "b.png"]),
        (b"a.png\r\n\r\nb.png\r\n", ["a.png", "b.png"]),
        (b"\xef\xbb\xbfa.png\n", ["a.png"]),
        (b"@a.png\n", ["@a.png"]),
        ("a\x85b\u2028c.png\n".encode(), ["a\x85b\u2028c.png"]),
        (b"\xff.png\n", ["\udcff.png"]),
        (b"a\0b*.png\n", ["a\0b*.png"]),
        (b"-\n", ["-"]),
    ],
    ids=["blank lines", "CRLF", "byte order mark", "at sign", "odd breaks", "not UTF-8", "null byte", "stdin"],
)
def test_a_list_means_its_lines_however_it_was_written(written, meant, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("list.txt").write_bytes(written)

    assert list(expand(["@list.txt"])) == meant


@pytest.mark.parametrize("written", [b"", b"\n \n# nothing\n"])
def test_a_list_that_names_nothing_is_refused(written, tmp_path):
    (tmp_path / "list.txt").write_bytes(written)
    with pytest.raises(UsageError, match="names no pictures"):
        list(expand([f"@{tmp_path / 'list.txt'}"]))


def test_a_file_whose_name_begins_with_an_at_sign_or_looks_like_a_pattern_is_that_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("@a.png", "[a].png", "a.png"):
        Path(name).touch()

    assert list(expand(["@a.png", "[a].png", "[ab].png"])) == ["@a.png", "[a].png", "a.png"]


def test_a_folder_named_like_a_picture_is_one_answer_and_another_is_refused(tmp_path):
    for name in ("folder.png", "plain"):
        (tmp_path / name).mkdir()

    assert list(expand([str(tmp_path / "folder.png")])) == [str(tmp_path / "folder.png")]
    with pytest.raises(UsageError, match="holds no pictures; use -r"):
        list(expand([str(tmp_path / "plain")]))


def test_a_folder_inside_another_that_cannot_be_read_is_an_answer_of_its_own(tmp_path, monkeypatch):
    for name in ("open", "shut"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").touch()
    scandir = os.scandir

    def refused(path: str) -> object:  # by the system; root may read everything
        if path.endswith("shut"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    picture, folder = expand([str(tmp_path)], recursive=True)

    assert picture == str(tmp_path / "open" / "a.png")
    assert isinstance(folder, Nothing)
    assert (folder.source, folder.error.kind) == (str(tmp_path / "shut"), "unreadable")
    with pytest.raises(UsageError, match="shut cannot be read: Permission denied"):
        list(expand([str(tmp_path / "shut")]))


def test_what_means_no_picture_keeps_its_place_among_those_that_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("list.txt").write_text("empty\nb.png\nzz*.png\n")
    Path("remarks.txt").write_text("# nothing\n")
    found = list(expand(["empty", "@missing.txt", "a.png", "zz*.png", "@list.txt", "@remarks.txt"]))

    assert [(item.source, item.error.kind) if isinstance(item, Nothing) else item for item in found] == [
        ("empty", "empty"),
        ("@missing.txt", "missing"),
        "a.png",
        ("zz*.png", "missing"),
        ("empty", "empty"),
        "b.png",
        ("zz*.png", "missing"),
        ("@remarks.txt", "empty"),
    ]


def test_sources_that_all_mean_no_picture_are_refused_with_the_first_reason(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"the pattern 'zz\*\.png' matches nothing"):
        list(expand(["zz*.png", "@missing.txt"]))


@pytest.mark.parametrize("closed", ["<&-", "< /dev/null"])
def test_a_stdin_that_is_closed_or_empty_is_one_answer(closed, tmp_path, test_images):
    Image.fromarray(test_images[0]).save(tmp_path / "a.png")
    command = " ".join(PREDICT) + f" --jsonl - {tmp_path / 'a.png'} {closed}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, cwd=ROOT, check=False)
    first, second = map(json.loads, done.stdout.splitlines())

    assert (done.returncode, first["error"]["kind"], second["label"]) == (1, "empty", "Ankle boot")
    assert "Traceback" not in done.stderr


@pytest.fixture
def many(tmp_path: Path, test_images: npt.NDArray[np.uint8]) -> Path:
    """A list that names one picture 20,000 times."""
    Image.fromarray(test_images[0]).save(tmp_path / "a.png")
    (tmp_path / "many.txt").write_text(f"{tmp_path / 'a.png'}\n" * 20_000)
    return tmp_path / "many.txt"


def interrupt(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)


def leave(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    process.stdout.close()


@pytest.mark.parametrize("stop", [interrupt, leave])
def test_who_stops_in_the_middle_gets_whole_lines_and_no_traceback(stop, many):
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [*PREDICT, "--jsonl", f"@{many}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["label"] == "Ankle boot"
        stop(process)
        rest = [] if process.stdout.closed else process.stdout.readlines()
        said = process.stderr.read()

    assert process.returncode == 1
    assert "Traceback" not in said
    assert len(rest) < 19_999
    assert all(json.loads(line)["ok"] for line in rest)
