"""Without a mirror, Fashion-MNIST comes out of the Debian package, unpacked without root.

No test leaves this machine: apt-get is a script of ours.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from support.mirror import IMAGES

from runtime.datasets import fashion_mnist
from runtime.datasets.download import ensure
from runtime.datasets.fashion_mnist import Location, verify
from runtime.errors import DatasetError

pytestmark = [
    pytest.mark.usefixtures("bare_machine"),
    pytest.mark.skipif(os.name == "nt", reason="the stand-ins for apt-get and dpkg-deb are shell scripts"),
]

DPKG_DEB_HERE = shutil.which("dpkg-deb")

APT_GET = """#!/bin/sh
PATH=/usr/bin:/bin
echo "$*" >> {log}
case "$*" in
*" update") echo "E: Failed to fetch http://dead.example/" >&2; touch lists/updated; exit 100 ;;
*Dir::State::Lists=*" download "*) test -e lists/updated && {private_lists} ;;
*" download "*) {system_lists} ;;
esac
"""
DPKG_DEB = """#!/bin/sh
PATH=/usr/bin:/bin
mkdir -p "$3{system_folder}" && cp {release}/* "$3{system_folder}"
"""
FOUND = f"touch {fashion_mnist.PACKAGE}_1_all.deb"
MISSING = f"echo 'W: be warned' >&2; echo 'E: Unable to locate package {fashion_mnist.PACKAGE}' >&2; exit 100"


def install_tools(folder: Path, release: Path, *, system_lists: str, private_lists: str = MISSING) -> Path:
    """Put an apt-get and a dpkg-deb into `folder`/bin. Return the file that logs what apt-get was asked."""
    log = folder / "apt-get.log"
    (folder / "bin").mkdir()
    for name, script in (
        ("apt-get", APT_GET.format(log=log, system_lists=system_lists, private_lists=private_lists)),
        ("dpkg-deb", DPKG_DEB.format(system_folder=fashion_mnist.SYSTEM_FOLDER, release=release)),
    ):
        (folder / "bin" / name).write_text(script)
        (folder / "bin" / name).chmod(0o755)
    return log


def test_the_package_is_unpacked_where_no_mirror_has_the_files(plain_test_split, tmp_path, cache):
    log = install_tools(tmp_path, plain_test_split, system_lists=FOUND)
    steps: list[tuple[str, int, int | None]] = []

    got = ensure("test", lambda *step: steps.append(step), mirrors=[])

    assert got == Location(cache, "apt")
    assert steps == [("dataset-fashion-mnist", 0, None)]
    assert log.read_text().count("\n") == 1
    verify(cache, "test")


def test_missing_package_lists_are_fetched_to_a_folder_of_our_own_even_past_a_dead_source(
    plain_test_split, tmp_path, cache
):
    log = install_tools(tmp_path, plain_test_split, system_lists=MISSING, private_lists=FOUND)

    ensure("test", mirrors=[])

    _, update, download = log.read_text().splitlines()
    assert "-oDir::State::Lists=" in update
    assert "-oDir::Cache=" in update
    assert download.endswith("download dataset-fashion-mnist")
    verify(cache, "test")


def test_when_apt_fails_its_first_error_is_told_and_its_warnings_are_not(plain_test_split, tmp_path):
    install_tools(tmp_path, plain_test_split, system_lists=MISSING)

    with pytest.raises(DatasetError, match=r"apt-get download dataset-fashion-mnist \(Failed to fetch http://dead"):
        ensure("test", mirrors=[])


def test_a_package_with_other_content_is_refused_by_name(tmp_path, cache):
    other = tmp_path / "other"
    other.mkdir()
    (other / IMAGES).write_bytes(b"no images")
    install_tools(tmp_path, other, system_lists=FOUND)

    with pytest.raises(DatasetError, match=f"{IMAGES} should be IDX"):
        ensure("test", mirrors=[])

    assert [path.name for path in cache.iterdir()] == [".lock"]


@pytest.mark.skipif(DPKG_DEB_HERE is None, reason="dpkg-deb is not on this machine")
def test_the_real_dpkg_deb_unpacks_a_real_package(plain_test_split, tmp_path, cache, monkeypatch):
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(
        f"Package: {fashion_mnist.PACKAGE}\nVersion: 1\nArchitecture: all\nMaintainer: A <a@b.c>\nDescription: d\n"
    )
    shutil.copytree(plain_test_split, tree / fashion_mnist.SYSTEM_FOLDER.relative_to("/"))
    package = tmp_path / f"{fashion_mnist.PACKAGE}_1_all.deb"
    assert DPKG_DEB_HERE is not None
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    subprocess.run([DPKG_DEB_HERE, "-Znone", "--build", tree, package], check=True, capture_output=True)
    install_tools(tmp_path, plain_test_split, system_lists=f"cp {package} .")
    (tmp_path / "bin" / "dpkg-deb").unlink()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")

    assert ensure("test", mirrors=[]) == Location(cache, "apt")
    verify(cache, "test")
