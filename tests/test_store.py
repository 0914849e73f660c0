"""Which file a name means, and that no other file is ever taken for it."""

import json
import shutil
from pathlib import Path

import pytest

from runtime import Classifier, ModelInvalid, ModelNotFound, store
from runtime.parity import INPUT_FILE, OUTPUT_FILES, REPORT

PUBLISHED = Path(__file__).resolve().parents[1] / "weights"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def own_lenet(home: Path) -> Path:
    """A user's own export of lenet: a copy of the published one."""
    shutil.copytree(PUBLISHED / "lenet", home / "weights" / "lenet")
    entries = [
        entry for entry in json.loads((PUBLISHED / "index.json").read_text())["models"] if entry["name"] == "lenet"
    ]
    (home / "weights" / "index.json").write_text(json.dumps({"schema": 1, "models": entries}))
    return home / "weights" / "lenet" / "model.onnx"


def test_a_name_means_the_published_file_until_the_user_exports_one(home: Path) -> None:
    assert store.find_model("lenet").path == PUBLISHED / "lenet" / "model.onnx"


def test_a_users_own_export_is_what_the_name_then_means(own_lenet: Path) -> None:
    found = store.find_model("lenet")

    assert (found.path, found.origin) == (own_lenet, "user")
    assert [stored.path for stored in store.list_models() if stored.name == "lenet"] == [own_lenet]


def test_without_a_name_the_most_accurate_shipped_model_is_meant(own_lenet: Path) -> None:
    found = store.find_model()

    assert found.name == "lenet-modern"
    assert found.accuracy == max(stored.accuracy or 0 for stored in store.list_models() if stored.name in store.SHIPPED)


def test_the_shipped_models_are_those_that_the_wheel_is_told_to_carry() -> None:
    import tomllib

    project = tomllib.loads((PUBLISHED.parent / "pyproject.toml").read_text())
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]

    files = {store.MODEL_FILE, REPORT, INPUT_FILE, *OUTPUT_FILES.values()}
    assert set(included) == {"weights/index.json"} | {
        f"weights/{name}/{file}" for name in store.SHIPPED for file in files
    }
    assert all(target == f"runtime/{source}" for source, target in included.items())


@pytest.mark.parametrize("form", ["file", "folder"])
def test_a_path_means_that_file(home: Path, form: str) -> None:
    path = PUBLISHED / "lenet" / "model.onnx"
    found = store.find_model(path if form == "file" else path.parent)

    assert (found.path, found.origin, found.name) == (path, "path", "lenet")


def test_a_published_model_that_this_package_does_not_carry_is_named_with_two_ways_to_it(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wheel = tmp_path / "wheel"
    wheel.mkdir()
    entry = {"name": "resnet18", "file": "resnet18/model.onnx", "sha256": "0" * 64}
    (wheel / "index.json").write_text(json.dumps({"schema": 1, "models": [entry]}))
    monkeypatch.setattr(store, "folders", lambda: [("wheel", wheel)])

    with pytest.raises(ModelNotFound, match=r"is published, .*weights/resnet18/model\.onnx.*`zoo export resnet18`"):
        store.find_model("resnet18")
    assert store.list_models() == []


def test_an_unknown_name_lists_the_known_ones_and_the_nearest(home: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"did you mean 'lenet'\? Models here: .*lenet-modern"):
        store.find_model("lenat")


def test_a_path_to_nothing_is_said_to_be_nothing(home: Path) -> None:
    with pytest.raises(ModelNotFound, match="no model file at nowhere"):
        store.find_model("nowhere/model.onnx")


@pytest.mark.parametrize("position", [0, 1000, -1])
def test_one_changed_byte_is_noticed_by_name_and_by_path(own_lenet: Path, position: int) -> None:
    content = bytearray(own_lenet.read_bytes())
    content[position] ^= 1
    own_lenet.write_bytes(content)

    for model in ("lenet", own_lenet):
        with pytest.raises(ModelInvalid, match=r"not the published lenet: its sha256 is [0-9a-f]{64}, the index says"):
            Classifier(model, device="cpu")


def test_a_model_whose_file_is_gone_is_not_listed(own_lenet: Path) -> None:
    own_lenet.unlink()

    assert store.find_model("lenet").origin == "repository"


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
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
def test_a_damaged_index_is_named(home: Path, text: str, sentence: str) -> None:
    (home / "weights").mkdir(parents=True)
    (home / "weights" / "index.json").write_text(text)

    with pytest.raises(ModelInvalid, match=sentence):
        store.find_model("lenet")


@pytest.mark.parametrize("text", ['{"name": "site"}', "{", '{"schema": 1, "models": [{"name": "lenet"}]}'])
def test_somebody_elses_index_two_folders_up_refuses_no_model_given_by_path(tmp_path: Path, text: str) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "index.json").write_text(text)
    shutil.copy(PUBLISHED / "lenet" / "model.onnx", tmp_path / "a" / "b" / "my.onnx")

    assert store.find_model(tmp_path / "a" / "b" / "my.onnx").entry is None


@pytest.fixture
def files_here(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_what_is_no_name_is_looked_for_as_a_file_and_a_path_object_always_is(
    files_here: None, given: str | Path, meant: str
) -> None:
    found = store.find_model(given)

    assert (found.path, found.origin) == (Path(meant), "path")


def test_a_folder_that_happens_to_be_called_like_a_model_does_not_stand_in_for_it(
    files_here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store.find_model("lenet").path == PUBLISHED / "lenet" / "model.onnx"

    wheel = tmp_path / "wheel"
    wheel.mkdir()
    entry = {"name": "vgg11", "rebuild": "make it", "sha256": "0" * 64}
    (wheel / "index.json").write_text(json.dumps({"schema": 1, "models": [], "rebuildable": [entry]}))
    monkeypatch.setattr(store, "folders", lambda: [("wheel", wheel)])
    with pytest.raises(ModelNotFound, match="vgg11 is not on this machine"):
        store.find_model("vgg11")


def test_a_path_object_is_no_name(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelNotFound, match="no model file at lenet"):
        store.find_model(Path("lenet"))


def test_the_home_folder_of_an_unknown_user_is_named_as_it_was_written(home: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"no model file at ~nosuch/x\.onnx"):
        store.find_model("~nosuch/x.onnx")
