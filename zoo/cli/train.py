"""`zoo train`: train a network, or resume a run."""

import shlex
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runtime.cli.console import Command, emit, emit_json, emit_table, json_option, note
from zoo.cli.options import device_option, model_argument

if TYPE_CHECKING:
    from zoo.runs.run import RunResult
    from zoo.runs.seeds import SeedsResult


@click.command(cls=Command)
@model_argument
@click.option("--recipe", "recipe_name", help="best, d2l or, for some large networks, cpu.  [default: best]")
@click.option("--epochs", type=int, help="Passes over the training images.")
@click.option("--lr", type=float, help="Peak learning rate.")
@click.option("--batch-size", "-b", type=int, help="Images a step, over all processes together.")
@click.option("--seed", type=int, help="First weights, order and augmentation.  [default: 0]")
@click.option("--seeds", type=click.IntRange(min=1), help="Train so many seeds, from --seed on: mean and spread.")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16"]),
    help="[default: bf16 on CUDA, and of a large network on a CPU that has it; else fp32]",
)
@click.option(
    "--compile/--no-compile",
    "compile_step",
    default=None,
    help="Compile the network by torch.compile.  [default: on one GPU]",
)
@click.option("--step", type=click.Choice(["eager", "graph", "compile"]), hidden=True, help="Use --compile.")
@click.option(
    "--micro-batch",
    type=click.IntRange(min=1),
    help="Most images in one pass, where memory is short; gradients add up to those of the batch.",
)
@click.option("--val-split", is_flag=True, help="Hold out 10,000 training images and leave the test images alone.")
@click.option("--resume", is_flag=True, help="Continue an earlier run.")
@click.option("--output", "-o", type=click.Path(file_okay=False, path_type=Path), help="Folder of the run.")
@device_option
@json_option
@click.pass_context
def train(
    context: click.Context,
    model: str,
    recipe_name: str | None,
    epochs: int | None,
    lr: float | None,
    batch_size: int | None,
    seed: int | None,
    seeds: int | None,
    precision: str | None,
    compile_step: bool | None,
    step: str | None,
    micro_batch: int | None,
    val_split: bool,
    resume: bool,
    output: Path | None,
    device: str,
    as_json: bool,
) -> None:
    """Train MODEL, saving after every epoch; Ctrl-C stops, --resume continues.

    \b
    Example: zoo train lenet --recipe best --seed 1
    Several GPUs: torchrun --nproc-per-node 2 -m zoo train resnet18
    """
    from runtime.cli.fetch import fetch_with_bar
    from zoo.cli.interruption import interruption, saved_in
    from zoo.cli.progress import TrainingBar
    from zoo.distributed import device_of_process, process_group
    from zoo.models import canonical_name
    from zoo.runs import run
    from zoo.runs.seeds import seed_folder, train_seeds
    from zoo.runs.settings import Settings, resolve_settings
    from zoo.training.device import choose_device, describe

    model = canonical_name(model)
    if step is not None:
        compile_step = step != "eager"
        note(f"--step {step} is deprecated: use {'--compile' if compile_step else '--no-compile'}")
    chosen = choose_device(device_of_process(device))
    with process_group(chosen) as world:
        folder = output or run.default_folder(model)
        first = seed or 0
        places = [seed_folder(folder, first + number) for number in range(seeds)] if seeds else [folder]
        before = saved_in(places)
        settings: Settings | None = None
        if world.is_main:  # one process checks the options, so that an error is printed once
            changes = {"epochs": epochs, "lr": lr, "batch_size": batch_size}
            resumed = places[0] if resume else None
            settings = resolve_settings(
                model, resumed, recipe_name, changes, seed, val_split, precision, chosen, compile_step, micro_batch
            )
            fetch_with_bar()
            where = f"{world.size} processes, each on " if world.size > 1 else ""
            compiled = ", compiled" if settings.compile else ""
            note(
                f"training {model} on {where}{describe(chosen)}, {settings.precision}{compiled}, "
                f"recipe {settings.recipe.name}, seed {settings.seed}, into {folder}"
            )
        settings = world.from_main(settings, chosen)
        assert settings is not None
        try:
            with TrainingBar(model, settings.recipe, chosen) if world.is_main else nullcontext() as bar:
                if seeds:
                    several = train_seeds(
                        model, settings, seeds, folder, device=chosen, resume=resume, listener=bar, world=world
                    )
                else:
                    one = run.train(
                        model, settings, device=chosen, resume=resume, folder=folder, listener=bar, world=world
                    )
        except KeyboardInterrupt:
            raise click.ClickException(interruption(context, before, saved_in(places), folder)) from None
        if not world.is_main:
            return
    result: RunResult | SeedsResult = several if seeds else one
    if as_json:
        emit_json(result.as_dict())
    elif seeds:
        print_seeds(several)
    else:
        print_run(one)
    trained = several.results[0] if seeds else one
    note("export it with: " + shlex.join(["zoo", "export", model, "--checkpoint", str(trained.checkpoint)]))


def print_run(result: "RunResult") -> None:
    """Print a finished run in two lines."""
    accuracy, images = result.accuracy
    emit(
        f"{result.model}: accuracy {accuracy:.4f} on the {images} images, {result.recipe.epochs} epochs in "
        f"{result.seconds:.0f} s ({result.images_per_second:,.0f} images/s)\n{result.checkpoint}"
    )


def print_seeds(several: "SeedsResult") -> None:
    """Print the runs of several seeds as a table, with their mean and standard deviation."""
    emit_table(
        ["seed", "accuracy", "seconds", "checkpoint"],
        [
            [result.seed, f"{result.accuracy[0]:.4f}", f"{result.seconds:.0f}", result.checkpoint]
            for result in several.results
        ],
        right=["seed", "accuracy", "seconds"],
    )
    first = several.results[0]
    spread = "" if several.standard_deviation is None else f" ± {several.standard_deviation:.4f}"
    emit(
        f"{first.model}: accuracy {several.mean:.4f}{spread} on the {first.accuracy[1]} images, "
        f"mean and standard deviation of {len(several.results)} seeds"
    )
