"""The table of results, made from `weights/index.json` and the benchmark of accuracy over seeds, and that of speed.

python -m tools.readme        rewrite the README's table of results; `tools.docs` puts both into the site
"""

import json
import statistics
from pathlib import Path
from typing import Any

from runtime.model.registry import read_index, read_rebuildable
from runtime.storage import write_bytes
from zoo.models import list_models
from zoo.models.summary import summarize

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- results: made by `python -m tools.readme` -->", "<!-- end of results -->"
# D2L's own networks on clean data, as its continuous integration printed them: median of all committed runs.
D2L = {"lenet": 0.807, "alexnet": 0.880, "vgg11": 0.919, "nin": 0.844, "googlenet": 0.888, "resnet18": 0.913}

RIVALS = {"torch": "PyTorch", "torch-compile": "torch.compile", "openvino": "OpenVINO"}


def results_table(root: Path = ROOT) -> str:
    """Return the table as Markdown."""
    rows = [
        "| model | parameters | MFLOP an image | file | test accuracy | over seeds | D2L |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    carried, rebuildable = read_index(root / "weights"), read_rebuildable(root / "weights")
    published = carried | rebuildable
    for name in dict.fromkeys([*list_models(), *published]):
        title, file, accuracy, over_seeds = f"`{name}`", "", "", _over_seeds(root, name)
        if name in published:
            entry = published[name]
            title = f"[{title}](weights/{name}/README.md)"
            file = f"{entry['bytes'] / 1e6:.2f} MB" + ("" if name in carried else ", made by a command")
            accuracy = f"{entry['accuracy']['top1']:.4f}"
            parameters, flops = entry["parameters"], entry["flops"]
        elif over_seeds:
            summary = summarize(name)
            parameters, flops = summary.parameters, summary.flops
        else:
            continue
        d2l = f"{D2L[name]:.3f}" if name in D2L else ""
        rows.append(f"| {title} | {parameters:,} | {flops / 1e6:,.1f} | {file} | {accuracy} | {over_seeds} | {d2l} |")
    return "\n".join(rows)


def _over_seeds(root: Path, name: str) -> str:
    if not (figures := _result(root, f"accuracy_{name}_best")):
        return ""
    return f"{figures['mean']:.4f} ± {figures['standard_deviation']:.4f} (n = {len(figures['seeds'])})"


def speed_table(root: Path = ROOT) -> str:
    """Return the table of measured ratios as Markdown; a benchmark that has not been run has no row."""
    rows = ["| what | measured | against | ratio |", "|---|--:|--:|--:|"]
    for path in sorted((root / "benchmarks" / "results").glob("train_speed_*.json")):
        figures = json.loads(path.read_text())
        where = figures["conditions"]["gpu"] or f"{figures['conditions']['cores']} CPU cores"
        zoo, d2l = (statistics.median(row[side] for row in figures["rounds"]) for side in ("zoo", "d2l"))
        rows.append(
            f"| training `{figures['model']}` in {figures['precision']}, {where} | {zoo:,.0f} images/s "
            f"| D2L's pipeline in fp32, {d2l:,.0f} images/s | {figures['median_ratio']:.1f} × |"
        )
    for path in sorted((root / "benchmarks" / "results").glob("compare_*.json")):
        rows += _compared(json.loads(path.read_text()))
    if figures := _result(root, "startup"):
        rows.append(
            f"| `runtime predict a.png`, whole process | {_cost(figures['runtime'])} "
            f"| the shortest script that does the same, {_cost(figures['minimal'])} "
            f"| {figures['median_ratio_seconds']:.2f} × the time |"
        )
    if figures := _result(root, "predict_batch"):
        files, rates = "`predict_batch`, 10,000 PNG files", figures["images_per_second"]
        rows.append(_rates(files, figures, rates["predict_batch"], "Pillow and onnxruntime by hand", rates["by_hand"]))
    if figures := _result(root, "serve_load"):
        served, rates = "`runtime serve`, 64 connections", figures["requests_per_second"]
        rows.append(_rates(served, figures, rates["batches"], "one by one", rates["one_by_one"]))
    return "\n".join(rows)


def _result(root: Path, name: str) -> dict[str, Any]:
    """What a benchmark wrote; empty if it has not been run."""
    path = root / "benchmarks" / "results" / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _rates(what: str, figures: dict[str, Any], ours: float, rival: str, theirs: float) -> str:
    return (
        f"| {what}, {figures['conditions']['cores']} CPU cores | {ours:,.0f} pictures/s "
        f"| {rival}, {theirs:,.0f} pictures/s | {figures['median_ratio']:.2g} × |"
    )


def _compared(figures: dict[str, Any]) -> list[str]:
    """Rows of `benchmarks/compare.py`: the median latency of one picture and of 256, against each rival that ran."""
    where = figures["conditions"]["gpu"] or f"{figures['conditions']['cores']} CPU cores"
    rows = []
    for cell, measured in figures["cells"].items():
        model, precision, size = cell.split("/")
        for backend, name in RIVALS.items():
            ours, theirs = measured["backends"]["runtime"], measured["backends"].get(backend, {"error": "did not run"})
            if size in ("1", "256") and "error" not in theirs:
                rows.append(
                    f"| `{model}` in {precision}, batch {size}, {where} | {_milliseconds(ours)} "
                    f"| {name}, {_milliseconds(theirs)} | {theirs['times_ours']:.2f} × |"
                )
    return rows


def _milliseconds(figures: dict[str, Any]) -> str:
    middle = figures["latency_ms"]["p50"]
    return f"{middle:.3g} ms" if middle < 100 else f"{middle:,.0f} ms"


def _cost(figures: dict[str, Any]) -> str:
    return f"{figures['seconds']:.2f} s, {figures['peak_mib']:.0f} MiB"


def with_table(text: str) -> str:
    """Return a README's text with its table renewed."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{results_table()}\n{END}{after}"


if __name__ == "__main__":
    readme = ROOT / "README.md"
    write_bytes(readme, with_table(readme.read_text()).encode())
