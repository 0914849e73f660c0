"""Options that several `zoo` commands share."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

DTYPE = click.Choice(["fp32", "fp16"])
F = TypeVar("F", bound=Callable[..., Any])


def device_option(command: F) -> F:
    return click.option(
        "--device",
        default="auto",
        show_default=True,
        metavar="auto|cpu|cuda|cuda:N",
        help="Where to compute. A device asked for by name is used, or the command exits with 4.",
    )(command)


def model_argument(command: F) -> F:
    return click.argument("model", metavar="MODEL")(command)
