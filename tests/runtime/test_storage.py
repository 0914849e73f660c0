"""Writes that happen whole or not at all."""

import os
import stat
from pathlib import Path

import pytest

from runtime.storage import atomic_write, require_writable, write_bytes


def test_a_write_replaces_the_old_content_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "new" / "file"
    write_bytes(path, b"old")
    write_bytes(path, b"new")

    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_a_write_that_breaks_off_leaves_the_old_content(tmp_path):
    path = tmp_path / "file"
    write_bytes(path, b"old")

    def break_off() -> None:
        with atomic_write(path) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()

    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_a_written_file_has_the_rights_that_any_new_file_gets(tmp_path):
    write_bytes(tmp_path / "ours", b"")
    (tmp_path / "plain").touch()

    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.skipif(os.name == "nt", reason="Windows asks for a privilege before it makes links")
def test_a_symbolic_link_stays_one_and_its_target_is_replaced(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "middle")
    (tmp_path / "middle").symlink_to("far/file")
    for content in (b"made", b"replaced"):
        write_bytes(tmp_path / "link", content)

        assert (tmp_path / "far" / "file").read_bytes() == content
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "middle").is_symlink()
    assert [path.name for path in (tmp_path / "far").iterdir()] == ["file"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this platform has no named pipes")
@pytest.mark.parametrize("by", ["name", "link", "descriptor"])
def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path, by):
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(pipe, os.O_WRONLY)
    try:
        if by == "descriptor" and not Path(f"/dev/fd/{writer}").exists():
            pytest.skip("this platform has no /dev/fd")
        write_bytes({"name": pipe, "link": link, "descriptor": Path(f"/dev/fd/{writer}")}[by], b"content")
        assert os.read(reader, 100) == b"content"
    finally:
        os.close(reader)
        os.close(writer)

    assert pipe.is_fifo()
    assert sorted(tmp_path.iterdir()) == [link, pipe]


@pytest.mark.skipif(not hasattr(os, "mknod"), reason="this platform has no device nodes")
def test_a_device_is_written_to_and_stays_a_device(tmp_path):
    device = tmp_path / "null"
    try:
        os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        device.write_bytes(b"")
    except OSError as error:
        pytest.skip(f"this user may not make and use a device: {error}")
    write_bytes(device, b"content")

    assert device.is_char_device()
    assert list(tmp_path.iterdir()) == [device]


@pytest.mark.skipif(os.name == "nt", reason="Windows asks for a privilege before it makes links")
def test_a_folder_and_a_link_to_itself_are_refused_by_name(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    for name in ("folder", "loop"):
        with pytest.raises(OSError, match=f"'{tmp_path / name}'"):
            write_bytes(tmp_path / name, b"content")

    assert (tmp_path / "loop").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "loop"]


def test_whether_a_file_can_be_written_is_known_before_and_leaves_no_trace(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    require_writable(tmp_path / "file")
    require_writable(tmp_path / "new" / "file")
    with pytest.raises(OSError, match=r"'.*file.inside'"):
        require_writable(tmp_path / "file" / "inside")

    assert (tmp_path / "file").read_bytes() == b"old"
    assert not list((tmp_path / "new").iterdir())
