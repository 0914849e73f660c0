"""The Triton layout: a model repository that keeps the rules of Triton's own schema and guides."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.command_line import call

from export.deploy import LayoutRefused
from export.deploy.triton import config, write_triton
from runtime.model.metadata import input_specs, output_specs
from runtime.model.registry import find_model
from runtime.model.spec import BATCH, BATCH_SIZE, FASHION_MNIST, InputSpec


@pytest.fixture(scope="module")
def model_config() -> Any:
    """A function that reads `config.pbtxt` by Triton's own protobuf schema, and refuses what that does not know."""
    triton = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="Triton's schema: tritonclient[grpc]")
    from google.protobuf import text_format

    return lambda text: text_format.Parse(text, triton.ModelConfig())


def test_the_config_is_one_by_tritons_own_schema(model_config, tmp_path):
    write_triton(find_model("lenet"), tmp_path)
    found = model_config((tmp_path / "lenet" / "config.pbtxt").read_text())

    assert (found.name, found.backend, found.max_batch_size) == ("lenet", "onnxruntime", BATCH_SIZE)
    assert [(i.name, list(i.dims)) for i in found.input] == [("image", [1, 28, 28])]
    assert [(o.name, list(o.dims), o.label_filename) for o in found.output] == [
        ("logits", [10], ""),
        ("probabilities", [10], "labels.txt"),
    ]
    assert [found.input[0].DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number[t.data_type].name
            for t in [*found.input, *found.output]] == ["TYPE_UINT8", "TYPE_FP32", "TYPE_FP32"]  # fmt: skip


def test_tritons_full_shapes_are_those_of_the_file(model_config):
    found = model_config(config("own", FASHION_MNIST, 7))
    specs = [*input_specs(FASHION_MNIST), *output_specs(7)]
    # "For models with max_batch_size greater than 0, the full shape is formed as [-1] + dims."
    full = [(tensor.name, (BATCH, *tensor.dims)) for tensor in [*found.input, *found.output]]

    assert full == [(spec.name, spec.shape) for spec in specs]


def test_a_networks_own_input_is_written_and_warmed_up(model_config):
    found = model_config(config("photos", InputSpec.photo((96, 128), resize=140, datatype="FP32"), 1000))

    large = model_config(config("photos", InputSpec.photo(1024), 1000))

    assert list(found.input[0].dims) == [3, 96, 128]
    assert all(list(sample.inputs["image"].dims) == [3, 96, 128] for sample in found.model_warmup)
    assert large.max_batch_size == 2  # what the server warms up must fit in its memory
    assert [sample.batch_size for sample in large.model_warmup] == [1, 2]
    assert found.model_warmup[0].inputs["image"].data_type == found.input[0].data_type
    assert found.input[0].data_type == found.output[0].data_type  # FP32
    assert list(found.output[1].dims) == [1000]


def test_batches_are_joined_within_the_limit_and_warmed_up_before_ready(model_config):
    found = model_config(config("lenet", FASHION_MNIST, 10))
    preferred = list(found.dynamic_batching.preferred_batch_size)

    assert preferred == sorted(preferred)
    assert 1 < preferred[0] <= preferred[-1] <= found.max_batch_size
    assert found.dynamic_batching.max_queue_delay_microseconds > 0
    assert [sample.batch_size for sample in found.model_warmup] == [1, *preferred]
    assert len({sample.name for sample in found.model_warmup}) == len(found.model_warmup)
    for sample in found.model_warmup:
        assert list(sample.inputs["image"].dims) == [1, 28, 28]
        assert sample.inputs["image"].data_type == found.input[0].data_type
    assert [group.count for group in found.instance_group] == [1]
    assert found.version_policy.latest.num_versions == 1


def test_labels_are_a_line_each_in_the_order_of_the_outputs(tmp_path):
    stored = find_model("lenet")
    write_triton(stored, tmp_path)

    assert (tmp_path / "lenet" / "labels.txt").read_text().splitlines() == (stored.entry or {})["labels"]


def test_the_first_export_is_version_1_and_the_same_file_again_is_no_new_one(tmp_path):
    stored = find_model("lenet")
    first, again = write_triton(stored, tmp_path), write_triton(stored, tmp_path)

    assert (first.number, first.new, again.number, again.new) == (1, True, 1, False)
    assert (tmp_path / "lenet" / "1" / "model.onnx").read_bytes() == stored.path.read_bytes()
    assert sorted(path.name for path in (tmp_path / "lenet").iterdir()) == ["1", "config.pbtxt", "labels.txt"]


def test_another_file_is_the_next_version_and_a_tuned_config_is_kept(tmp_path):
    stored = find_model("lenet")
    write_triton(stored, tmp_path)
    (tmp_path / "lenet" / "1" / "model.onnx").write_bytes(b"an older export")
    tuned = (tmp_path / "lenet" / "config.pbtxt").read_text().replace("count: 1", "count: 4")
    (tmp_path / "lenet" / "config.pbtxt").write_text(tuned)
    second = write_triton(stored, tmp_path)

    assert (second.number, second.new) == (2, True)
    assert (tmp_path / "lenet" / "1" / "model.onnx").read_bytes() == b"an older export"
    assert (tmp_path / "lenet" / "config.pbtxt").read_text() == tuned


def test_versions_are_counted_as_numbers_and_other_folders_passed_over(tmp_path):
    stored = find_model("lenet")
    write_triton(stored, tmp_path)
    (tmp_path / "lenet" / "1").rename(tmp_path / "lenet" / "9")
    (tmp_path / "lenet" / "9" / "model.onnx").write_bytes(b"an older export")
    (tmp_path / "lenet" / "configs").mkdir()

    assert write_triton(stored, tmp_path).number == 10


def test_a_repository_holds_several_models(tmp_path):
    for name in ("lenet", "lenet-modern"):
        done = call("zoo", "export", name, "--layout", "triton", "-o", tmp_path, "--json")
        assert done.exit_code == 0, done.stderr
        assert (json.loads(done.stdout)["version"], json.loads(done.stdout)["new"]) == (1, True)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["lenet", "lenet-modern"]


def test_a_version_with_other_labels_is_refused(tmp_path):
    write_triton(find_model("lenet"), tmp_path)
    (tmp_path / "lenet" / "labels.txt").write_text("cat\ndog\n")

    with pytest.raises(LayoutRefused, match="serves a model with other labels"):
        write_triton(find_model("lenet"), tmp_path)


def test_a_folder_of_the_name_that_is_no_model_is_refused(tmp_path):
    (tmp_path / "lenet").mkdir()
    (tmp_path / "lenet" / "thesis.tex").write_text("years of work")

    with pytest.raises(LayoutRefused, match=r"holds other files and no config\.pbtxt"):
        write_triton(find_model("lenet"), tmp_path)


def test_a_failed_write_leaves_no_half_version(tmp_path, monkeypatch):
    def full(path: Path, content: bytes) -> None:
        path.write_bytes(content[:100])
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("export.deploy.triton.write_synced", full)
    with pytest.raises(OSError, match="No space left"):
        write_triton(find_model("lenet"), tmp_path)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("killed_after", [0, 1, 2])
def test_an_export_killed_after_any_file_is_completed_by_the_next(tmp_path, monkeypatch, killed_after):
    """No clean-up here, as after SIGKILL: half a file is left under a name with a dot, and the files before it."""
    written: list[Path] = []

    def killed(path: Path, content: bytes) -> None:
        if len(written) == killed_after:
            (path.parent / f".{path.name}.abc.part").write_bytes(content[:100])
            raise KeyboardInterrupt
        written.append(path)
        path.write_bytes(content)

    for name in ("write_synced", "write_bytes"):
        monkeypatch.setattr(f"export.deploy.triton.{name}", killed)
    monkeypatch.setattr("export.deploy.triton.shutil.rmtree", lambda *_, **__: None)
    with pytest.raises(KeyboardInterrupt):
        write_triton(find_model("lenet"), tmp_path)
    assert not (tmp_path / "lenet" / "config.pbtxt").exists()

    monkeypatch.undo()
    write_triton(find_model("lenet"), tmp_path)
    visible = sorted(path.name for path in (tmp_path / "lenet").iterdir() if not path.name.startswith("."))
    assert visible == ["1", "config.pbtxt", "labels.txt"]


def test_labels_that_are_missing_beside_a_config_are_written(tmp_path):
    write_triton(find_model("lenet"), tmp_path)
    before = (tmp_path / "lenet" / "labels.txt").read_bytes()
    (tmp_path / "lenet" / "labels.txt").unlink()
    write_triton(find_model("lenet"), tmp_path)

    assert (tmp_path / "lenet" / "labels.txt").read_bytes() == before


def test_weights_of_a_run_are_exported_and_proved_once_and_then_laid_out(tmp_path, empty_home):
    """Another file than the published one: the checkpoint that was given decides, and its export is found again."""
    from zoo.publishing.deploy import export_layout
    from zoo.runs import checkpoint as checkpoints

    published = checkpoints.load(find_model("lenet").path.parent / "checkpoint.safetensors")
    own = tmp_path / "own.safetensors"
    checkpoints.save(own, published.header | {"seed": 7}, published.weights)
    first = export_layout("lenet", "triton", tmp_path / "models", own)
    again = export_layout("lenet", "triton", tmp_path / "models", own)

    assert first["file"] == again["file"] == str(empty_home / "weights" / "lenet" / "model.onnx")
    assert (first["new"], again["new"]) == (True, False)
    assert (tmp_path / "models" / "lenet" / "1" / "model.onnx").read_bytes() == Path(first["file"]).read_bytes()
