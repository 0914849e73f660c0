"""Exporting: the artifact is complete, self-contained, reproducible, and never written unless it is proved."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import pytest
import torch
from torch import nn

from export import Description, VerificationFailed, export_network
from export.bundle import artifact as artifact_module
from export.bundle.artifact import FolderBusy, write_artifact
from export.convert.exporter import OPSET, build_graph
from runtime import Classifier, ModelInvalid
from runtime.datasets.fashion_mnist import LABELS
from runtime.errors import UsageError
from runtime.model.metadata import METADATA_KEYS
from runtime.model.registry import read_index
from runtime.storage import locked, write_bytes, write_synced
from zoo.models import create_model
from zoo.models.preprocess import ImageClassifier, Preprocess

DESCRIPTION = Description(name="lenet-modern", labels=LABELS)
IMAGES = 300


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return create_model("lenet-modern").eval()


@pytest.fixture(scope="module")
def weights(network: nn.Module, pictures: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    export_network(network, folder, DESCRIPTION, **pictures)
    return folder


def test_the_artifact_is_complete(weights):
    files = {str(path.relative_to(weights)) for path in weights.rglob("*") if path.is_file()}

    assert files == {".lock", "index.json"} | {
        f"lenet-modern/{name}"
        for name in (
            "model.onnx",
            "README.md",
            "verification.json",
            "test_data_set_0/input_0.pb",
            "test_data_set_0/output_0.pb",
            "test_data_set_0/output_1.pb",
        )
    }


def test_the_file_needs_nothing_else_and_tells_nothing_of_this_machine(weights):
    content = (weights / "lenet-modern" / "model.onnx").read_bytes()
    model = onnx.load_from_string(content)

    assert [opset.domain for opset in model.opset_import] == [""]
    assert not model.functions
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    assert {prop.key for prop in model.metadata_props} == set(METADATA_KEYS)
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    for trace in (b"site-packages", b".py", str(Path.home()).encode() + b"/", str(Path.cwd()).encode()):
        assert trace not in content, trace


def test_the_same_network_gives_the_same_bytes(network, weights):
    metadata = DESCRIPTION.metadata(read_index(weights)["lenet-modern"]["accuracy"])

    assert build_graph(network, metadata) == (weights / "lenet-modern" / "model.onnx").read_bytes()


def test_a_file_states_the_exporters_own_opset_and_the_oldest_ir_version_that_has_it(weights):
    model = onnx.load(weights / "lenet-modern" / "model.onnx")

    assert (model.opset_import[0].version, model.ir_version) == (OPSET, 9)


@pytest.mark.parametrize(("form", "opset"), [(("fp32", "fp32"), 18), (("fp16", "fp16"), 22), (("fp32", "fp16"), 23)])
def test_a_file_states_the_opset_that_was_asked_for_and_passes_every_check(network, tmp_path, pictures, form, opset):
    dtype, storage = form
    export_network(network, tmp_path, DESCRIPTION, **pictures, dtype=dtype, storage=storage, opset=opset)
    model = onnx.load(tmp_path / "lenet-modern" / "model.onnx")

    assert [entry.version for entry in model.opset_import] == [opset]
    assert read_index(tmp_path)["lenet-modern"]["opset"] == opset


@pytest.mark.parametrize("opset", [17, 24])
def test_an_opset_that_the_exporter_does_not_write_is_refused_and_the_default_named(network, tmp_path, pictures, opset):
    with pytest.raises(UsageError, match=f"from 18 to 23, as PyTorch's exporter writes, not {opset}; .* states 20$"):
        export_network(network, tmp_path, DESCRIPTION, **pictures, opset=opset)

    assert not list(tmp_path.iterdir())


def test_exporting_leaves_the_network_as_it_was(network):
    network.train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    build_graph(network, DESCRIPTION.metadata(None))

    assert network.training
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    network.eval()


def test_the_golden_tensors_are_real_images_and_the_networks_answers(network, weights, pictures):
    folder = weights / "lenet-modern" / "test_data_set_0"
    images, logits, probabilities = (
        onnx.numpy_helper.to_array(onnx.TensorProto.FromString((folder / name).read_bytes()))
        for name in ("input_0.pb", "output_0.pb", "output_1.pb")
    )

    np.testing.assert_array_equal(images, pictures["images"][:16])
    with torch.inference_mode():
        np.testing.assert_array_equal(logits, network(torch.from_numpy(images.copy())).numpy())
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)


def test_index_card_and_metadata_agree_with_the_file(weights):
    entry = read_index(weights)["lenet-modern"]
    classifier = Classifier(weights / "lenet-modern" / "model.onnx", device="cpu")

    assert classifier.entry == entry
    assert entry["parameters"] == 61_706
    assert entry["flops"] == 2 * (28 * 28 * 6 * 25 + 10 * 10 * 16 * 6 * 25 + 400 * 120 + 120 * 84 + 84 * 10)
    assert classifier.metadata.fields["accuracy"] == entry["accuracy"]
    assert classifier.labels == LABELS
    assert entry["sha256"] in (weights / "lenet-modern" / "README.md").read_text()


def test_the_report_beside_the_file_is_about_this_file(weights):
    report = json.loads((weights / "lenet-modern" / "verification.json").read_text())

    assert report["passed"] is True
    assert report["conditions"]["onnx_sha256"] == read_index(weights)["lenet-modern"]["sha256"]


class Squared(nn.Module):
    """A network that any outsider could write: no class of the zoo in it."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(784, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pixels = images.float().flatten(1) / 255
        return self.dense(pixels * pixels)  # type: ignore[no-any-return]


def test_a_network_of_someone_else_with_other_labels_is_exported_and_used(tmp_path, pictures):
    labels = np.zeros(IMAGES, np.uint8)
    description = Description(name="squared", labels=["a", "b", "c"], license="Apache-2.0")
    report = export_network(Squared(), tmp_path, description, images=pictures["images"], labels=labels)

    assert report.passed
    assert Classifier(tmp_path / "squared", device="cpu").logits(pictures["images"]).shape == (IMAGES, 3)


def test_a_resized_network_has_no_shape_arithmetic_and_only_the_batch_is_symbolic(pictures):
    network = ImageClassifier(Preprocess(96), nn.Sequential(nn.Conv2d(1, 2, 9, 8), nn.Flatten(), nn.Linear(242, 10)))
    model = onnx.load_from_string(build_graph(network.eval(), DESCRIPTION.metadata(None)))

    assert not {"Shape", "Gather", "Concat"} & {node.op_type for node in model.graph.node}
    symbols = {dim.dim_param for info in model.graph.value_info for dim in info.type.tensor_type.shape.dim}
    assert symbols <= {"batch", ""}


class Flaky(nn.Module):
    """Answers otherwise when it is traced: an export that cannot be right."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(images)
        return logits * 1.01 if torch.compiler.is_exporting() else logits


def test_nothing_is_written_for_a_graph_that_is_not_the_network(network, tmp_path, pictures):
    with pytest.raises(VerificationFailed, match="parity") as failure:
        export_network(Flaky(network), tmp_path, DESCRIPTION, **pictures)

    assert failure.value.exit_code == 3
    assert not list(tmp_path.iterdir())


def files_under(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


@pytest.mark.parametrize("after", range(5))
def test_a_disk_that_fills_up_at_any_file_leaves_the_old_artifact_whole(weights, monkeypatch, after):
    before = files_under(weights)
    entry = read_index(weights)["lenet-modern"]
    files = {name.removeprefix("lenet-modern/"): b"new" for name in before if name.startswith("lenet-modern/")}
    files.pop("README.md")

    counted = itertools.count()

    def write(path: Path, content: bytes) -> None:
        if next(counted) >= after:
            fill_disk()
        write_synced(path, content)

    monkeypatch.setattr(artifact_module, "write_synced", write)
    with pytest.raises(OSError, match="No space left"):
        write_artifact(weights, entry, files)

    assert files_under(weights) == before


def fill_disk(*_: object) -> None:
    raise OSError(28, "No space left on device")


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("write", [fill_disk, interrupt])
def test_an_index_that_cannot_be_written_leaves_the_old_artifact_whole_and_in_use(weights, monkeypatch, write):
    before = files_under(weights)
    entry = read_index(weights)["lenet-modern"] | {"sha256": "0" * 64}
    monkeypatch.setattr(artifact_module, "write_bytes", write)
    with pytest.raises((OSError, KeyboardInterrupt)):
        write_artifact(weights, entry, {"model.onnx": b"new"})

    assert files_under(weights) == before
    assert {path.name for path in weights.iterdir()} == {".lock", "index.json", "lenet-modern"}
    assert Classifier(weights / "lenet-modern", device="cpu").name == "lenet-modern"


def test_a_failure_after_the_index_is_written_leaves_the_new_artifact_whole(tmp_path, weights, monkeypatch):
    entry = read_index(weights)["lenet-modern"]
    write_artifact(tmp_path, entry | {"sha256": "0" * 64}, {"model.onnx": b"old"})
    replace = write_bytes

    def replace_and_fail(path: Path, content: bytes) -> None:
        replace(path, content)
        fill_disk()

    monkeypatch.setattr(artifact_module, "write_bytes", replace_and_fail)
    with pytest.raises(OSError, match="No space left"):
        write_artifact(tmp_path, entry, {"model.onnx": b"new"})

    assert read_index(tmp_path)["lenet-modern"] == entry
    assert (tmp_path / "lenet-modern" / "model.onnx").read_bytes() == b"new"


def test_a_first_export_whose_index_cannot_be_written_leaves_nothing(tmp_path, weights, monkeypatch):
    monkeypatch.setattr(artifact_module, "write_bytes", fill_disk)
    with pytest.raises(OSError, match="No space left"):
        write_artifact(tmp_path, read_index(weights)["lenet-modern"], {"model.onnx": b"new"})

    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_damaged_index_is_refused_before_anything_is_moved(tmp_path, weights):
    entry = read_index(weights)["lenet-modern"]
    write_artifact(tmp_path, entry, {"model.onnx": b"old"})
    (tmp_path / "index.json").write_text("{")
    before = files_under(tmp_path)
    with pytest.raises(ModelInvalid, match=r"index\.json is damaged"):
        write_artifact(tmp_path, entry, {"model.onnx": b"new"})

    assert files_under(tmp_path) == before
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "index.json", "lenet-modern"}


@pytest.mark.parametrize("leftover", [False, True])
def test_a_folder_that_is_a_link_is_replaced_every_time_and_what_it_led_to_is_left(tmp_path, weights, leftover):
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "weights"
    entry = read_index(weights)["lenet-modern"]
    write_artifact(folder, entry, {"model.onnx": b"old"})
    (folder / "lenet-modern").rename(elsewhere)
    (folder / "lenet-modern").symlink_to(elsewhere)
    if leftover:  # as earlier versions left one
        (folder / ".lenet-modern.old").symlink_to(elsewhere)
    for content in (b"new", b"newer"):
        write_artifact(folder, entry, {"model.onnx": content})

    assert (folder / "lenet-modern" / "model.onnx").read_bytes() == b"newer"
    assert {path.name for path in folder.iterdir()} == {".lock", "index.json", "lenet-modern"}
    assert (elsewhere / "model.onnx").read_bytes() == b"old"


def test_paths_may_be_text(network, tmp_path, pictures):
    (tmp_path / "mine.safetensors").write_bytes(b"weights")
    checkpoint = str(tmp_path / "mine.safetensors")
    export_network(network, str(tmp_path / "weights"), DESCRIPTION, checkpoint=checkpoint, **pictures)

    assert (tmp_path / "weights" / "lenet-modern" / "checkpoint.safetensors").read_bytes() == b"weights"


def test_a_swap_cut_off_half_way_is_mended_by_the_next_export(weights, network, pictures):
    (weights / "lenet-modern").rename(weights / ".lenet-modern.old")
    export_network(network, weights, DESCRIPTION, **pictures)

    assert not (weights / ".lenet-modern.old").exists()
    assert Classifier(weights / "lenet-modern", device="cpu").name == "lenet-modern"


def test_two_exports_into_one_folder_take_turns_or_say_so(weights, monkeypatch):
    entry = read_index(weights)["lenet-modern"]
    monkeypatch.setattr(artifact_module, "SECONDS_FOR_ANOTHER", 0)
    with locked(weights / ".lock"), pytest.raises(FolderBusy, match="another process is writing"):
        write_artifact(weights, entry, {})


@pytest.mark.parametrize("name", ["", "../evil", "a/b", ".hidden"])
def test_a_name_that_is_no_folder_name_is_refused(name):
    with pytest.raises(UsageError, match="folder's name"):
        Description(name=name, labels=LABELS)
