"""Fashion-MNIST is found in the promised order, and refused by name when it is not the clean release."""

import gzip
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.mirror import IMAGES
from support.mirror import LABELS as LABEL_FILE

from runtime.datasets import fashion_mnist
from runtime.datasets.download import ensure
from runtime.datasets.fashion_mnist import LABELS, Location, find, load, verify
from runtime.errors import DatasetError, UsageError

pytestmark = pytest.mark.usefixtures("bare_machine")

Place = Callable[..., Path]


@pytest.fixture
def labels(plain_test_split: Path) -> bytes:
    """The content of the test labels: the smallest file, so the one to damage."""
    return (plain_test_split / LABEL_FILE).read_bytes()


@pytest.fixture
def place(plain_test_split: Path, labels: bytes) -> Place:
    """Make a folder with the test split in it, its labels replaced by `stored` and named `as_name`."""

    def place(folder: Path, stored: bytes = labels, as_name: str = LABEL_FILE) -> Path:
        folder.mkdir(parents=True)
        (folder / IMAGES).symlink_to(plain_test_split / IMAGES)
        (folder / as_name).write_bytes(stored)
        return folder

    return place


def flipped(whole: bytes, position: int) -> bytes:
    """`whole` with one bit changed."""
    damaged = bytearray(whole)
    damaged[position] ^= 1
    return bytes(damaged)


class TestReader:
    def test_labels_are_those_of_torchvision_in_its_order(self):
        torchvision = "T-shirt/top Trouser Pullover Dress Coat Sandal Shirt Sneaker Bag Ankle_boot"

        assert tuple(name.replace("_", " ") for name in torchvision.split()) == LABELS

    @pytest.mark.parametrize(("split", "count"), [("train", 60000), ("test", 10000)])
    def test_a_split_has_one_channel_balanced_classes_and_writable_arrays(self, fashion_mnist_dir, split, count):
        images, labels = load(split, fashion_mnist_dir)

        assert (images.dtype.name, images.shape) == ("uint8", (count, 1, 28, 28))
        assert (labels.dtype.name, labels.shape) == ("uint8", (count,))
        assert np.bincount(labels).tolist() == [count // len(LABELS)] * len(LABELS)
        assert images.flags.writeable
        assert labels.flags.writeable

    def test_plain_files_read_as_gzipped_ones_do_and_need_no_train_split(
        self, plain_test_split, test_images, test_labels
    ):
        images, labels = load("test", plain_test_split)

        np.testing.assert_array_equal(images[:, 0], test_images)
        np.testing.assert_array_equal(labels, test_labels)

    def test_a_file_that_a_browser_decompressed_is_read_under_its_gzip_name(self, place, tmp_path):
        verify(place(tmp_path / "saved", as_name=f"{LABEL_FILE}.gz"), "test")

    def test_gzip_without_compression_is_read(self, place, tmp_path, labels):
        stored = gzip.compress(labels, compresslevel=0)

        assert len(stored) > len(labels)
        verify(place(tmp_path / "stored", stored, as_name=f"{LABEL_FILE}.gz"), "test")

    def test_a_split_that_does_not_exist_is_a_usage_error(self):
        with pytest.raises(UsageError, match="no split 'validation'"):
            load("validation")  # type: ignore[arg-type]


class TestRefusal:
    @pytest.mark.parametrize(
        ("damage", "reason"),
        [
            pytest.param(lambda whole: whole[:5000], "truncated: it holds 5000 of 10008 bytes", id="truncated"),
            pytest.param(lambda whole: gzip.compress(whole)[:2000], "truncated", id="gzip truncated"),
            pytest.param(lambda whole: b"", "truncated: it holds 0 of 10008 bytes", id="empty"),
            pytest.param(lambda whole: whole + b"\0", "more than the 10008 bytes", id="longer"),
            pytest.param(lambda whole: whole[:9000] + b"\7" + whole[9001:], "damaged or of another release", id="old"),
            pytest.param(lambda whole: flipped(whole, 9000), "damaged or of another release", id="bit flip"),
            pytest.param(lambda whole: flipped(gzip.compress(whole), 2000), "", id="bit flip in gzip"),
            pytest.param(lambda whole: flipped(gzip.compress(whole), -6), "incorrect data check", id="gzip CRC"),
            pytest.param(lambda whole: b"<!DOCTYPE html>", r"no IDX file .* starts with 3c 21 44 4f", id="web page"),
            pytest.param(lambda whole: b"\0\0\x0d" + whole[3:], "no IDX file of unsigned bytes", id="IDX of floats"),
        ],
    )
    def test_a_damaged_file_is_refused_by_name(self, place, tmp_path, labels, damage, reason):
        folder = place(tmp_path / "damaged", damage(labels))

        with pytest.raises(DatasetError, match=f"{folder}, {LABEL_FILE} .*{reason}.*run `zoo data`"):
            load("test", folder)

    def test_files_of_train_under_the_names_of_test_are_refused_with_both_shapes(
        self, place, tmp_path, fashion_mnist_dir
    ):
        train_labels = fashion_mnist.FILES["train"][1].path_in(fashion_mnist_dir)
        assert train_labels is not None
        folder = place(tmp_path / "swapped", train_labels.read_bytes())

        with pytest.raises(DatasetError, match=r"should be IDX of shape \(10000,\), but is IDX of shape \(60000,\)"):
            load("test", folder)

    def test_images_under_the_name_of_labels_are_refused_with_both_shapes(self, place, tmp_path, plain_test_split):
        folder = place(tmp_path / "swapped", (plain_test_split / IMAGES).read_bytes())

        with pytest.raises(DatasetError, match=rf"{LABEL_FILE} should be .* but is IDX of shape \(10000, 28, 28\)"):
            load("test", folder)

    def test_a_gzip_bomb_is_refused_before_it_fills_the_memory(self, place, tmp_path, labels):
        bomb = place(tmp_path / "bomb", gzip.compress(labels[:8] + bytes(64 << 20), compresslevel=1))
        tracemalloc.start()
        try:
            with pytest.raises(DatasetError, match=f"{LABEL_FILE} holds more than the 10008 bytes"):
                fashion_mnist.read_idx(bomb / LABEL_FILE, fashion_mnist.FILES["test"][1])
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert peak_bytes < 1 << 20

    def test_a_missing_file_is_named(self, plain_test_split):
        with pytest.raises(DatasetError, match=r"has neither train-images-idx3-ubyte nor train-images-idx3-ubyte\.gz"):
            load("train", plain_test_split)


class TestSearch:
    def test_the_variable_comes_first_then_the_cache_then_the_debian_package(self, place, tmp_path, cache, monkeypatch):
        assert find("test") is None

        system = place(fashion_mnist.SYSTEM_FOLDER)
        assert find("test") == Location(system, "system")

        place(cache)
        assert find("test") == Location(cache, "cache")

        chosen = place(tmp_path / "chosen")
        monkeypatch.setenv("FASHION_MNIST_DIR", str(chosen))
        assert find("test") == Location(chosen, "environment")
        assert ensure("test", mirrors=[]) == Location(chosen, "environment")

    def test_a_place_that_lacks_a_file_of_the_split_is_passed_over(self, place, cache):
        (place(cache) / LABEL_FILE).unlink()
        system = place(fashion_mnist.SYSTEM_FOLDER)

        assert find("test") == Location(system, "system")
        assert find("train") is None

    def test_a_variable_that_names_the_wrong_folder_is_an_error_and_never_skipped(
        self, place, tmp_path, cache, monkeypatch
    ):
        place(cache)
        monkeypatch.setenv("FASHION_MNIST_DIR", str(tmp_path / "nowhere"))

        for search in (find, load, ensure):
            with pytest.raises(DatasetError, match=rf"nowhere has neither {IMAGES} .*\$FASHION_MNIST_DIR"):
                search("test")

    def test_a_damaged_file_where_the_variable_points_names_file_and_variable(
        self, place, tmp_path, labels, monkeypatch
    ):
        monkeypatch.setenv("FASHION_MNIST_DIR", str(place(tmp_path / "chosen", labels[:-1])))

        with pytest.raises(DatasetError, match=rf"{LABEL_FILE} is truncated.*\$FASHION_MNIST_DIR"):
            load("test")

    def test_an_empty_variable_counts_as_unset(self, place, cache, monkeypatch):
        monkeypatch.setenv("FASHION_MNIST_DIR", "")

        place(cache)

        assert find("test") == Location(cache, "cache")

    def test_load_says_where_it_looked_and_what_to_run(self, cache):
        with pytest.raises(DatasetError) as refusal:
            load("train")

        for word in (str(cache), str(fashion_mnist.SYSTEM_FOLDER), "$FASHION_MNIST_DIR", "`zoo data`"):
            assert word in str(refusal.value)
