"""The folder of a training run: its lock, its files, and the archive of an older run."""

import contextlib
import itertools
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.errors import FashionZooError, UsageError
from runtime.storage import locked, write_bytes
from zoo.data.dataset import LabelledImages
from zoo.runs import checkpoint
from zoo.runs.checkpoint import Checkpoint
from zoo.runs.settings import Settings
from zoo.training.evaluation import Evaluation

HISTORY, CURVES, CONFUSION, MISTAKES = "metrics.jsonl", "curves.png", "confusion.png", "mistakes.png"
RELIABILITY = "reliability.png"


class RunFolderBusy(FashionZooError):
    """Another process is training into the same folder."""


@dataclass(frozen=True)
class RunFolder:
    """A folder that one run at a time writes to."""

    path: Path

    @property
    def checkpoint(self) -> Path:
        return checkpoint.checkpoint_in(self.path)

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """A context in which no other process may train into the folder, which is made if it is absent.

        Raises:
            RunFolderBusy: another process holds it.
        """
        busy = RunFolderBusy(f"another process is training into {self.path}; give this one its own folder with -o")
        return locked(self.path / ".lock", busy)

    def previous(self, model: str, settings: Settings) -> Checkpoint | None:
        """Return the run in the folder, if there is one.

        Raises:
            UsageError: it was started with other settings.
            CheckpointError: it is damaged, or of another model.
        """
        if not self.checkpoint.exists():
            return None
        found = checkpoint.load(self.checkpoint, model=model, with_training=True)
        if Settings.from_dict(found.header) != settings:
            raise UsageError(
                f"the run in {self.path} was started with other settings; resume it with its own, or start over"
            )
        return found

    def archive(self) -> None:
        """Rename the files of an older run, so that starting over loses nothing."""
        if not self.checkpoint.exists():
            return
        stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(self.checkpoint.stat().st_mtime))
        # Two runs may have the same stamp: some file systems keep times to 2 seconds, or not at all.
        names = itertools.chain([stamp], (f"{stamp}-{number}" for number in itertools.count(2)))
        aside = next(folder for name in names if not (folder := self.path / f"before-{name}").exists())
        aside.mkdir()
        for name in (self.checkpoint.name, HISTORY, CURVES, CONFUSION, MISTAKES, RELIABILITY):
            with contextlib.suppress(FileNotFoundError):
                (self.path / name).replace(aside / name)

    def is_behind(self, name: str) -> bool:
        """Return whether a file that is written after the checkpoint is missing or older than it."""
        path = self.path / name
        return not path.exists() or path.stat().st_mtime_ns < self.checkpoint.stat().st_mtime_ns

    def write_history(self, history: list[dict[str, Any]]) -> None:
        lines = "".join(json.dumps(row) + "\n" for row in history)
        write_bytes(self.path / HISTORY, lines.encode())

    def draw_curves(self, history: list[dict[str, Any]]) -> None:
        from zoo.runs.plots import draw_curves

        write_bytes(self.path / CURVES, draw_curves(history))

    def draw_answers(self, evaluation: Evaluation, data: LabelledImages, temperature: float | None = None) -> None:
        """Draw the confusion matrix, the most confident mistakes, and the reliability, also at a temperature."""
        from zoo.runs.plots import draw_confusion, draw_mistakes, draw_reliability

        self.path.mkdir(parents=True, exist_ok=True)
        write_bytes(self.path / CONFUSION, draw_confusion(evaluation))
        write_bytes(self.path / MISTAKES, draw_mistakes(evaluation, data.images))
        write_bytes(self.path / RELIABILITY, draw_reliability(evaluation, temperature))
