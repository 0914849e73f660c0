"""Which file a name means, and that no other file is ever taken for it."""

import json
import shutil
from pathlib import Path

import pytest

from runtime import Classifier, ModelInvalid, ModelNotFound
from runtime.model import registry

PUBLISHED = Path(__file__).resolve().parents[3] / "weights"


@pytest.fixture
def own_lenet(empty_home: Path) -> Path:
    """A user's own export of lenet: a copy of the published one."""
    shutil.copytree(PUBLISHED / "lenet", empty_home / "weights" / "lenet")
    entries = [
        entry for entry in json.loads((PUBLISHED / "index.json").read_text())["models"] if entry["name"] == "lenet"
    ]
    (empty_home / "weights" / "index.json").write_text(json.dumps({"schema": 1, "models": entries}))
    return empty_home / "weights" / "lenet" / "model.onnx"


def test_a_users_own_export_is_what_the_name_then_means(own_lenet):
    found = registry.find_model("lenet")

    assert (found.path, found.origin) == (own_lenet, "user")
    assert [stored.path for stored in registry.list_models() if stored.name == "lenet"] == [own_lenet]


def test_without_a_name_the_most_accurate_shipped_model_is_meant(own_lenet):
    found = registry.find_model()

    assert found.name == "lenet-modern"
    assert found.accuracy == max(
        stored.accuracy or 0 for stored in registry.list_models() if stored.name in registry.SHIPPED
    )


@pytest.mark.parametrize("form", ["file", "folder"])
def test_a_path_means_that_file(empty_home, form):
    path = PUBLISHED / "lenet" / "model.onnx"
    found = registry.find_model(path if form == "file" else path.parent)

    assert (found.path, found.origin, found.name) == (path, "path", "lenet")


def test_a_published_model_that_this_package_does_not_carry_is_named_with_two_ways_to_it(
    empty_home, monkeypatch, tmp_path
):
    wheel = tmp_path / "wheel"
    wheel.mkdir()
    entry = {"name": "resnet18", "file": "resnet18/model.onnx", "sha256": "0" * 64}
    (wheel / "index.json").write_text(json.dumps({"schema": 1, "models": [entry]}))
    monkeypatch.setattr(registry, "folders", lambda: [("wheel", wheel)])

    with pytest.raises(ModelNotFound, match=r"is published, .*weights/resnet18/model\.onnx.*`zoo export resnet18`"):
        registry.find_model("resnet18")
    assert registry.list_models() == []


@pytest.mark.parametrize("position", [0, 1000, -1])
def test_one_changed_byte_is_noticed_by_name_and_by_path(own_lenet, position):
    content = bytearray(own_lenet.read_bytes())
    content[position] ^= 1
    own_lenet.write_bytes(content)

    for model in ("lenet", own_lenet):
        with pytest.raises(ModelInvalid, match=r"not the published lenet: its sha256 is [0-9a-f]{64}, the index says"):
            Classifier(model, device="cpu")


@pytest.fixture
def weights(empty_home: Path, tmp_path: Path) -> Path:
    """A weights folder that no name is looked for in, with lenet, one byte of it flipped, and its index."""
    shutil.copytree(PUBLISHED / "lenet", tmp_path / "given" / "lenet")
    shutil.copy(PUBLISHED / "index.json", tmp_path / "given" / "index.json")
    path = tmp_path / "given" / "lenet" / "model.onnx"
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    return tmp_path / "given"


@pytest.mark.parametrize(
    ("folder", "spelled"),
    [
        ("lenet", "model.onnx"),
        ("lenet", "./model.onnx"),
        ("lenet", "../lenet/model.onnx"),
        ("lenet", "."),
        ("lenet", ".."),
        (".", "lenet/model.onnx"),
        (".", "lenet/../lenet/model.onnx"),
        (".", "lenet/test_data_set_0/../model.onnx"),
        ("lenet/test_data_set_0", "../model.onnx"),
        ("..", "link.onnx"),
        ("..", "folder/model.onnx"),
        ("../folder", "model.onnx"),
        ("..", "whole/lenet"),
    ],
)
def test_a_changed_byte_is_noticed_however_the_path_is_spelled(weights, folder, spelled, monkeypatch):
    """A user who goes into the folder, or links to the file, must not run a damaged one without a word."""
    (weights.parent / "link.onnx").symlink_to(weights / "lenet" / "model.onnx")
    (weights.parent / "folder").symlink_to(weights / "lenet")
    (weights.parent / "whole").symlink_to(weights)
    monkeypatch.chdir(weights / folder)
    if spelled == "..":
        monkeypatch.chdir("test_data_set_0")
    with pytest.raises(ModelInvalid, match="not the published lenet: its sha256 is"):
        Classifier(spelled, device="cpu")


def test_a_changed_byte_is_noticed_where_the_weights_folder_holds_links(weights, empty_home, tmp_path, monkeypatch):
    """As in a cache that keeps contents elsewhere, or where a model's folder is a link to its version."""
    (weights / "lenet").rename(tmp_path / "version 2")
    (weights / "lenet").symlink_to(tmp_path / "version 2")
    with pytest.raises(ModelInvalid, match="not the published lenet"):
        Classifier(weights / "lenet" / "model.onnx", device="cpu")

    (weights / "lenet").unlink()
    (weights / "lenet").mkdir()
    (weights / "lenet" / "model.onnx").symlink_to(tmp_path / "version 2" / "model.onnx")
    with pytest.raises(ModelInvalid, match="not the published lenet"):
        Classifier(weights / "lenet" / "model.onnx", device="cpu")

    empty_home.mkdir()
    weights.rename(empty_home / "weights")  # a folder of names vouches for what it links to, from wherever it is named
    monkeypatch.chdir(tmp_path / "version 2")
    with pytest.raises(ModelInvalid, match="not the published lenet"):
        Classifier("./model.onnx", device="cpu")


def test_a_file_that_no_index_lists_is_called_by_its_folder(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    shutil.copy(PUBLISHED / "lenet" / "model.onnx", tmp_path / "mine" / "model.onnx")
    monkeypatch.chdir(tmp_path / "mine")

    assert registry.find_model("./model.onnx").name == "mine"


def test_a_copied_file_is_known_by_its_content(empty_home, tmp_path):
    """The figures of a file hang on what is in it, not on where it lies."""
    shutil.copy(PUBLISHED / "lenet" / "model.onnx", tmp_path / "copy.onnx")
    published, copied = (Classifier(model, device="cpu").info() for model in ("lenet", tmp_path / "copy.onnx"))

    assert len(copied["sha256"]) == 64
    for key in ("sha256", "parameters", "flops", "verified"):
        assert copied[key] == published[key], key


def test_a_file_that_no_index_knows_shows_its_own_checksum(empty_home, tmp_path):
    import hashlib

    import onnx

    model = onnx.load(PUBLISHED / "lenet" / "model.onnx")
    model.producer_version = "mine"
    (tmp_path / "mine.onnx").write_bytes(model.SerializeToString())
    info = Classifier(tmp_path / "mine.onnx", device="cpu").info()

    assert info["sha256"] == hashlib.sha256((tmp_path / "mine.onnx").read_bytes()).hexdigest()
    assert (info["parameters"], info["verified"]) == (None, None)


def test_a_checksum_is_of_what_was_opened_and_not_of_what_lies_there_now(empty_home, tmp_path):
    path = tmp_path / "mine.onnx"
    shutil.copy(PUBLISHED / "lenet" / "model.onnx", path)
    with Classifier(path, device="cpu") as classifier:
        before = classifier.info()["sha256"]
        shutil.copy(PUBLISHED / "lenet-modern" / "model.onnx", path)

        assert classifier.info()["sha256"] == classifier.sha256 == before


def test_a_damaged_index_of_names_refuses_no_model_given_by_path(empty_home, tmp_path):
    (empty_home / "weights").mkdir(parents=True)
    (empty_home / "weights" / "index.json").write_text("{")
    shutil.copy(PUBLISHED / "lenet" / "model.onnx", tmp_path / "mine.onnx")

    assert Classifier(tmp_path / "mine.onnx", device="cpu").info()["parameters"] == 61_706


def test_a_wrong_home_refuses_no_model_given_by_path(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_HOME", "~nosuch/home")
    shutil.copy(PUBLISHED / "lenet" / "model.onnx", tmp_path / "mine.onnx")

    assert Classifier(tmp_path / "mine.onnx", device="cpu").info()["origin"] == "path"


def test_a_model_whose_file_is_gone_is_not_listed(own_lenet):
    own_lenet.unlink()

    assert registry.find_model("lenet").origin == "repository"


def test_an_empty_file_is_refused(tmp_path):
    path = tmp_path / "empty.onnx"
    path.touch()

    with pytest.raises(ModelInvalid, match="holds 0 bytes"):
        Classifier(path, device="cpu")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "is damaged"),
        ("[]", "not an index of schema 1"),
        ('{"schema": 2, "models": []}', "not an index of schema 1"),
        ('{"schema": 1}', "no list of models"),
        ('{"schema": 1, "models": [{"name": "lenet"}]}', "lacks its name, file or sha256"),
    ],
)
def test_a_damaged_index_is_named(empty_home, text, sentence):
    (empty_home / "weights").mkdir(parents=True)
    (empty_home / "weights" / "index.json").write_text(text)

    with pytest.raises(ModelInvalid, match=sentence):
        registry.find_model("lenet")


@pytest.mark.parametrize("text", ['{"name": "site"}', "{", '{"schema": 1, "models": [{"name": "lenet"}]}'])
def test_somebody_elses_index_two_folders_up_refuses_no_model_given_by_path(tmp_path, text):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "index.json").write_text(text)
    shutil.copy(PUBLISHED / "lenet" / "model.onnx", tmp_path / "a" / "b" / "my.onnx")

    assert registry.find_model(tmp_path / "a" / "b" / "my.onnx").entry is None


@pytest.fixture
def files_here(empty_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory with `mine`, `mine.ONNX`, and the folders `folder`, `lenet` and `vgg11` with a model each."""
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "mine.ONNX", "folder/model.onnx", "lenet/model.onnx", "vgg11/model.onnx"):
        Path(name).parent.mkdir(exist_ok=True)
        shutil.copy(PUBLISHED / "lenet-modern" / "model.onnx", name)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("mine", "mine"),
        ("mine.ONNX", "mine.ONNX"),
        ("folder", "folder/model.onnx"),
        (Path("mine"), "mine"),
        (Path("folder"), "folder/model.onnx"),
        (Path("lenet"), "lenet/model.onnx"),
        ("./lenet", "lenet/model.onnx"),
    ],
)
def test_what_is_no_name_is_looked_for_as_a_file_and_a_path_object_always_is(files_here, given, meant):
    found = registry.find_model(given)

    assert (found.path, found.origin) == (Path(meant), "path")


def test_a_folder_that_happens_to_be_called_like_a_model_does_not_stand_in_for_it(files_here, tmp_path, monkeypatch):
    assert registry.find_model("lenet").path == PUBLISHED / "lenet" / "model.onnx"

    wheel = tmp_path / "wheel"
    wheel.mkdir()
    entry = {"name": "vgg11", "rebuild": "make it", "sha256": "0" * 64}
    (wheel / "index.json").write_text(json.dumps({"schema": 1, "models": [], "rebuildable": [entry]}))
    monkeypatch.setattr(registry, "folders", lambda: [("wheel", wheel)])
    with pytest.raises(ModelNotFound, match="vgg11 is not on this machine"):
        registry.find_model("vgg11")


def test_a_path_object_is_no_name(empty_home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelNotFound, match="no model file at lenet"):
        registry.find_model(Path("lenet"))


def test_the_home_folder_of_an_unknown_user_is_named_as_it_was_written(empty_home):
    with pytest.raises(ModelNotFound, match=r"no model file at ~nosuch/x\.onnx"):
        registry.find_model("~nosuch/x.onnx")
