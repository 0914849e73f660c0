"""The plots of docs/images, drawn from figures that are in the repository: `python -m tools.plots` draws them anew.

Each SVG names the sha256 of the figures it was drawn from, so that a test can say which one is out of date. A plot is
one entry of `PLOTS`; one whose figures have not been measured is left out.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tools.readme import RIVALS
from zoo.runs.checkpoint import read_header

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
BACKENDS = {"runtime": "this runtime", "onnxruntime": "onnxruntime by hand"} | RIVALS
COLOURS = {
    "runtime": "#1f5f8b",
    "onnxruntime": "#7fb8dd",
    "torch": "#c65d3b",
    "torch-compile": "#e0a458",
    "openvino": "#5b8c5a",
}
LEAST_IN_BIN = 20  # images of which an accuracy is drawn
STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "fashion-zoo",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "savefig.facecolor": "white",
}


def latency(root: Path) -> dict[str, Any]:
    """Median milliseconds by model, backend and batch size, of `benchmarks/compare.py` on a CPU."""
    cells = json.loads((root / "benchmarks" / "results" / "compare_cpu.json").read_text())["cells"]
    figures: dict[str, Any] = {}
    for cell, measured in cells.items():
        model, precision, size = cell.split("/")
        for backend, row in measured["backends"].items():
            if precision == "fp32" and backend in BACKENDS and "error" not in row:
                figures.setdefault(model, {}).setdefault(backend, {})[size] = row["latency_ms"]["p50"]
    return figures


def draw_latency(figures: dict[str, Any]) -> Figure:
    figure, axes = plt.subplots(1, len(figures), figsize=(3.1 * len(figures), 3), layout="constrained", squeeze=False)
    for plot, (model, backends) in zip(axes[0], figures.items(), strict=True):
        for backend, sizes in backends.items():
            ordered = sorted((int(size), value) for size, value in sizes.items())
            x, y = zip(*ordered, strict=True)
            plot.plot(x, y, "o-", ms=3, lw=1.3, color=COLOURS[backend], label=BACKENDS[backend])
        plot.set(xscale="log", yscale="log", title=model, xlabel="images in a batch")
        plot.set_xticks(sorted({int(size) for sizes in backends.values() for size in sizes}))
        plot.xaxis.set_major_formatter("{x:.0f}")
        plot.minorticks_off()
    axes[0][0].set_ylabel("median latency, ms")
    axes[0][0].legend(frameon=False, fontsize=7)
    return figure


def parity(root: Path) -> dict[str, Any]:
    """Error of each published file, PyTorch's own, and the tolerance, by model and output."""
    figures = {}
    for path in sorted((root / "weights").glob("*/verification.json")):
        checks = json.loads(path.read_text())["checks"]
        measures = next(check["measures"] for check in checks if check["name"] == "parity")
        keys = ("max_abs_diff", "noise_floor", "tolerance")
        figures[path.parent.name] = {
            name: {key: row[key] for key in keys} for name, row in measures.items() if "tolerance" in row
        }
    return figures


def draw_parity(figures: dict[str, Any]) -> Figure:
    rows = [(f"{model}, {output}", row) for model, outputs in figures.items() for output, row in outputs.items()]
    figure, plot = plt.subplots(figsize=(6.4, 0.9 + 0.32 * len(rows)), layout="constrained")
    for y, (_, row) in enumerate(rows):
        plot.barh(
            y, row["tolerance"], height=0.55, color="#e8e5de", label="tolerance: 8 times PyTorch's" if y == 0 else None
        )
        plot.plot(
            row["max_abs_diff"], y, "o", ms=6, color="#1f5f8b", label="the file's largest error" if y == 0 else None
        )
        plot.plot(
            row["noise_floor"],
            y,
            "|",
            ms=13,
            mew=2,
            color="#c65d3b",
            label="PyTorch's own float32 error" if y == 0 else None,
        )
    plot.set_yticks(range(len(rows)), [name for name, _ in rows])
    plot.set(xscale="log", xlabel="largest difference from the network in float64")
    plot.set_xlim(min(row["max_abs_diff"] for _, row in rows) / 3)
    plot.invert_yaxis()
    figure.legend(loc="outside upper right", ncols=3, frameon=False, fontsize=7)
    return figure


def training_curves(root: Path) -> dict[str, Any]:
    """Loss and accuracy on the training images by epoch, from the header of each published checkpoint."""
    figures = {}
    for path in sorted((root / "weights").glob("*/checkpoint.safetensors")):
        history = read_header(path)["history"]
        figures[path.parent.name] = {
            key: [round(epoch[key], 4) for epoch in history] for key in ("train_loss", "train_accuracy")
        }
    return figures


def draw_training_curves(figures: dict[str, Any]) -> Figure:
    figure, axes = plt.subplots(1, 2, figsize=(7, 2.8), layout="constrained")
    for (model, curves), colour in zip(figures.items(), ("#1f5f8b", "#5b8c5a", "#c65d3b", "#e0a458") * 4, strict=False):
        epochs = range(1, len(curves["train_loss"]) + 1)
        axes[0].plot(epochs, curves["train_loss"], lw=1.4, color=colour, label=model)
        axes[1].plot(epochs, curves["train_accuracy"], lw=1.4, color=colour, label=model)
    _named(axes[0], "training loss")
    _named(axes[1], "accuracy on the training images, augmented")
    axes[1].legend(frameon=False)
    return figure


def models_of(benchmark: str) -> Callable[[Path], dict[str, Any]]:
    """Return a function that reads the figures of a benchmark by model, from the root of the repository."""
    return lambda root: json.loads((root / "benchmarks" / "results" / f"{benchmark}.json").read_text())["models"]


def draw_reliability(figures: dict[str, Any]) -> Figure:
    figure, axes = plt.subplots(1, len(figures), figsize=(2.7 * len(figures), 3.2), layout="constrained", squeeze=False)
    for plot, (model, found) in zip(axes[0], figures.items(), strict=True):
        plot.plot([0, 1], [0, 1], "--", color="#999999", lw=0.8)
        for name, what, colour in (
            ("before", "softmax of the logits", "#c65d3b"),
            ("after", f"T = {found['temperature']:.3g}", "#1f5f8b"),
        ):
            rows = [row for row in found[name]["bins"] if row["n"] >= LEAST_IN_BIN]
            plot.plot(
                [row["confidence"] for row in rows],
                [row["accuracy"] for row in rows],
                "o-",
                ms=3,
                lw=1.3,
                color=colour,
                label=f"{what}: error {found[name]['ece']:.4f}",
            )
        plot.set(xlim=(0.2, 1), ylim=(0.2, 1), aspect="equal", title=model, xlabel="confidence")
        plot.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), frameon=False, fontsize=7)
    axes[0][0].set_ylabel("accuracy")
    return figure


def draw_robustness(figures: dict[str, Any]) -> Figure:
    figure, axes = plt.subplots(
        1, len(figures), figsize=(1.4 + 2.2 * len(figures), 3.8), layout="constrained", squeeze=False, sharey=True
    )
    for plot, (model, found) in zip(axes[0], figures.items(), strict=True):
        kinds, table = zip(*found["corrupted"].items(), strict=True)
        # Squares of the SVG itself: an image would be a bitmap inside it.
        plot.pcolormesh(table, cmap="viridis", vmin=0.1, vmax=1)
        for row, values in enumerate(table):
            for column, value in enumerate(values):
                colour = "black" if value > 0.6 else "white"
                plot.text(column + 0.5, row + 0.5, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=8)
        plot.set_xticks([0.5, 1.5, 2.5], ["light", "medium", "strong"])
        plot.set_yticks([row + 0.5 for row in range(len(kinds))], kinds)
        plot.tick_params(length=0)
        plot.set_title(f"{model}\nclean {found['clean']:.3f}, mean {found['mean']:.3f}", fontsize=9)
    axes[0][0].invert_yaxis()
    return figure


def tolerance(root: Path) -> dict[str, Any]:
    """Error / tolerance of honest files and of files with one mistake, of `benchmarks/tolerance.py`, by mistake."""
    found = json.loads((root / "benchmarks" / "results" / "tolerance.json").read_text())
    figures: dict[str, Any] = {"no mistake": [row["ratio"] for row in found["honest"]]}
    for row in found["mistakes"]:
        figures.setdefault(row["mistake"], []).append(row["ratio"])
    return figures


def draw_tolerance(figures: dict[str, Any]) -> Figure:
    figure, plot = plt.subplots(figsize=(6.4, 0.9 + 0.3 * len(figures)), layout="constrained")
    for y, (mistake, ratios) in enumerate(figures.items()):
        drawn = [max(ratio, 1e-3) for ratio in ratios]  # a logarithmic axis has no zero
        colour = "#5b8c5a" if mistake == "no mistake" else "#c65d3b"
        plot.plot(drawn, [y] * len(drawn), "o", ms=5, alpha=0.5, mew=0, color=colour)
    plot.axvline(1, color="#1f5f8b", lw=1)
    plot.set_yticks(range(len(figures)), [name.capitalize() for name in figures])
    plot.set(xscale="log", xlabel="largest error / tolerance")
    plot.invert_yaxis()
    return figure


def _named(plot: Axes, title: str) -> None:
    plot.set_title(title, fontsize=9)
    plot.set_xlabel("epoch")


# name: what it is drawn from, and how
PLOTS: dict[str, tuple[Callable[[Path], dict[str, Any]], Callable[[dict[str, Any]], Figure]]] = {
    "latency": (latency, draw_latency),
    "parity": (parity, draw_parity),
    "reliability": (models_of("reliability"), draw_reliability),
    "robustness": (models_of("robustness"), draw_robustness),
    "tolerance": (tolerance, draw_tolerance),
    "training-curves": (training_curves, draw_training_curves),
}


def digest(name: str) -> str:
    """Return the sha256 of the figures that a plot is drawn from.

    Raises:
        FileNotFoundError: they have not been measured.
    """
    return hashlib.sha256(json.dumps(PLOTS[name][0](ROOT), sort_keys=True).encode()).hexdigest()


def main() -> None:
    """Draw every plot whose figures are there."""
    IMAGES.mkdir(exist_ok=True)
    for name, (read, draw) in PLOTS.items():
        try:
            figures = read(ROOT)
        except FileNotFoundError as missing:
            print(f"{name}: not drawn, {missing.filename} is not there")
            continue
        with plt.rc_context(STYLE):
            figure = draw(figures)
            path = IMAGES / f"{name}.svg"
            figure.savefig(path, metadata={"Date": None, "Description": f"sha256 {digest(name)}"})
            plt.close(figure)
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
