"""Results made one by one, each saved as soon as it is there; what failed is tried once more."""

import gc
import json
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from conditions import save

from zoo.data import LabelledImages, load_split

ATTEMPTS = 2
TINY_IMAGES, TINY_BATCH = 64, 32


class OutOfTime(Exception):
    """The time that was given is over; what is not finished goes on next time."""


@dataclass
class Bench:
    """Where results go, what computes, and until when.

    Attributes:
        folder: of everything that is written.
        device: what is trained on.
        tiny: whether this only shows that it works.
        deadline: on the clock of `time.monotonic`.
    """

    folder: Path
    device: torch.device
    tiny: bool
    deadline: float

    @property
    def seconds_left(self) -> float:
        return self.deadline - time.monotonic()

    def result(self, name: str) -> dict[str, Any] | None:
        """Return a result's file, which may tell of a failure; None where there is none."""
        path = self.folder / "results" / f"{name}.json"
        return json.loads(path.read_text()) if path.exists() else None

    def figures(self, name: str) -> dict[str, Any]:
        """Return a result that others are built on.

        Raises:
            LookupError: it failed, or has not been asked for.
        """
        found = self.result(name)
        if found is None or not found["ok"]:
            raise LookupError(f"{name} has no result to build on")
        return found

    def images(self, split: str, device: torch.device | None = None) -> LabelledImages:
        """Return a split of the data set: all of it, or for a tiny run its first images."""
        if not self.tiny:
            return load_split(split, device)
        first = load_split(split)[slice(0, TINY_IMAGES)]
        return first.to(device) if device else first

    def save(self, name: str, figures: dict[str, Any]) -> None:
        save(name, figures, self.folder / "results")


@dataclass(frozen=True)
class Task:
    """One result.

    Attributes:
        name: of its file.
        run: makes it. May raise `OutOfTime`, if it goes on from there when run again.
        seconds: that must be left to begin it.
    """

    name: str
    run: Callable[[Bench], dict[str, Any]]
    seconds: float = 20.0


def work(tasks: list[Task], bench: Bench) -> bool:
    """Do what is not done yet, in order; return whether nothing is left that this machine could still do."""
    complete = True
    for task in tasks:
        before = bench.result(task.name)
        attempts = before["attempts"] if before else 0
        if before is not None and (before["ok"] or attempts >= ATTEMPTS):
            continue
        if bench.seconds_left < task.seconds:
            print(f"{task.name}: no time left for it", flush=True)
            complete = False
            continue  # something shorter may still fit
        started = time.monotonic()
        try:
            figures: dict[str, Any] = task.run(bench) | {"ok": True}
        except OutOfTime:
            print(f"{task.name}: stopped, and goes on next time", flush=True)
            complete = False
            continue
        except Exception as error:  # whatever it is: the other results must not be lost with this one
            figures = {
                "ok": False,
                "error": f"{type(error).__name__}: {error}",
                "trace": traceback.format_exc()[-4000:],
            }
            complete = complete and attempts + 1 >= ATTEMPTS
        figures |= {"attempts": attempts + 1, "took_seconds": round(time.monotonic() - started, 2)}
        bench.save(task.name, {"task": task.name} | figures)
        print(f"{task.name}: {summary(figures)} ({figures['took_seconds']:.1f} s)", flush=True)
        gc.collect()
        if bench.device.type == "cuda":
            torch.cuda.empty_cache()  # raises where a failed kernel has taken the whole process's device with it
    return complete


def summary(figures: dict[str, Any]) -> str:
    """Return what a result comes down to, in a few words."""
    if not figures["ok"]:
        return "FAILED " + " ".join(figures["error"].split())[:200]
    shown = ("mean", "test_accuracy", "val_accuracy", "median_ratio", "images_per_second", "bf16_tflops", "passed")
    return ", ".join(f"{key} {figures[key]}" for key in shown if figures.get(key) is not None) or "done"
