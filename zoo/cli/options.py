"""Options that several `zoo` commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from runtime.cli.console import note

if TYPE_CHECKING:
    from zoo.runs.checkpoint import Checkpoint

CHECKPOINT = click.Path(path_type=Path)
DTYPE = click.Choice(["fp32", "fp16", "int8"])
STORAGE = click.Choice(["fp32", "fp16", "int8", "int4"])
MAX_DROP = click.FloatRange(0, 1)
F = TypeVar("F", bound=Callable[..., Any])


def device_option(command: F) -> F:
    return click.option(
        "--device",
        default="auto",
        show_default=True,
        metavar="auto|cpu|cuda|cuda:N",
        help="Where to compute. A device asked for by name is used, or the command exits with 4.",
    )(command)


def checkpoint_option(command: F) -> F:
    return click.option(
        "--checkpoint",
        type=CHECKPOINT,
        help="The weights, or the folder of their run; else those of your run, your export or the published model.",
    )(command)


def model_argument(command: F) -> F:
    return click.argument("model", metavar="MODEL")(command)


def warn_of_later_runs(exported: "Checkpoint") -> None:
    """Say, of an export of the user's, which of the user's runs are later and not in it."""
    from zoo.runs.trained import runs_since

    for path in runs_since(exported):
        note(f"{path} was trained later and is not in this export: zoo export {exported.model} --checkpoint {path}")
