"""What `gpu_train.py` does, in order: the results that matter most come first."""

import shutil
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from gpu_bench import TINY_BATCH, Bench, OutOfTime, Task
from gpu_measures import limits, profile
from gpu_speed import TARGETS, train_speed
from parts import halve, split

from zoo import run
from zoo.meter import Meter
from zoo.models import create_model
from zoo.recipes import Recipe, recipe_for
from zoo.run import RunResult
from zoo.settings import Settings, settle
from zoo.training import EpochMetrics, Trainer

ROOT = Path(__file__).resolve().parents[1]
SEEDS = 3
SECONDS_BETWEEN_SAVES = 45.0
# What the search tries, as changes to `best`. The empty one is `best` itself, and comes first.
CANDIDATES: dict[str, dict[str, dict[str, Any]]] = {
    "resnet18": {
        "best": {},
        "cutmix": {"cutmix": 0.5, "erase": 0.0},
        "mixup": {"mixup": 0.5, "erase": 0.25},
        "slower": {"lr": 0.2, "weight_decay": 1e-3},
        "adamw": {"optimizer": "adamw", "momentum": 0.0, "lr": 2e-3, "weight_decay": 0.1},
    },
    "vgg11": {
        "best": {},
        "cutmix": {"cutmix": 0.5, "erase": 0.0},
        "faster": {"lr": 1e-3, "weight_decay": 0.1},
        "sgd": {"optimizer": "sgd", "momentum": 0.9, "lr": 0.05, "weight_decay": 5e-4},
    },
}
SEARCH_EPOCHS = {"resnet18": 20, "vgg11": 16}
SECONDS_A_SEED = 120.0  # a final run has as many epochs as fit into this at the speed seen in the search
OTHERS = ("alexnet", "nin", "googlenet", "resnext", "densenet")
SMALL = ("lenet", "lenet-max", "lenet-relu", "lenet-modern")


def plan(tiny: bool) -> list[Task]:
    """Return every task, in order. A tiny plan has the same kinds of tasks, for two seeds and fewer networks."""
    seeds, others, small = (2, ("densenet",), ("lenet", "lenet-modern")) if tiny else (SEEDS, OTHERS, SMALL)
    tasks = [Task("environment", environment, 10), Task("tests_on_cuda", tests_on_cuda, 60)]
    for model, candidates in CANDIDATES.items():
        chosen = list(candidates)[:2] if tiny else list(candidates)
        tasks += [Task(f"search_{model}_{name}", partial(search, model=model, name=name)) for name in chosen]
    for model in CANDIDATES:
        tasks += [Task(f"best_{model}_s{seed}", partial(best, model=model, seed=seed)) for seed in range(seeds)]
        tasks.insert(-seeds + 1, Task(f"stored_{model}", partial(stored, model=model)))
        tasks.append(Task(f"accuracy_{model}_best", partial(over_seeds, model=model, seeds=seeds), 0))
    tasks += [Task(f"accuracy_{model}_d2l", partial(book_recipe, model=model)) for model in ("lenet", *CANDIDATES)]
    for model in TARGETS:
        tasks.append(Task(f"train_speed_{model}_cuda", partial(train_speed, model=model), 100))
        tasks.append(Task(f"profile_{model}", partial(profiled, model=model), 15))
    for model in others:
        tasks.append(Task(f"best_{model}_s0", partial(best, model=model, seed=0)))
        tasks.append(Task(f"stored_{model}", partial(stored, model=model)))
        tasks.append(Task(f"accuracy_{model}_d2l", partial(book_recipe, model=model)))
    tasks.append(Task("at_once_lenet", at_once, 30))
    tasks += [Task(f"accuracy_{model}_best", partial(small_network, model=model, seeds=seeds)) for model in small]
    return tasks


class Watch:
    """A `zoo.run.Listener` that stops when time is over, and keeps what was said."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.said: list[str] = []

    def started(self, images: int, epochs: int, epochs_done: int) -> None: ...

    def batch(self, images: int, meter: Meter) -> None:
        if self._bench.seconds_left < 0:
            raise OutOfTime

    def epoch(self, metrics: EpochMetrics) -> None: ...

    def notice(self, sentence: str) -> None:
        self.said.append(sentence)


def train(bench: Bench, name: str, model: str, recipe: Recipe, seed: int, val_split: bool) -> dict[str, Any]:
    """Train in `runs/<name>`, going on with what is there, and return what came of it."""
    settings = settle(model, None, recipe.name, {}, seed, val_split, device=bench.device)
    if bench.tiny:
        recipe = recipe.override(epochs=1, batch_size=TINY_BATCH)
        run.load_split = bench.images
    settings = Settings(recipe, seed, val_split, settings.precision, settings.step)
    watch = Watch(bench)
    result: RunResult = run.train(
        model,
        settings,
        device=bench.device,
        resume=True,
        folder=bench.folder / "runs" / name,
        seconds_between_saves=SECONDS_BETWEEN_SAVES,
        listener=watch,
    )
    figures = result.as_dict() | {"recipe": recipe.as_dict(), "notices": watch.said}
    return figures | {"checkpoint": str(result.checkpoint.relative_to(bench.folder))}


def environment(bench: Bench) -> dict[str, Any]:
    driver = None
    if bench.device.type == "cuda" and shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.max.sm", "--format=csv,noheader"]
        driver = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()
    found = {"nvidia_smi": driver, "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    return found | limits(bench.device, *((256, 1 << 20) if bench.tiny else (8192, 2 << 30)))


def tests_on_cuda(bench: Bench) -> dict[str, Any]:
    """Run the tests of training that need a GPU; a failure is a finding, not the end."""
    files = ["tests/test_capture.py"] if bench.tiny else ["tests/test_capture.py", "tests/test_run.py"]
    command = [sys.executable, "-m", "pytest", "-m", "cuda", "-q", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=240)
    return {"passed": done.returncode == 0, "output": (done.stdout + done.stderr)[-8000:]}


def search(bench: Bench, model: str, name: str) -> dict[str, Any]:
    """Train one candidate on 50,000 images, measure it on the other 10,000 training images."""
    changes = CANDIDATES[model][name]
    recipe = recipe_for(model).override(epochs=SEARCH_EPOCHS[model], **changes)
    found = train(bench, f"search-{model}-{name}", model, recipe, 0, True)
    return found | {"candidate": name, "changes": changes}


def winner(bench: Bench, model: str) -> tuple[str, Recipe]:
    """Return the candidate that was right most often on the validation images, and the recipe of the final runs.

    Raises:
        LookupError: none has a result.
    """
    tried = [bench.result(f"search_{model}_{name}") for name in CANDIDATES.get(model, {})]
    finished = [found for found in tried if found is not None and found["ok"]]
    if not finished:
        if model in CANDIDATES:
            raise LookupError(f"no candidate for {model} has a result to build on")
        return "best", recipe_for(model)
    first = max(finished, key=lambda found: found["val_accuracy"])
    recipe = recipe_for(model).override(**first["changes"])
    affordable = int(SECONDS_A_SEED * first["images_per_second"] / 60_000)
    return first["candidate"], recipe.override(epochs=min(recipe.epochs, max(15, affordable)))


def best(bench: Bench, model: str, seed: int) -> dict[str, Any]:
    """Train on all 60,000 images and measure on the test images, once, at the end."""
    candidate, recipe = winner(bench, model)
    return train(bench, f"best-{model}-s{seed}", model, recipe, seed, False) | {"candidate": candidate}


def stored(bench: Bench, model: str) -> dict[str, Any]:
    """Store seed 0's checkpoint at half size, in parts, and measure what is stored."""
    source = bench.folder / bench.figures(f"best_{model}_s0")["checkpoint"]
    target = source.with_name(f"{model}.safetensors")
    before, after = halve(source, target, bench.images("test", bench.device))
    parts = split(target, bench.folder / "parts")
    return {
        "model": model,
        "bytes": target.stat().st_size,
        "accuracy_in_float32": before,
        "test_accuracy": after,
        "parts": [path.name for path in parts],
    }


def over_seeds(bench: Bench, model: str, seeds: int) -> dict[str, Any]:
    runs = [bench.figures(f"best_{model}_s{seed}") for seed in range(seeds)]
    return summary_of(runs)


def summary_of(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the accuracies of runs of one recipe as `benchmarks/accuracy.py` writes them."""
    accuracies = [each["test_accuracy"] for each in runs]
    return {
        "what": "test accuracy after the last epoch; the recipe was chosen on the validation split",
        "model": runs[0]["model"],
        "recipe": runs[0]["recipe"],
        "precision": runs[0]["precision"],
        "step": runs[0]["step"],
        "seeds": [each["seed"] for each in runs],
        "test_accuracy": accuracies,
        "mean": round(statistics.mean(accuracies), 5),
        "standard_deviation": round(statistics.stdev(accuracies), 5) if len(runs) > 1 else 0.0,
        "seconds": [each["seconds"] for each in runs],
    }


def book_recipe(bench: Bench, model: str) -> dict[str, Any]:
    return summary_of([train(bench, f"d2l-{model}-s0", model, recipe_for(model, "d2l"), 0, False)])


def profiled(bench: Bench, model: str) -> dict[str, Any]:
    """Say where the time of a step goes: twenty batches of `best`."""
    recipe = recipe_for(model).override(epochs=2, batch_size=TINY_BATCH if bench.tiny else None)
    data = bench.images("train", bench.device)[slice(0, 20 * recipe.batch_size)]
    settings = settle(model, None, None, {}, 0, False, device=bench.device)
    trainer = Trainer(create_model(model), recipe, data, 0, precision=settings.precision, step=settings.step)
    return {"model": model, "batch_size": recipe.batch_size, "step": trainer.step} | profile(trainer, bench.device)


def at_once(bench: Bench) -> dict[str, Any]:
    """Measure whether three small trainings together fill the card better than one."""
    rates = {}
    for count in (1, 3):
        folders = [bench.folder / "runs" / f"at-once-{count}-{number}" for number in range(count)]
        options = ["--recipe", "d2l", "--epochs", "1" if bench.tiny else "10"]
        started = time.monotonic()
        together(bench, [["lenet", *options, "-o", str(folder)] for folder in folders])
        rates[count] = round(count / (time.monotonic() - started), 4)
    return {"runs_per_second": rates, "gain_of_three_at_once": round(rates[3] / rates[1], 2)}


def small_network(bench: Bench, model: str, seeds: int) -> dict[str, Any]:
    """Train the seeds of a small network: at once where that was measured to fill the card better."""
    names = [f"best-{model}-s{seed}" for seed in range(seeds)]
    measured = bench.result("at_once_lenet")
    if not bench.tiny and measured is not None and measured["ok"] and measured["gain_of_three_at_once"] > 1.1:
        runs = [[model, "--seed", str(n), "-o", str(bench.folder / "runs" / name)] for n, name in enumerate(names)]
        together(bench, runs)
    return summary_of([train(bench, name, model, recipe_for(model), n, False) for n, name in enumerate(names)])


def together(bench: Bench, runs: list[list[str]]) -> None:
    """Train in processes side by side, each as `zoo train` with these arguments; go on with what was begun.

    Raises:
        OutOfTime: they were stopped.
        subprocess.CalledProcessError: one failed.
    """
    tail = ["--device", str(bench.device), "--resume"]
    commands = [[sys.executable, "-m", "zoo", "train", *arguments, *tail] for arguments in runs]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    processes = [subprocess.Popen(command, cwd=ROOT, **quiet) for command in commands]  # type: ignore[call-overload]
    try:
        for command, process in zip(commands, processes, strict=True):
            if process.wait(timeout=max(0.0, bench.seconds_left)):
                raise subprocess.CalledProcessError(process.returncode, command)
    except subprocess.TimeoutExpired:
        raise OutOfTime from None
    finally:
        for process in processes:
            if process.poll() is None:
                process.terminate()
                process.wait()
