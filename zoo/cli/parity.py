"""`zoo parity`: an exported model against the PyTorch network, run here."""

import click

from runtime.cli.console import Command, json_option, say_device, tf32_option, threads_option
from zoo.cli.options import device_option, model_argument


@click.command("parity", cls=Command)
@model_argument
@click.option(
    "--images", type=click.IntRange(1, 10_000), default=512, show_default=True, help="Test images to compare."
)
@device_option
@tf32_option
@threads_option
@json_option
def parity(model: str, images: int, device: str, tf32: bool, threads: int | None, as_json: bool) -> None:
    """Compare exported MODEL on a device with the PyTorch network, run on the CPU; exits with 3 where they differ.

    `runtime parity` compares with stored answers of the network, without PyTorch.

    \b
    Example: zoo parity lenet --device cuda
    """
    from runtime.classifier import Classifier
    from runtime.cli.fetch import fetch_with_bar
    from runtime.cli.parity import emit_parity
    from runtime.datasets import fashion_mnist
    from zoo.publishing.parity import measure_live_parity

    classifier = Classifier(model, device=device, threads=threads, tf32=tf32)
    say_device(classifier)
    fetch_with_bar("test")
    report = measure_live_parity(classifier, fashion_mnist.load("test")[0][:images])
    emit_parity(report, as_json)
    report.require()
