"""`zoo bench`: the runtime against other backends."""

from typing import Any

import click

from runtime.cli.console import (
    Bar,
    Command,
    emit_json,
    emit_table,
    json_option,
    note,
    say_device,
    tf32_option,
    threads_option,
    timing_options,
)
from zoo.cli.options import device_option, model_argument


@click.command("bench", cls=Command)
@model_argument
@click.option(
    "--compare",
    metavar="BACKEND,...",
    default="onnxruntime,torch",
    show_default=True,
    help="onnxruntime, torch, torch-compile, torch-graph, openvino; the runtime is always measured.",
)
@timing_options
@device_option
@tf32_option
@threads_option
@json_option
def bench(
    model: str,
    compare: str,
    batch_sizes: tuple[int, ...],
    min_seconds: float,
    min_runs: int,
    device: str,
    tf32: bool,
    threads: int | None,
    as_json: bool,
) -> None:
    """Time exported MODEL in the runtime and in other backends, each in its own process, in turn.

    \b
    Example: zoo bench lenet --compare torch,torch-compile,openvino -b 1 -b 256
    """
    from runtime.classifier import Classifier
    from zoo.benchmark.compare import check_backends
    from zoo.benchmark.compare import compare as compare_backends

    backends = compare.split(",")
    check_backends(backends)  # before minutes of measuring
    with Classifier(model, device=device, threads=threads, tf32=tf32) as classifier:
        say_device(classifier)
        name, path, chosen = classifier.name, classifier.path, classifier.device
    with Bar(f"comparing {name}", len(batch_sizes)) as bar:
        report = compare_backends(
            backends,
            path,
            chosen,
            threads=threads,
            tf32=tf32,
            network=name,
            batch_sizes=batch_sizes,
            min_seconds=min_seconds,
            min_runs=min_runs,
            progress=bar.advance,
        )
    if as_json:
        emit_json({"model": name, "device": chosen} | report)
    else:
        emit_compared(report)


def emit_compared(report: dict[str, Any]) -> None:
    """Print the backends side by side; `times ours` above 1 means that this runtime is faster."""
    emit_table(
        ["batch", "backend", "p50 ms", "p99 ms", "images/s", "times ours", "MiB"],
        [
            [row["batch_size"], backend, row["error"]]
            if "error" in row
            else [
                row["batch_size"],
                backend,
                row["latency_ms"]["p50"],
                row["latency_ms"]["p99"],
                f"{row['images_per_second']:,.0f}",
                "-" if row["times_ours"] is None else f"{row['times_ours']:.2f}",
                f"{row['device_mib'] or row['resident_mib']:,.0f}",
            ]
            for rows in report["batches"]
            for backend, row in rows.items()
        ],
        right=["batch", "p50 ms", "p99 ms", "images/s", "times ours", "MiB"],
    )
    for reason in report["not_run"].values():
        note(f"not run: {reason}")
