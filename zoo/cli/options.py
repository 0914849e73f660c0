"""Options that several `zoo` commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from runtime.cli.console import note

if TYPE_CHECKING:
    from runtime.model.spec import InputSpec
    from zoo.publishing.own_network import OwnNetwork
    from zoo.runs.checkpoint import Checkpoint

CHECKPOINT = click.Path(path_type=Path)
DTYPE = click.Choice(["fp32", "fp16", "int8"])
STORAGE = click.Choice(["fp32", "fp16", "int8", "int4"])
F = TypeVar("F", bound=Callable[..., Any])


device_option = click.option(
    "--device",
    default="auto",
    show_default=True,
    metavar="auto|cpu|cuda|cuda:N",
    help="Where to compute. A device asked for by name is used, or the command exits with 4.",
)
checkpoint_option = click.option(
    "--checkpoint",
    type=CHECKPOINT,
    help="The weights, or the folder of their run; else those of your run, your export or the published model.",
)


def max_drop_option(help: str) -> Callable[[F], F]:
    return click.option("--max-drop", type=click.FloatRange(0, 1), default=0.002, show_default=True, help=help)


def model_argument(command: F, *, required: bool = True) -> F:
    return click.argument("model", metavar="MODEL" if required else "[MODEL]", required=required)(command)


def warn_of_later_runs(exported: "Checkpoint") -> None:
    """Print a note on each of the user's runs that is later than the user's export."""
    from zoo.runs.trained import runs_since

    for path in runs_since(exported):
        note(f"{path} was trained later and is not in this export: zoo export {exported.model} --checkpoint {path}")


def own_network_options(command: F) -> F:
    """Options that name a network of the user's own in place of one of the zoo."""
    file = click.Path(dir_okay=False, exists=True, path_type=Path)
    for option in reversed(
        [
            click.option("--module", metavar="FILE.py:FUNCTION", help="Your own network: FUNCTION() returns it."),
            click.option("--weights", type=file, help="Its state_dict: a .pth or .safetensors file."),
            click.option("--labels", type=file, help="Its class names: a text file, one a line."),
            click.option(
                "--data-dir",
                type=click.Path(file_okay=False, exists=True, path_type=Path),
                help="Pictures to prove it on: DIR/<label>/*.",
            ),
            click.option(
                "--calibration",
                type=click.Path(file_okay=False, exists=True, path_type=Path),
                help="For int8: pictures as it was trained on, DIR/<label>/*.",
            ),
            click.option(
                "--input",
                metavar="photo:SIZE",
                help="Its input: photo:224, photo:224x320, grey:32 or fashion-mnist.  [default: photo:224]",
            ),
            click.option(
                "--resize",
                type=_Resize(),
                help="Shorter side before the crop, or `stretch` for none.  [default: 8/7 of the crop]",
            ),
            click.option(
                "--mean", metavar="R,G,B", help="Of the normalisation; or one for all.  [default: ImageNet's]"
            ),
            click.option("--std", metavar="R,G,B", help="Of the normalisation; or one for all.  [default: ImageNet's]"),
            click.option(
                "--interpolation",
                type=click.Choice(["bilinear", "bicubic"]),
                help="Of the resize.  [default: bilinear]",
            ),
        ]
    ):
        command = option(command)
    return command


class _Resize(click.ParamType):  # type: ignore[type-arg]
    name = "PIXELS|stretch"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if value == "stretch" else click.INT.convert(value, param, ctx)


def own_network(
    model: str | None, limit: int | None = None, stored: "InputSpec | None" = None, **options: Any
) -> "tuple[OwnNetwork, str] | None":
    """Return the network of `own_network_options`, and its name; None where MODEL names one of the zoo.

    Args:
        model: MODEL.
        limit: read so many pictures.
        stored: the input that the file declares, which options may change; without it, they have defaults.
        options: the others of `own_network_options`, by name.
    """
    module = options["module"]
    if module is None:
        if model is None:
            raise click.UsageError("give a MODEL of the zoo, or your own network by --module FILE.py:FUNCTION")
        for name in ("weights", "labels", "data_dir", "calibration"):
            if options[name] is not None:
                raise click.UsageError(f"--{name.replace('_', '-')} goes with --module")
        return None
    for name in ("labels", "data_dir"):
        if options[name] is None:
            raise click.UsageError(f"--module needs --{name.replace('_', '-')}")
    from zoo.publishing.own_network import load_own, parse_input

    given = {name: options[name] for name in ("resize", "interpolation") if options[name] is not None}
    given |= {name: _numbers(f"--{name}", options[name]) for name in ("mean", "std") if options[name] is not None}
    input = parse_input(options["input"], given, stored)
    source = "as given, else by default"
    if stored is not None and options["input"] is None:
        source = f"as the file says{', but for ' + ', '.join(given) if given else ''}"
    note(f"input: {input}, {input.framing}, mean {input.mean}, std {input.std}: {source}")
    weights, labels, images = options["weights"], options["labels"], options["data_dir"]
    own = load_own(module, weights, labels, images, input, limit, options["calibration"])
    for error in own.unreadable:
        note(str(error))
    return own, model or Path(module.rpartition(":")[0]).stem


def _numbers(option: str, text: str) -> list[float]:
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        raise click.UsageError(f"{option} should be numbers with commas between them, not {text!r}") from None
