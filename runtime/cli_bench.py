"""`runtime bench`: parse, make one library call, print."""

from __future__ import annotations

from typing import Any

import click

from runtime.console import Bar, Command, emit, emit_json, emit_table, json_option, note
from runtime.options import device_option, model_option, say_device, tf32_option, threads_option


@click.command(cls=Command)
@model_option
@click.option(
    "--batch-size",
    "-b",
    "batch_sizes",
    type=click.IntRange(1, 2**20),
    multiple=True,
    default=(1, 8, 64, 256),
    show_default=True,
    help="Images at once; may be given several times.",
)
@click.option(
    "--min-seconds", type=click.FloatRange(0, 3600), default=1.0, show_default=True, help="Time a batch size."
)
@click.option("--min-runs", type=click.IntRange(1), default=100, show_default=True, help="Runs a batch size.")
@click.option(
    "--compare",
    metavar="WAY,...",
    help="Also run the model in other ways, in turn: onnxruntime, torch, torch-compile, torch-graph, openvino.",
)
@click.option("--sweep", is_flag=True, help="Find the best settings of this machine; on a GPU, remember them.")
@device_option
@tf32_option
@threads_option
@json_option
def bench(
    model: str | None,
    batch_sizes: tuple[int, ...],
    min_seconds: float,
    min_runs: int,
    compare: str | None,
    sweep: bool,
    device: str,
    tf32: bool,
    threads: int | None,
    as_json: bool,
) -> None:
    """Measure a cold start in its parts, then latency and throughput by batch size; no outlier is dropped.

    \b
    Example: runtime bench -m lenet -b 1 -b 256 --json
             runtime bench -m lenet --compare torch,torch-compile,openvino
             runtime bench -m lenet --sweep --device cuda
    """
    if compare is not None and sweep:
        raise click.UsageError("--compare and --sweep exclude each other")
    from runtime.bench import COLD_STARTS, measure_bench
    from runtime.classifier import Classifier

    if compare is not None:
        from runtime.contest import check_ways

        check_ways(compare.split(","))  # before minutes of measuring
    classifier = Classifier(model, device=device, threads=threads, tf32=tf32)
    say_device(classifier)
    sizes: dict[str, Any] = {"batch_sizes": batch_sizes, "min_seconds": min_seconds, "min_runs": min_runs}
    if sweep:
        emit_sweep(classifier, threads, sizes, as_json)
        return
    with Bar(f"measuring {classifier.name}", COLD_STARTS + len(batch_sizes)) as bar:
        report = measure_bench(
            classifier,
            threads=threads,
            **sizes,
            progress=bar.advance,
        )
    if compare is not None:
        report["compared"] = compared(classifier, compare.split(","), threads, sizes)
    if as_json:
        emit_json(report)
        return
    parts = ", ".join(f"{part.replace('_', ' ')} {value:,.1f}" for part, value in report["cold_start_ms"].items())
    emit(f"{report['model']} on {report['device']}, {report['conditions']['threads']} threads")
    emit(f"cold start, ms: {parts}")
    names = list(report["batches"][0]["latency_ms"])
    emit_table(
        ["batch", "runs", *(f"{name} ms" for name in names), "images/s"],
        [
            [row["batch_size"], row["runs"], *row["latency_ms"].values(), f"{row['images_per_second']:,.0f}"]
            for row in report["batches"]
        ],
        right=["batch", "runs", *(f"{name} ms" for name in names), "images/s"],
    )
    if compare is not None:
        emit_compared(report["compared"])


def compared(classifier: Any, ways: list[str], threads: int | None, sizes: dict[str, Any]) -> dict[str, Any]:
    """Run other ways against this runtime, batch size by batch size."""
    from runtime.contest import compare

    with Bar(f"comparing {classifier.name}", len(sizes["batch_sizes"])) as bar:
        return compare(
            ways,
            classifier.path,
            classifier.device,
            threads=threads,
            tf32=classifier.tf32,
            network=classifier.name,
            progress=bar.advance,
            **sizes,
        )


def emit_compared(report: dict[str, Any]) -> None:
    """Print the ways side by side; `times ours` above 1 means that this runtime is faster."""
    emit_table(
        ["batch", "way", "p50 ms", "p99 ms", "images/s", "times ours", "MiB"],
        [
            [row["batch_size"], way, row["error"]]
            if "error" in row
            else [
                row["batch_size"],
                way,
                row["latency_ms"]["p50"],
                row["latency_ms"]["p99"],
                f"{row['images_per_second']:,.0f}",
                "-" if row["times_ours"] is None else f"{row['times_ours']:.2f}",
                f"{row['device_mib'] or row['resident_mib']:,.0f}",
            ]
            for rows in report["batches"]
            for way, row in rows.items()
        ],
        right=["batch", "p50 ms", "p99 ms", "images/s", "times ours", "MiB"],
    )
    for reason in report["not_run"].values():
        note(f"not run: {reason}")


def emit_sweep(classifier: Any, threads: int | None, sizes: dict[str, Any], as_json: bool) -> None:
    """Measure the settings of this machine in turn, and print the best."""
    from runtime.sweep import measure_sweep

    with Bar(f"sweeping {classifier.name}", None) as bar:
        report = measure_sweep(classifier, threads=threads, progress=bar.advance, **sizes)
    if as_json:
        emit_json(report)
        return
    names = list(report["rows"][0]["settings"])
    columns = [f"{size} images/s" for size in sizes["batch_sizes"]]
    emit_table(
        [*names, *columns, "times default"],
        [
            [
                *row["settings"].values(),
                *([f"{speed:,.0f}" for speed in row["images_per_second"].values()] or [row["error"]]),
                *([f"{row['times_default']:.2f}"] if row["times_default"] else []),
            ]
            for row in report["rows"]
        ],
        right=[*columns, "times default"],
    )
    best = ", ".join(f"{name} {value}" for name, value in report["best"].items())
    emit(f"best for {report['model']} on {report['device']}: {best}")
    if report["remembered"]:
        note(f"remembered in {report['remembered']}")
    if report["not_remembered"]:
        note(f"not remembered: {report['not_remembered']}")
