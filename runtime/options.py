"""Options that several `runtime` commands share, and the line that says what `auto` chose."""

from __future__ import annotations

from typing import Any

import click

from runtime.console import note

model_option = click.option(
    "--model", "-m", metavar="NAME|FILE", help="A model's name, or a .onnx file.  [default: the best that ships]"
)
device_option = click.option(
    "--device",
    default="auto",
    show_default=True,
    metavar="auto|cpu|cuda|cuda:N|tensorrt",
    help="Where to compute. A device asked for by name is used, or the command exits with 4.",
)
tf32_option = click.option(
    "--tf32", is_flag=True, help="On a GPU, multiply in TF32: faster, and with 10 bits of mantissa in place of 23."
)
threads_option = click.option("--threads", type=click.IntRange(1, 4096), help="CPU threads.  [default: all allowed]")
batch_size_option = click.option(
    "--batch-size", "-b", type=click.IntRange(1, 2**20), default=256, show_default=True, help="Images at once."
)


def say_device(classifier: Any) -> None:
    """Say on stderr which device `auto` chose, where there was a choice to make and it fell on the CPU."""
    if classifier.device_reason:
        note(f"using the CPU: {classifier.device_reason}")
