"""Training runs on disk: stop, resume, start over, and refuse wrong settings."""

import contextlib
import functools
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import torch
from PIL import Image
from support.small_runs import CPU, RECIPE, Stop, StopAfter, small_split, train, weights

from runtime.errors import UsageError
from zoo.data.dataset import LabelledImages
from zoo.models import create_model
from zoo.recipes import recipe_for
from zoo.runs import checkpoint, run
from zoo.runs import settings as settings_module
from zoo.runs.checkpoint import CheckpointError, checkpoint_in
from zoo.runs.folder import RunFolder, RunFolderBusy
from zoo.runs.settings import Settings, resolve_settings
from zoo.training.device import computes_bf16
from zoo.training.metrics import RunningMetrics
from zoo.training.trainer import Trainer, TrainingDiverged

ROOT = Path(__file__).resolve().parents[3]

pytestmark = pytest.mark.usefixtures("few_images")


@pytest.fixture(scope="module")
def unbroken(few_images: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The weights of a run that was never stopped."""
    folder = tmp_path_factory.mktemp("unbroken")
    train(folder)
    return weights(folder)


def test_a_run_learns_and_leaves_checkpoint_history_and_curves(tmp_path):
    result = train(tmp_path)
    history = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]

    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert history[-1]["train_loss"] < 0.8 * history[0]["train_loss"]
    assert result.test_accuracy is not None
    assert result.test_accuracy > 0.4
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert checkpoint.load(result.checkpoint).finished


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tmp_path, unbroken):
    for seed in (0, 1):
        train(tmp_path / str(seed), seed=seed)

    assert weights(tmp_path / "0") == unbroken != weights(tmp_path / "1")


@pytest.mark.parametrize("batches", [1, 8, 9, 20, 31])
def test_a_run_broken_off_in_any_epoch_and_resumed_ends_with_the_weights_of_an_unbroken_one(
    tmp_path, batches, unbroken
):
    with pytest.raises(Stop):
        train(tmp_path, listener=StopAfter(batches))
    train(tmp_path, resume=True)

    assert weights(tmp_path) == unbroken


def test_resume_keeps_the_state_of_sgd_with_momentum_too(tmp_path):
    recipe = RECIPE.override(optimizer="sgd", momentum=0.9, lr=0.05, ema=0.0)
    train(tmp_path / "unbroken", recipe)
    with pytest.raises(Stop):
        train(tmp_path / "broken", recipe, listener=StopAfter(12))
    train(tmp_path / "broken", recipe, resume=True)

    assert weights(tmp_path / "broken") == weights(tmp_path / "unbroken")


KILLABLE = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from support import small_runs as t
t.run.load_split = t.small_split
t.torch.set_num_threads(1)
t.train(Path(sys.argv[1]), t.RECIPE.override(epochs=12), resume=True)
print("finished", flush=True)
"""


@pytest.mark.slow
def test_a_run_killed_ten_times_at_random_moments_ends_with_the_weights_of_one_never_killed(tmp_path):
    program = KILLABLE.format(tests=str(ROOT / "tests"))

    def start(folder: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", program, str(tmp_path / folder)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)

    quiet = start("never")
    assert quiet.communicate()[0] == "finished\n"
    chance = random.Random(0)
    kills = 0
    while kills < 10:
        process = start("often")
        begun = time.monotonic()
        while not (tmp_path / "often" / "checkpoint.safetensors").exists() and time.monotonic() - begun < 60:
            time.sleep(0.01)
        time.sleep(chance.uniform(0.0, 4.0))
        process.send_signal(signal.SIGKILL)
        kills += 1
        if process.communicate()[0]:
            break  # it finished before the kill: nothing is left to break
    assert start("often").communicate()[0] == "finished\n"

    assert weights(tmp_path / "often") == weights(tmp_path / "never")


def test_resuming_a_finished_run_reports_it_and_trains_no_further(tmp_path):
    first = train(tmp_path)
    before = checkpoint_in(tmp_path).read_bytes()
    again = train(tmp_path, resume=True)

    assert again == first
    assert checkpoint_in(tmp_path).read_bytes() == before


@pytest.mark.parametrize(
    ("killed_before", "val_split"),
    [("write_history", False), ("draw_curves", False), ("draw_answers", False), ("draw_answers", True)],
)
def test_a_run_killed_after_its_last_save_is_completed_when_it_is_resumed(
    tmp_path, monkeypatch, killed_before, val_split
):
    settings = Settings(RECIPE.override(epochs=2), val_split=val_split)
    run.train("lenet-modern", settings, device=CPU, folder=tmp_path / "unbroken")
    step = getattr(RunFolder, killed_before)

    def kill(place: RunFolder, *arguments: object) -> None:
        if checkpoint.load(place.checkpoint).finished:
            raise Stop
        step(place, *arguments)

    monkeypatch.setattr(run, "SECONDS_BETWEEN_DRAWINGS", -1)  # earlier curves are there
    monkeypatch.setattr(RunFolder, killed_before, kill)
    with pytest.raises(Stop):
        run.train("lenet-modern", settings, device=CPU, folder=tmp_path / "killed")
    monkeypatch.setattr(RunFolder, killed_before, step)
    before = checkpoint_in(tmp_path / "killed").read_bytes()
    drawn = time.time_ns()
    result = run.train("lenet-modern", settings, device=CPU, folder=tmp_path / "killed", resume=True)

    assert checkpoint_in(tmp_path / "killed").read_bytes() == before
    assert result.accuracy[1] == ("validation" if val_split else "test")
    assert len((tmp_path / "killed" / "metrics.jsonl").read_text().splitlines()) == 2
    for name in ("confusion.png", "mistakes.png", "reliability.png"):
        drawings = [np.asarray(Image.open(tmp_path / folder / name)) for folder in ("killed", "unbroken")]
        # A network just trained and one just loaded lie in memory in other orders, so the last bits of their answers,
        # and with these the last digit of a printed figure, may differ.
        assert np.mean(drawings[0] != drawings[1]) < 0.01, name
    assert ((tmp_path / "killed" / "curves.png").stat().st_mtime_ns >= drawn) == (killed_before != "draw_answers")


def test_starting_over_moves_the_older_run_and_its_pictures_to_a_folder(tmp_path):
    train(tmp_path, RECIPE.override(epochs=1))
    older = checkpoint_in(tmp_path).read_bytes()
    train(tmp_path, RECIPE.override(epochs=1), seed=1)
    (archive,) = tmp_path.glob("before-*")

    assert (archive / "checkpoint.safetensors").read_bytes() == older
    assert checkpoint_in(tmp_path).read_bytes() != older
    for folder in (tmp_path, archive):
        assert {path.name for path in folder.glob("*.png")} == {
            "curves.png",
            "confusion.png",
            "mistakes.png",
            "reliability.png",
        }


def test_resuming_with_other_settings_is_refused_by_name(tmp_path):
    with pytest.raises(Stop):
        train(tmp_path, listener=StopAfter(9))

    with pytest.raises(UsageError, match=r"started with lr 0.003, not 0.1"):
        resolve_settings("lenet-modern", tmp_path, None, {"lr": 0.1}, None, False)
    with pytest.raises(UsageError, match="started with seed 0, not 7"):
        resolve_settings("lenet-modern", tmp_path, None, {}, 7, False)
    with pytest.raises(CheckpointError, match="'lenet-modern', not of 'lenet'"):
        resolve_settings("lenet", tmp_path, None, {}, None, False)
    assert resolve_settings("lenet-modern", tmp_path, None, {"lr": None}, None, False) == Settings(RECIPE)


def test_a_checkpoint_that_lacks_something_is_refused_in_a_sentence_and_left_as_it_is(tmp_path):
    with pytest.raises(Stop):
        train(tmp_path, listener=StopAfter(9))
    path = checkpoint_in(tmp_path)
    whole = checkpoint.load(path, with_training=True)

    def without(tensors: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
        return {key: tensor for key, tensor in tensors.items() if key != name}

    header, weights, training = whole.header, whole.weights, whole.training
    early = {name: value for name, value in header.items() if name != "val_split"}
    cases = [
        (header, without(weights, "network.0.bias"), training, CheckpointError, r"Missing key\(s\).*network.0.bias"),
        (header, weights, without(training, "average/n"), CheckpointError, "cannot be gone on with.*average/n"),
        (header | {"history": []}, weights, training, CheckpointError, "its history is not that of its epochs"),
        (header | {"epoch": 1.5}, weights, training, CheckpointError, "a damaged description.*epoch 1.5 of 4"),
        (header | {"epoch": 9}, weights, training, CheckpointError, "a damaged description.*epoch 9 of 4"),
        (early, weights, training, UsageError, "'val_split' is missing"),
    ]
    for described, kept, state, kind, sentence in cases:
        checkpoint.save(path, described, kept, state)
        before = path.read_bytes()
        with pytest.raises(kind, match=sentence):
            train(tmp_path, resume=True)
        assert path.read_bytes() == before


def test_a_run_that_cannot_begin_leaves_the_older_run_in_its_place(tmp_path):
    train(tmp_path, RECIPE.override(epochs=1))
    with pytest.raises(UsageError, match="is larger than the 1000 training images"):
        run.train("lenet-modern", Settings(RECIPE.override(batch_size=1001)), device=CPU, folder=tmp_path)

    assert checkpoint_in(tmp_path).exists()
    assert not list(tmp_path.glob("before-*"))


def test_two_runs_cannot_write_to_one_folder(tmp_path):
    class StartAnother(StopAfter):
        def batch(self, images: int, running: RunningMetrics) -> None:
            with pytest.raises(RunFolderBusy, match="another process is training"):
                train(tmp_path)
            raise Stop

    with pytest.raises(Stop):
        train(tmp_path, listener=StartAnother(1))


def test_a_held_out_run_leaves_the_test_images_alone(tmp_path, monkeypatch):
    asked: list[str] = []

    def watched(split: str, device: torch.device | None = None) -> LabelledImages:
        asked.append(split)
        return small_split(split, device)

    monkeypatch.setattr(run, "load_split", watched)
    settings = Settings(RECIPE.override(epochs=1), val_split=True)
    result = run.train("lenet-modern", settings, device=CPU, folder=tmp_path)

    assert asked == ["fit", "validation"]
    assert result.test_accuracy is None
    assert result.val_accuracy is not None


def test_a_loss_that_is_no_number_stops_with_the_epoch_and_the_rate(tmp_path):
    recipe = RECIPE.override(optimizer="sgd", lr=1e30, schedule="constant", ema=0.0)

    with pytest.raises(TrainingDiverged, match=r"epoch 1 is nan at learning rate 1e\+30"):
        train(tmp_path, recipe)
    assert not checkpoint_in(tmp_path).exists()


def test_a_full_disk_keeps_the_last_whole_checkpoint(tmp_path, monkeypatch):
    with pytest.raises(Stop):
        train(tmp_path, listener=StopAfter(9))
    whole = checkpoint_in(tmp_path).read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*checkpoint\.safetensors'"):
        train(tmp_path, resume=True)

    assert checkpoint_in(tmp_path).read_bytes() == whole
    assert not list(tmp_path.glob("*.part"))


def test_the_average_of_weights_is_what_is_kept(fashion_mnist_dir):
    trainer = Trainer(create_model("lenet-modern"), RECIPE.override(ema=0.9), small_split("train"), seed=0)
    trainer.run_epoch()
    kept, latest = trainer.trained.state_dict(), trainer.model.state_dict()

    assert any(not torch.equal(kept[name], latest[name]) for name in latest)


def test_a_resumed_run_keeps_its_precision_and_a_checkpoint_of_before_there_was_one_is_fp32(tmp_path):
    settings = Settings(RECIPE.override(epochs=2), precision="bf16")
    with pytest.raises(Stop):
        run.train("lenet-modern", settings, device=CPU, folder=tmp_path, listener=StopAfter(9))

    assert resolve_settings("lenet-modern", tmp_path, None, {}, None, False, None, CPU) == settings
    with pytest.raises(UsageError, match="started with precision bf16, not fp32"):
        resolve_settings("lenet-modern", tmp_path, None, {}, None, False, "fp32", CPU)
    older = {name: value for name, value in settings.as_dict().items() if name != "precision"}
    assert Settings.from_dict(older).precision == "fp32"


@pytest.mark.parametrize("cpu_has_bf16", [False, True])
def test_the_precision_left_open_is_bf16_where_it_pays(cpu_has_bf16, monkeypatch, tmp_path):
    """On a CPU with bfloat16 a large network trains twice as fast; LeNet hardly gains, so it stays in float32."""
    monkeypatch.setattr(settings_module, "computes_bf16", lambda: cpu_has_bf16)

    def left_open(model: str, device: str) -> str:
        return resolve_settings(model, None, None, {}, None, False, None, torch.device(device)).precision

    for model in ("lenet", "lenet-modern", "resnet18", "vgg11", "resnext"):
        large = not model.startswith("lenet")
        assert left_open(model, "cuda") == "bf16"
        assert left_open(model, "cpu") == ("bf16" if cpu_has_bf16 and large else "fp32")
    assert resolve_settings("resnet18", None, None, {}, None, False, "fp32", CPU).precision == "fp32"
    with pytest.raises(UsageError, match="must be fp32 or bf16, not 'fp16'"):
        resolve_settings("lenet", None, None, {}, None, False, "fp16", CPU)
    for precision in ("fp32", "bf16"):  # a run keeps its own, on whatever CPU it is resumed
        started = Settings(recipe_for("resnet18"), precision=precision)  # type: ignore[arg-type]
        header = {"model": "resnet18", "epoch": 1} | started.as_dict()
        checkpoint.save(checkpoint_in(tmp_path), header, {"bias": torch.ones(1)})
        assert resolve_settings("resnet18", tmp_path, None, {}, None, False, None, CPU).precision == precision


@pytest.mark.parametrize(
    ("capability", "instructions", "limit", "expected"),
    [
        ("AVX512", ("_is_avx512_bf16_supported",), None, True),
        ("AVX512", ("_is_amx_tile_supported",), "default", True),
        ("AVX512", ("_is_amx_tile_supported",), "AVX512_CORE_BF16", True),
        ("AVX512", (), None, False),
        ("AVX2", ("_is_avx512_bf16_supported", "_is_amx_tile_supported"), None, False),
        ("AVX512", ("_is_avx512_bf16_supported", "_is_amx_tile_supported"), "AVX2", False),
        ("AVX512", ("_is_avx512_bf16_supported",), "avx512_core", False),
    ],
)
def test_a_cpu_computes_in_bf16_if_it_can_and_its_libraries_may(capability, instructions, limit, expected, monkeypatch):
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, functools.partial(bool, name in instructions))
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    for variable in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(variable, raising=False)
    if limit is not None:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)

    assert computes_bf16() is expected


def test_a_resumed_run_reads_its_checkpoint_once(tmp_path, monkeypatch):
    """The checkpoint of vgg11 with its optimiser's state is half a gigabyte."""
    with pytest.raises(Stop):
        train(tmp_path, listener=StopAfter(9))
    read: list[str] = []

    class Counting:
        def __init__(self, file: Any) -> None:
            self._file = file

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

        def get_tensor(self, name: str) -> torch.Tensor:
            read.append(name)
            return self._file.get_tensor(name)  # type: ignore[no-any-return]

    @contextlib.contextmanager
    def opened(path: Path, framework: str) -> Iterator[Counting]:
        with safe_open(path, framework) as file:
            yield Counting(file)

    safe_open = safetensors.safe_open
    monkeypatch.setattr(checkpoint.safetensors, "safe_open", opened)
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} was read as a whole"))
    settings = resolve_settings("lenet-modern", tmp_path, None, {}, None, False, None, CPU)
    run.train("lenet-modern", settings, device=CPU, folder=tmp_path, resume=True)

    assert read
    assert len(read) == len(set(read))
