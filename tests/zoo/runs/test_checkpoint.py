"""Checkpoints are read as they were written; pickles, damaged and foreign files are refused by name."""

import pickle
from pathlib import Path

import pytest
import safetensors.torch
import torch

from zoo.models import create_model
from zoo.recipes import recipe_for
from zoo.runs import checkpoint
from zoo.runs.checkpoint import CheckpointError

HEADER = {"model": "lenet", "recipe": recipe_for("lenet").as_dict(), "seed": 0, "epoch": 60, "history": []}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.safetensors"
    checkpoint.save(path, HEADER, create_model("lenet").state_dict(), {"optimizer/0/step": torch.tensor(3.0)})
    return path


def test_weights_and_description_come_back_as_they_were(saved):
    network = create_model("lenet")
    found = checkpoint.load(saved, model="lenet", with_training=True)
    found.load_into(network)

    assert found.header == HEADER
    assert found.finished
    assert found.training == {"optimizer/0/step": torch.tensor(3.0)}
    assert all(torch.equal(found.weights[name], tensor) for name, tensor in network.state_dict().items())


def test_training_state_is_not_read_unless_asked_for(saved):
    assert checkpoint.load(saved).training == {}


def test_a_checkpoint_of_another_model_is_refused(saved):
    with pytest.raises(CheckpointError, match="a checkpoint of 'lenet', not of 'resnet18'"):
        checkpoint.load(saved, model="resnet18")


def test_a_missing_checkpoint_says_how_to_get_one(tmp_path):
    with pytest.raises(CheckpointError, match="`zoo train` writes one"):
        checkpoint.load(tmp_path / "none.safetensors")


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_refused_unopened(tmp_path, protocol):
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (pytest.fail, ("the pickle was opened",))

    path = tmp_path / "evil.safetensors"
    path.write_bytes(pickle.dumps(Bomb(), protocol=protocol))

    with pytest.raises(CheckpointError, match="is a pickle"):
        checkpoint.load(path)


def test_a_file_of_torch_save_is_refused(tmp_path):
    path = tmp_path / "model.pt"
    torch.save(create_model("lenet").state_dict(), path)

    with pytest.raises(CheckpointError, match="is a pickle"):
        checkpoint.load(path)


def test_a_safetensors_file_of_someone_else_is_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    safetensors.torch.save_file({"weight": torch.zeros(2)}, path)

    with pytest.raises(CheckpointError, match="not written by this version"):
        checkpoint.load(path)


def test_a_checkpoint_is_read_whatever_the_length_of_its_header(tmp_path):
    # A safetensors file begins with that length. 0x..80 begins as a pickle does, and 0x4b50 with PK, as a zip archive.
    # If such a file were refused, its run could be neither resumed, nor evaluated, nor exported.
    path = tmp_path / "checkpoint.safetensors"
    bare = len_of_header(path, "")
    starts = set()
    for wanted in [*range(bare, bare + 8 * 512, 8), 0x4B50, 0x4B50 + 0x10000]:
        assert len_of_header(path, "x" * (wanted - bare)) == wanted
        starts.add(path.read_bytes()[:2])
        found = checkpoint.load(path, model="lenet", with_training=True)

        assert checkpoint.read_header(path, model="lenet") == found.header
        assert torch.equal(found.weights["bias"], torch.ones(2))

    assert {start[0] for start in starts} == {*range(0, 256, 8)}
    assert {b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"} <= starts


def len_of_header(path: Path, note: str) -> int:
    """Write a checkpoint with a note in its description; return the length of its header."""
    checkpoint.save(path, HEADER | {"note": note}, {"bias": torch.ones(2)})
    return int.from_bytes(path.read_bytes()[:8], "little")


@pytest.mark.parametrize("length", [0x280, 0x580, 0x4B50])
def test_a_safetensors_file_that_was_cut_off_is_not_called_a_pickle(tmp_path, length):
    path = tmp_path / "cut.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + b'{"__metadata__":')

    with pytest.raises(CheckpointError, match="is damaged, or not a safetensors file"):
        checkpoint.load(path)


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 100, 5000, -1])
def test_a_truncated_file_is_refused(saved, keep):
    saved.write_bytes(saved.read_bytes()[:keep])

    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.load(saved)


def test_weights_of_another_shape_do_not_load(saved):
    with pytest.raises(CheckpointError, match="does not fit the network"):
        checkpoint.load(saved).load_into(torch.nn.Linear(2, 2))


def test_weights_that_are_not_numbers_are_refused(tmp_path):
    path = tmp_path / "nan.safetensors"
    checkpoint.save(path, HEADER, {"network.0.bias": torch.tensor([1.0, float("nan")])})

    with pytest.raises(CheckpointError, match=r"not finite, in network\.0\.bias"):
        checkpoint.load(path)


def test_a_folder_in_place_of_a_file_is_one_sentence(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoint.load(tmp_path)
