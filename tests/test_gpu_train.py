"""The one command for a GPU: what it does in which order, how it goes on, and what it brings home."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

import gpu_tasks  # noqa: E402
import parts  # noqa: E402
from gpu_bench import TINY_BATCH, Bench, OutOfTime, Task, work  # noqa: E402
from parts import PartsError, halve, join, split  # noqa: E402

from zoo import checkpoint  # noqa: E402
from zoo.data import load_split  # noqa: E402
from zoo.models import ARCHITECTURES, create_model  # noqa: E402
from zoo.recipes import recipe_for  # noqa: E402
from zoo.settings import Settings  # noqa: E402


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, torch.device("cpu"), True, time.monotonic() + 1e6)


class Scripted:
    """Tasks that do what they are told, and remember the order."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def task(self, name: str, *outcomes: dict[str, Any] | Exception, seconds: float = 1.0) -> Task:
        left = list(outcomes)

        def run(_bench: Bench) -> dict[str, Any]:
            self.done.append(name)
            outcome = left.pop(0)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        return Task(name, run, seconds)


def test_what_is_done_is_not_done_again_and_what_stopped_goes_on(bench: Bench) -> None:
    script = Scripted()
    tasks = [
        script.task("a", {"mean": 1.0}),
        script.task("b", OutOfTime(), {"mean": 2.0}),
        script.task("c", {"mean": 3.0}),
    ]

    assert not work(tasks, bench)
    assert work(tasks, bench)
    assert work(tasks, bench)
    assert script.done == ["a", "b", "c", "b"]
    saved = bench.figures("b")
    assert (saved["mean"], saved["attempts"], saved["task"]) == (2.0, 1, "b")
    assert {"date", "gpu", "versions"} <= saved["conditions"].keys()


def test_a_failure_is_written_down_tried_once_more_and_stops_nothing_else(bench: Bench) -> None:
    script = Scripted()
    tasks = [
        script.task("hopeless", ValueError("no"), ValueError("still no")),
        script.task("lucky", ValueError("no"), {"passed": True}),
        script.task("fine", {"passed": True}),
    ]

    assert [work(tasks, bench) for _ in range(3)] == [False, True, True]
    assert script.done == ["hopeless", "lucky", "fine", "hopeless", "lucky"]
    failed = json.loads((bench.folder / "results" / "hopeless.json").read_text())
    assert (failed["ok"], failed["attempts"], failed["error"]) == (False, 2, "ValueError: still no")
    assert "still no" in failed["trace"]
    with pytest.raises(LookupError, match="hopeless has no result"):
        bench.figures("hopeless")


def test_what_no_time_is_left_for_is_not_begun_and_a_shorter_task_is(bench: Bench) -> None:
    bench.deadline = time.monotonic() + 30
    script = Scripted()

    assert not work([script.task("long", {}, seconds=60), script.task("short", {})], bench)
    assert script.done == ["short"]


def test_the_plan_begins_with_what_matters_and_covers_every_network() -> None:
    names = [task.name for task in gpu_tasks.plan(False)]

    def at(name: str) -> int:
        return names.index(name)

    assert len(set(names)) == len(names)
    assert names[:2] == ["environment", "tests_on_cuda"]
    for model in ("resnet18", "vgg11"):
        last_search = max(index for index, name in enumerate(names) if name.startswith(f"search_{model}_"))
        seeds = [at(f"best_{model}_s{seed}") for seed in range(3)]
        assert last_search < seeds[0] < at(f"stored_{model}") < seeds[1] < seeds[2] < at(f"accuracy_{model}_best")
        assert at(f"accuracy_{model}_best") < at(f"accuracy_{model}_d2l") < at(f"train_speed_{model}_cuda")
    assert at("train_speed_vgg11_cuda") < at("best_alexnet_s0")
    best = {model for model in ARCHITECTURES if {f"best_{model}_s0", f"accuracy_{model}_best"} & set(names)}
    assert best == set(ARCHITECTURES) - {"vgg11-full"}


def test_a_tiny_plan_has_every_kind_of_task() -> None:
    def kinds(tiny: bool) -> set[Callable[..., Any]]:
        return {getattr(task.run, "func", task.run) for task in gpu_tasks.plan(tiny)}

    assert kinds(True) == kinds(False)


@pytest.mark.parametrize("model", gpu_tasks.CANDIDATES)
def test_every_candidate_is_a_sound_recipe_and_best_itself_is_one(model: str) -> None:
    candidates = gpu_tasks.CANDIDATES[model]
    recipes = [recipe_for(model).override(**changes) for changes in candidates.values()]

    assert recipes[0] == recipe_for(model)
    assert len(set(recipes)) == len(candidates)


def test_the_final_recipe_is_that_of_the_best_candidate_and_fits_into_the_time(bench: Bench) -> None:
    with pytest.raises(LookupError, match="no candidate for resnet18"):
        gpu_tasks.winner(bench, "resnet18")
    for name, accuracy, speed in (("best", 0.95, 9000.0), ("cutmix", 0.96, 20000.0), ("mixup", 0.955, 20000.0)):
        changes = gpu_tasks.CANDIDATES["resnet18"][name]
        found = {"val_accuracy": accuracy, "images_per_second": speed, "candidate": name, "changes": changes}
        bench.save(f"search_resnet18_{name}", found | {"ok": True, "attempts": 1})
    bench.save("search_resnet18_adamw", {"ok": False, "attempts": 2})

    assert gpu_tasks.winner(bench, "resnet18") == (
        "cutmix",
        recipe_for("resnet18").override(cutmix=0.5, erase=0.0, epochs=40),
    )
    assert gpu_tasks.winner(bench, "nin") == ("best", recipe_for("nin"))


def test_a_training_stops_at_the_deadline_and_goes_on_from_its_last_whole_epoch(bench: Bench) -> None:
    bench.deadline = time.monotonic() - 1
    arguments = (bench, "run", "lenet", recipe_for("lenet"), 0, False)
    with pytest.raises(OutOfTime):
        gpu_tasks.train(*arguments)
    bench.deadline = time.monotonic() + 1e6
    figures = gpu_tasks.train(*arguments)

    assert figures["checkpoint"] == "runs/run/checkpoint.safetensors"
    assert (figures["epochs"], figures["step"], figures["recipe"]["batch_size"]) == (1, "eager", TINY_BATCH)
    assert gpu_tasks.summary_of([figures])["mean"] == figures["test_accuracy"]


@pytest.fixture(autouse=True)
def unchanged_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny run reads fewer images from then on; the tests that follow should not."""
    monkeypatch.setattr(gpu_tasks.run, "load_split", load_split)


def test_parts_join_to_the_same_bytes_and_a_damaged_or_missing_one_is_named(tmp_path: Path) -> None:
    original = tmp_path / "model.safetensors"
    original.write_bytes(bytes(range(256)) * 41)
    written = split(original, tmp_path / "parts", part_bytes=4096)

    assert [path.name for path in written] == [
        *(f"model.safetensors.part{number:02d}" for number in range(3)),
        "model.safetensors.parts.json",
    ]
    assert all(path.stat().st_size <= 4096 for path in written)
    (joined,) = join(tmp_path / "parts", tmp_path / "out")
    assert joined.read_bytes() == original.read_bytes()
    written[1].write_bytes(b"?" * 4096)
    with pytest.raises(PartsError, match=r"the parts of model\.safetensors .* do not make the file"):
        join(tmp_path / "parts", tmp_path / "out")
    written[1].unlink()
    with pytest.raises(PartsError, match=r"model\.safetensors lacks model\.safetensors\.part01"):
        join(tmp_path / "parts", tmp_path / "out")
    assert parts.PART_BYTES < 16 << 20


def test_a_halved_checkpoint_is_half_as_large_measured_again_and_can_be_loaded(
    tmp_path: Path, fashion_mnist_dir: Path
) -> None:
    source = ROOT / "weights" / "lenet-modern" / "checkpoint.safetensors"
    before, after = halve(source, tmp_path / "half.safetensors", load_split("test"))
    found = checkpoint.load(tmp_path / "half.safetensors", model="lenet-modern")
    network = create_model("lenet-modern")
    found.load_into(network)

    assert abs(after - before) < 0.001
    assert found.header["test_accuracy"] == after
    assert found.header["stored"] == {"kernels": "float16", "accuracy_in_float32": before}
    assert found.rounded_from == checkpoint.sha256_of(source)  # so `zoo export` knows that these are rounded
    assert Settings.from_dict(found.header) == Settings.from_dict(checkpoint.load(source).header)
    assert (tmp_path / "half.safetensors").stat().st_size < 0.56 * source.stat().st_size
    assert {tensor.dtype for tensor in network.state_dict().values()} == {torch.float32}
