"""`runtime bench`: cold start, latency and throughput on this machine."""

from typing import Any

import click

from runtime.cli.console import (
    Bar,
    Command,
    compute_options,
    emit,
    emit_json,
    emit_table,
    json_option,
    model_option,
    open_classifier,
    timing_options,
)


@click.command(cls=Command)
@model_option
@timing_options
@click.option("--compare", hidden=True, help="Moved: zoo bench MODEL --compare BACKEND,...")
@click.option("--sweep", is_flag=True, help="Find the best session settings of this machine.")
@compute_options
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
             runtime bench -m lenet --sweep --device cuda
    """
    if compare is not None:
        raise click.UsageError(f"--compare is now a command of `zoo`: zoo bench {model or 'lenet'} --compare {compare}")
    from runtime.evaluation.benchmark import COLD_STARTS, measure_bench

    classifier = open_classifier(model, device, threads, tf32)
    sizes: dict[str, Any] = {"batch_sizes": batch_sizes, "min_seconds": min_seconds, "min_runs": min_runs}
    if sweep:
        emit_sweep(classifier, threads, sizes, as_json)
        return
    with Bar(f"measuring {classifier.name}", COLD_STARTS + len(batch_sizes)) as bar:
        report = measure_bench(classifier, threads=threads, **sizes, progress=bar.advance)
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


def emit_sweep(classifier: Any, threads: int | None, sizes: dict[str, Any], as_json: bool) -> None:
    """Measure the settings of this machine in turn, and print the best."""
    from runtime.evaluation.sweep import measure_sweep

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
