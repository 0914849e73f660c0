"""What a GPU can do, what it did, and where the time of a training step went."""

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from zoo.capture import StepKind

from export.artifact import count_flops
from zoo.data import LabelledImages, load_split
from zoo.evaluation import evaluate
from zoo.gradients import Precision
from zoo.models import create_model
from zoo.recipes import Recipe
from zoo.training import Trainer

HERE = Path(__file__).parent
BACKWARD = 3  # forward and backward cost about three forwards: one product forward, two of the same size backward


def limits(device: torch.device, side: int, copied_bytes: int) -> dict[str, float]:
    """Return the rates, measured on random numbers, that no program exceeds: TFLOP/s of products, GB/s of copies."""
    found = {}
    for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        seconds = _median_seconds(lambda a=left, b=right: a @ b, device)
        found[f"{name}_tflops"] = round(2 * side**3 / seconds / 1e12, 2)
    source = torch.randint(0, 256, (copied_bytes,), device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    found["copy_gb_per_second"] = round(
        2 * copied_bytes / _median_seconds(lambda: target.copy_(source), device) / 1e9, 1
    )
    return found


def _median_seconds(call: Callable[[], Any], device: torch.device, rounds: int = 10) -> float:
    times = []
    for number in range(rounds + 3):  # the first three warm up
        synchronize(device)
        started = time.perf_counter()
        call()
        synchronize(device)
        if number >= 3:
            times.append(time.perf_counter() - started)
    return statistics.median(times)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def compute_limit(model: str, tflops: float) -> float:
    """Return the images/s of training at which the network's products alone keep the card busy at its measured rate."""
    return tflops * 1e12 / (BACKWARD * count_flops(create_model(model)))


@dataclass
class Load:
    """Samples of `nvidia-smi`, one every tenth of a second: percent of the time busy, watts, MHz."""

    samples: list[tuple[float, ...]] = field(default_factory=list)

    def as_dict(self) -> dict[str, float] | None:
        if not self.samples:
            return None
        columns = zip(*self.samples, strict=True)
        return dict(zip(("busy_percent", "watts", "sm_mhz"), map(round, map(statistics.mean, columns)), strict=True))


@contextlib.contextmanager
def watched_load() -> Iterator[Load]:
    """Sample the first GPU's load meanwhile; without `nvidia-smi` there are no samples."""
    load = Load()
    if shutil.which("nvidia-smi") is None:
        yield load
        return
    query = "--query-gpu=utilization.gpu,power.draw,clocks.sm"
    command = ["nvidia-smi", query, "--format=csv,noheader,nounits", "-lms", "100", "-i", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        yield load
    finally:
        process.terminate()
        lines = process.communicate()[0].splitlines()
        with contextlib.suppress(ValueError):  # a field that this card does not have, or half a line
            load.samples = [tuple(map(float, line.split(","))) for line in lines[:-1]]


def engine_speed(
    model: str, recipe: Recipe, data: LabelledImages, precision: Precision, step: StepKind, epochs: int
) -> dict[str, Any]:
    """Return images/s of whole epochs after a first one, and the seconds of that one, which records and compiles."""
    torch.manual_seed(0)
    started = time.perf_counter()
    recipe = recipe.override(epochs=epochs + 1)
    trainer = Trainer(create_model(model, normalize=recipe.normalize), recipe, data, 0, precision=precision, step=step)
    trainer.run_epoch()
    first = time.perf_counter() - started
    with watched_load() as load:
        rates = [trainer.run_epoch().images_per_second for _ in range(epochs)]
    return {
        "images_per_second": round(statistics.median(rates), 1),
        "step": trainer.step,
        "first_epoch_seconds": round(first, 2),
        "load": load.as_dict(),
    }


def book_speed(model: str, images: int, device: torch.device) -> tuple[float, dict[str, float] | None]:
    """Return images/s of the book's pipeline in a process of its own, in its second epoch, and the load meanwhile."""
    command = [sys.executable, str(HERE / "d2l_pipeline.py"), "--model", model, "--images", str(images)]
    command += ["--epochs", "2", "--device", str(device)]
    environment = os.environ | {"PYTHONPATH": str(HERE.parent)}
    with watched_load() as load:
        done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the book's pipeline ended with {done.returncode}: {done.stderr[-1000:]}")
    return float(json.loads(done.stdout)), load.as_dict()


def seconds_to_accuracy(
    model: str, recipe: Recipe, target: float, device: torch.device, precision: Precision, step: StepKind, images: int
) -> dict[str, Any]:
    """Train until the test accuracy after an epoch reaches a target, reading the files and measuring included."""
    synchronize(device)
    started = time.perf_counter()
    data, test = load_split("train", device)[slice(0, images)], load_split("test", device)[slice(0, images)]
    torch.manual_seed(0)
    network = create_model(model, normalize=recipe.normalize)
    trainer = Trainer(network, recipe, data, 0, precision=precision, step=step)
    accuracy = 0.0
    while trainer.epoch < recipe.epochs and accuracy < target:
        trainer.run_epoch()
        accuracy = evaluate(trainer.trained, test).accuracy
    return {
        "target": target,
        "reached": accuracy >= target,
        "accuracy": accuracy,
        "epochs": trainer.epoch,
        "seconds": round(time.perf_counter() - started, 3),
        "recipe": recipe.as_dict(),
    }


def profile(trainer: Trainer, device: torch.device, rows: int = 12) -> dict[str, Any]:
    """Return how the time of an epoch's kernels divides, and which part of the epoch the device was busy at all."""
    from torch.profiler import ProfilerActivity

    trainer.run_epoch()
    on_cuda = device.type == "cuda"
    activities = [ProfilerActivity.CUDA] if on_cuda else [ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities) as recorded:
        seconds = trainer.run_epoch().seconds
    times: dict[str, float] = {}
    for event in recorded.key_averages():
        spent = event.self_device_time_total if on_cuda else event.self_cpu_time_total
        times[event.key] = times.get(event.key, 0.0) + spent / 1e6
    total = sum(times.values())
    most = sorted(times.items(), key=lambda each: -each[1])[:rows]
    return {
        "busy_part": round(total / seconds, 3),
        "kernels": [{"name": name[:100], "part": round(spent / max(total, 1e-9), 4)} for name, spent in most],
    }
