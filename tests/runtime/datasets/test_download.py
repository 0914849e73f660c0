"""Fashion-MNIST is fetched once, checked, and continued after a break; every source that fails says why.

No test leaves this machine: mirrors are servers on the loopback address.
"""

import gzip
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.mirror import GZ, IMAGES, LABELS

from runtime.datasets import download
from runtime.datasets.download import ensure
from runtime.datasets.fashion_mnist import Location, verify
from runtime.errors import DatasetError

pytestmark = pytest.mark.usefixtures("bare_machine")


@pytest.fixture
def images_cached(plain_test_split: Path, cache: Path) -> Path:
    """A cache that of the test split only lacks the labels, so that one small file is all there is to fetch."""
    cache.mkdir(parents=True)
    (cache / IMAGES).symlink_to(plain_test_split / IMAGES)
    return cache


class TestDownload:
    def test_a_split_is_downloaded_checked_and_found_from_then_on(self, mirror, plain_test_split, cache):
        images = gzip.compress((plain_test_split / IMAGES).read_bytes(), compresslevel=1)
        mirror.files[f"{IMAGES}.gz"] = images
        steps: list[tuple[str, int, int | None]] = []

        got = ensure("test", lambda *step: steps.append(step), [mirror.url])

        assert got == Location(cache, "mirror")
        assert steps[-1] == (GZ, len(mirror.files[GZ]), len(mirror.files[GZ]))
        assert (f"{IMAGES}.gz", len(images), len(images)) in steps
        assert sorted(path.name for path in cache.iterdir()) == [".lock", f"{IMAGES}.gz", GZ]
        assert ensure("test", mirrors=[]) == Location(cache, "cache")
        verify(cache, "test")

    def test_only_the_files_that_are_missing_are_fetched(self, mirror, images_cached):
        ensure("test", mirrors=[mirror.url])

        assert mirror.requests == [(GZ, 0)]

    @pytest.mark.parametrize(
        ("behaves", "left_over", "starts"),
        [
            ({"cuts": [1000, 500]}, b"", [0, 1000, 1500]),
            ({"cuts": [1000], "knows_ranges": False}, b"", [0, 1000]),
            ({"cuts": [1000], "range_error": 1}, b"", [0, 1000, 0]),
            ({}, b"of something else", [17, 0]),
            ({}, bytes(10_000), [10_000, 0]),
        ],
        ids=["broken twice", "cannot continue", "continues at another byte", "a shorter rest", "a longer rest"],
    )
    def test_a_file_is_continued_where_it_broke_or_asked_for_as_a_whole(
        self, mirror, images_cached, behaves, left_over, starts
    ):
        vars(mirror).update(behaves, cuts=list(behaves.get("cuts", [])))
        if left_over:
            (images_cached / f"{GZ}.part").write_bytes(left_over)

        ensure("test", mirrors=[mirror.url])

        assert mirror.requests == [(GZ, start) for start in starts]
        verify(images_cached, "test")

    def test_a_mirror_that_falls_silent_is_asked_again_for_the_rest(self, mirror, images_cached, monkeypatch):
        monkeypatch.setattr(download, "TIMEOUT_SECONDS", 0.2)
        mirror.cuts = [1000]
        mirror.hangs_up.clear()

        ensure("test", mirrors=[mirror.url])

        assert mirror.requests == [(GZ, 0), (GZ, 1000)]
        verify(images_cached, "test")

    def test_the_next_run_continues_what_an_earlier_one_began(self, mirror, images_cached):
        mirror.cuts = [1000, 0]
        with pytest.raises(DatasetError, match=f"the connection broke after 1000 of .* bytes of {GZ}"):
            ensure("test", mirrors=[mirror.url])
        assert (images_cached / f"{GZ}.part").stat().st_size == 1000
        assert not (images_cached / GZ).exists()

        ensure("test", mirrors=[mirror.url])

        assert mirror.requests[-1] == (GZ, 1000)
        verify(images_cached, "test")

    def test_a_left_over_that_is_complete_is_taken(self, mirror, images_cached):
        (images_cached / f"{GZ}.part").write_bytes(mirror.files[GZ])

        ensure("test", mirrors=[mirror.url])

        assert mirror.requests == [(GZ, len(mirror.files[GZ]))]
        verify(images_cached, "test")

    @pytest.mark.parametrize(
        ("served", "reason"),
        [
            (b"<html>Log in to this network</html>", "no IDX file"),
            (gzip.compress(bytes([0, 0, 8, 1, 0, 0, 0x27, 0x10]) + bytes(10_000)), "of another release"),
            (gzip.compress(bytes([0, 0, 8, 1, 0, 0, 0x27, 0x10]) + bytes(10_000))[:-20], "truncated"),
            (bytes(1 << 20), "it sends more than the 10008 bytes"),
        ],
        ids=["web page", "another release", "truncated", "endless"],
    )
    def test_wrong_content_is_refused_by_name_and_left_nowhere(self, mirror, images_cached, served, reason):
        mirror.files[GZ] = served
        mirror.tells_length = False

        with pytest.raises(DatasetError, match=rf"{mirror.url} \(.*{reason}.*\)") as refusal:
            ensure("test", mirrors=[mirror.url])

        assert LABELS in str(refusal.value)
        assert mirror.requests == [(GZ, 0)]
        assert sorted(path.name for path in images_cached.iterdir()) == [".lock", IMAGES]

    def test_the_next_mirror_is_asked_where_one_fails(self, mirror, images_cached):
        ensure("test", mirrors=["http://127.0.0.1:1/", f"{mirror.url}missing/", mirror.url])

        assert mirror.requests == [(f"missing/{GZ}", 0), (GZ, 0)]

    def test_when_every_source_fails_the_error_says_why_each_did_and_what_to_do(self, mirror, cache):
        with pytest.raises(DatasetError) as refusal:
            ensure("test", mirrors=["http://127.0.0.1:1/", mirror.url])

        for words in (
            "http://127.0.0.1:1/ (",
            "Connection refused",
            f"{mirror.url} (HTTP 404 Not Found)",
            "apt-get download dataset-fashion-mnist (this machine has no apt-get and dpkg-deb)",
            "set $FASHION_MNIST_DIR",
        ):
            assert words in str(refusal.value)

    def test_two_at_once_download_it_once(self, mirror, images_cached):
        mirror.cuts = [1000]
        together = threading.Barrier(2)

        def run(_: int) -> Location:
            together.wait()
            return ensure("test", mirrors=[mirror.url])

        with ThreadPoolExecutor(2) as pool:
            got = list(pool.map(run, range(2)))

        assert {location.folder for location in got} == {images_cached}
        assert sorted(location.origin for location in got) == ["cache", "mirror"]
        assert mirror.requests == [(GZ, 0), (GZ, 1000)]

    def test_a_home_that_cannot_be_written_is_named(self, tmp_path):
        (tmp_path / "home").write_text("a file where a folder should be")

        with pytest.raises(DatasetError, match=r"cannot be stored in .*home/data.*\$ZOO_HOME"):
            ensure("test", mirrors=[])
