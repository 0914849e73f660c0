"""A model too large for a repository: published as an entry with a command, which is named to whoever asks for it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.command_line import call

from export.verification.speed import adds_products_in_32_bits
from runtime import Classifier, ModelInvalid, ModelNotFound
from runtime.datasets import fashion_mnist
from runtime.model import registry
from runtime.model.registry import list_models, read_index, read_rebuildable
from tools import readme
from zoo.cli import zoo
from zoo.cli.train import train
from zoo.publishing import catalogue as catalogue_module
from zoo.publishing import publish
from zoo.publishing.catalogue import catalogue
from zoo.publishing.publish import NotPublishable, export_trained, publish_exported
from zoo.runs.trained import load_trained

pytestmark = pytest.mark.slow

COMMAND = "zoo train lenet-max --recipe best --seed 0 && zoo export lenet-max --storage fp16"
ENTRY = {"name": "lenet-max", "bytes": 86_000_000, "sha256": "0" * 64, "rebuild": COMMAND}


@pytest.fixture
def repository(fashion_mnist_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty repository and home; the published lenet is there to be exported, and 300 pictures to prove it."""
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    trained = load_trained("lenet")
    images, labels = fashion_mnist.load("test")
    weights = tmp_path / "weights"
    weights.mkdir()
    monkeypatch.setattr(publish, "load_trained", lambda name, path=None: load_trained(name, path) if path else trained)
    monkeypatch.setattr("zoo.publishing.publish.fashion_mnist.load", lambda split: (images[:300], labels[:300]))
    for module in (publish, registry):
        monkeypatch.setattr(module, "repository_weights", lambda: weights)
    return weights


def entered(weights: Path, **changes: Any) -> None:
    document = {"schema": 1, "models": [], "rebuildable": [ENTRY | changes]}
    (weights / "index.json").write_text(json.dumps(document))


def test_publish_writes_all_but_the_large_files_and_the_command_that_makes_them(repository, monkeypatch):
    export_trained(publish.load_trained("lenet"), storage="fp16")
    with monkeypatch.context() as patch:
        patch.setattr(publish, "MAX_FILE", 100_000)
        entry, folder = publish_exported("lenet")
    exported = read_index(repository.parent / "home" / "weights")["lenet"]

    assert read_index(repository) == {}
    assert read_rebuildable(repository) == {"lenet": entry}
    assert "file" not in entry
    assert {key: entry[key] for key in ("sha256", "accuracy", "rounding", "recipe", "bytes")} == {
        key: exported[key] for key in ("sha256", "accuracy", "rounding", "recipe", "bytes")
    }
    assert entry["rebuild"].startswith("zoo train lenet --recipe best --seed 0")
    assert entry["rebuild"].endswith("&& zoo export lenet --storage fp16")
    assert {path.name for path in folder.iterdir()} == {"README.md", "verification.json", "test_data_set_0"}
    assert f"| made by | `{entry['rebuild']}`" in (folder / "README.md").read_text()

    publish_exported("lenet")  # where the limit allows it, it is a model as any other

    assert (list(read_index(repository)), read_rebuildable(repository)) == (["lenet"], {})
    assert "rebuildable" not in json.loads((repository / "index.json").read_text())
    assert (folder / "model.onnx").exists()


def test_the_command_is_one_that_zoo_understands_and_says_what_differs_from_the_recipe(empty_home):
    trained = load_trained("lenet")
    trained.checkpoint.header["recipe"] |= {"epochs": 3, "lr": 0.5}
    command = publish.rebuild_command(trained, publish.Precision())
    first, second = (part.split()[1:] for part in command.split(" && "))
    # With the group as its parent: Click keeps a command's help option, and by itself it would have no -h ever after.
    parent = zoo.make_context("zoo", [], resilient_parsing=True)
    parsed = train.make_context("train", first[1:], parent=parent, resilient_parsing=True)

    assert "--epochs 3 --lr 0.5" in command
    assert (parsed.params["epochs"], parsed.params["lr"], parsed.params["recipe_name"]) == (3, 0.5, "best")
    assert second == ["export", "lenet"]


@pytest.mark.parametrize("processes", [1, 2])
def test_the_command_names_every_option_that_decides_the_weights_or_the_file(empty_home, processes):
    trained = load_trained("lenet")
    trained.checkpoint.header.update(val_split=True, precision="bf16", compile=True, micro_batch=64)
    trained.checkpoint.header["trained_on"]["processes"] = processes
    command = publish.rebuild_command(trained, publish.Precision(storage="fp16"), 20)
    first, second = command.split(" && ")

    assert first.startswith("zoo train lenet" if processes == 1 else "torchrun --nproc-per-node 2 -m zoo train lenet")
    assert first.endswith("--seed 0 --precision bf16 --compile --micro-batch 64 --val-split")
    assert second == "zoo export lenet --storage fp16 --opset 20"


def test_the_command_names_the_opset_that_was_asked_for(repository, monkeypatch):
    export_trained(publish.load_trained("lenet"), opset=21)
    monkeypatch.setattr(publish, "MAX_FILE", 100_000)

    assert publish_exported("lenet")[0]["rebuild"].endswith(" && zoo export lenet --opset 21")


@pytest.mark.skipif(not adds_products_in_32_bits(), reason="this CPU has no VNNI, and int8 sums saturate")
def test_the_command_of_a_file_in_int8_names_its_dtype_alone(repository, monkeypatch):
    export_trained(publish.load_trained("lenet"), dtype="int8", purpose="size")
    monkeypatch.setattr(publish, "MAX_FILE", 10_000)

    assert publish_exported("lenet")[0]["rebuild"].endswith(" && zoo export lenet --dtype int8")


def test_a_file_that_halving_makes_small_enough_is_not_given_up(repository, monkeypatch):
    export_trained(publish.load_trained("lenet"))
    monkeypatch.setattr(publish, "MAX_FILE", 200_000)
    with pytest.raises(NotPublishable, match=r"may have 200,000: `zoo export --storage fp16` halves it"):
        publish_exported("lenet")

    assert not list(repository.iterdir())


def test_whoever_asks_for_it_is_told_the_command(repository):
    entered(repository)
    with pytest.raises(ModelNotFound) as refusal:
        Classifier("lenet-max", device="cpu")
    calls = {
        "runtime": call("runtime", "predict", "-m", "lenet-max", "a.png"),
        "zoo": call("zoo", "verify", "lenet-max"),
    }

    assert str(refusal.value) == (
        "lenet-max is not on this machine: its file of 86,000,000 bytes is more than the repository carries; "
        f"make it with `{COMMAND}`"
    )
    for result in calls.values():
        assert (result.exit_code, COMMAND in result.output) == (1, True), result.output
    assert list_models() == []


def test_an_export_of_ones_own_takes_its_place(repository):
    entered(repository, name="lenet")
    export_trained(publish.load_trained("lenet"))

    assert Classifier("lenet", device="cpu").name == "lenet"


def test_its_figures_are_in_the_tables(repository, monkeypatch):
    figures = {"parameters": 1, "flops": 2_000_000, "accuracy": {"top1": 0.9413}, "recipe": {"name": "best"}}
    entered(repository, **figures)
    monkeypatch.setattr("zoo.publishing.catalogue.repository_weights", lambda: repository)
    (row,) = (row for row in catalogue() if row["name"] == "lenet-max")

    assert (row["accuracy"], row["published"]) == (0.9413, False)
    assert "86.00 MB, made by a command | 0.9413" in readme.results_table(repository.parent)


@pytest.mark.parametrize("damage", [{"rebuild": None}, {"sha256": 3}, {"name": []}])
def test_a_damaged_entry_is_named(repository, damage):
    entered(repository, **damage)
    with pytest.raises(ModelInvalid, match=r"index\.json is damaged: an entry lacks its name, rebuild or sha256"):
        read_rebuildable(repository)


def test_an_installed_package_lists_what_its_own_index_says_is_published(repository, monkeypatch, tmp_path):
    package = tmp_path / "site-packages" / "runtime"
    shutil.copytree(Path(__file__).parents[3] / "weights", package / "weights")
    monkeypatch.setattr(registry, "_PACKAGE", package)
    for module in (registry, catalogue_module):
        monkeypatch.setattr(module, "repository_weights", lambda: None)
    rows = {row["name"]: row for row in catalogue()}

    assert {name for name, row in rows.items() if row["published"]} == set(read_index(package / "weights"))
    assert rows["lenet"]["accuracy"] == read_index(package / "weights")["lenet"]["accuracy"]["top1"]
    assert rows["lenet-max"]["accuracy"] is None
