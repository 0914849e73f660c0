"""The message after Ctrl-C in a training: what is saved, and the command that continues it."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

import click
from click.core import ParameterSource

from zoo.distributed import launched
from zoo.runs.checkpoint import checkpoint_in

Saved = frozenset[tuple[Path, int]]


def saved_in(folders: Sequence[Path]) -> Saved:
    """Return the checkpoints in the folders of runs, each with its time of modification."""
    paths = [checkpoint_in(folder) for folder in folders]
    return frozenset((path, path.stat().st_mtime_ns) for path in paths if path.exists())


def interruption(context: click.Context, before: Saved, after: Saved, folder: Path) -> str:
    """Return the message for a training that was stopped.

    The checkpoints `before`, when it began, are those of an older run unless it resumed; `after` are those of now.
    """
    resumed = bool(context.params["resume"])
    if after if resumed else after - before:
        return f"stopped; whole epochs are saved in {folder}, go on with: {command_line(context, resume=True)}"
    again = command_line(context, resume=resumed)
    return f"stopped before the end of the first epoch, so nothing is saved yet; start again with: {again}"


def command_line(context: click.Context, *, resume: bool) -> str:
    """Return the command line of `context` as the user gave it, quoted for a shell; `resume` adds `--resume`."""
    words = ["zoo", str(context.info_name), context.params["model"]]
    if launched():
        words = ["torchrun", "--nproc-per-node", os.environ["LOCAL_WORLD_SIZE"], "-m", *words]
    for option in context.command.params:
        name = option.name or ""
        if not isinstance(option, click.Option) or name not in context.params or name == "resume":
            continue
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            value = context.params[name]
            if option.is_flag:
                words += option.opts[:1] if value else option.secondary_opts[:1]
            else:
                words += [option.opts[0], str(value)]
    return shlex.join([*words, "--resume"] if resume else words)
