"""Draw training curves, a confusion matrix, the most confident mistakes and the reliability diagram, each as a PNG.

Importing this imports matplotlib, which takes half a second.
"""

import io
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure  # not pyplot, which has global state and may want a display
from torch import Tensor

from runtime.datasets.fashion_mnist import LABELS, SIDE
from zoo.training.evaluation import Evaluation

COLUMNS, ROWS = 8, 5
WIDTH, HEIGHT = 31, 38  # of the cell that holds an image and its caption, in pixels of the image


def draw_curves(history: list[dict[str, Any]]) -> bytes:
    """Return a PNG of loss, accuracy and learning rate over the epochs of a run's `history`."""
    epochs = [row["epoch"] for row in history]
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    loss_axes, accuracy_axes = figure.subplots(1, 2)
    loss_axes.plot(epochs, [row["train_loss"] for row in history], marker=".", color="tab:blue")
    loss_axes.set(xlabel="epoch", ylabel="training loss", ylim=(0, None))
    rate_axes = loss_axes.twinx()
    rate_axes.plot(epochs, [row["lr"] for row in history], color="tab:gray", linewidth=1, linestyle=":")
    rate_axes.set(ylabel="learning rate (dotted)", ylim=(0, None))
    accuracy_axes.plot(epochs, [row["train_accuracy"] for row in history], marker=".", label="training (augmented)")
    if history[-1]["val_accuracy"] is not None:
        accuracy_axes.plot(epochs, [row["val_accuracy"] for row in history], marker=".", label="validation")
    accuracy_axes.set(xlabel="epoch", ylabel="accuracy")
    accuracy_axes.legend(loc="lower right")
    for axes in (loss_axes, accuracy_axes):
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
    return _png(figure)


def draw_confusion(evaluation: Evaluation) -> bytes:
    """Return a PNG of the confusion matrix: row by true class, column by predicted class, as counts."""
    counts = evaluation.confusion
    shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
    figure = Figure(figsize=(7.2, 6.6), layout="constrained")
    axes = figure.subplots()
    # The square root makes small shares visible.
    axes.imshow(shares.sqrt().numpy(), cmap="Blues", vmin=0, vmax=1)
    for row, line in enumerate(counts.tolist()):
        for column, count in enumerate(line):
            colour = "white" if shares[row, column] > 0.3 else "black" if count else "lightgray"
            axes.text(column, row, str(count), ha="center", va="center", fontsize=8, color=colour)
    ticks = range(len(LABELS))
    axes.set_xticks(ticks, LABELS, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(ticks, LABELS)
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_title(f"{evaluation.correct:,} of {len(evaluation.labels):,} right, top-1 {evaluation.accuracy:.4f}")
    return _png(figure)


def draw_mistakes(evaluation: Evaluation, images: Tensor) -> bytes:
    """Return a PNG of the wrong answers with the highest confidence, in falling order; images: uint8 (N, 1, 28, 28)."""
    confidence, predicted = evaluation.logits.softmax(1).max(1)
    wrong = torch.nonzero(predicted != evaluation.labels)[:, 0]
    # Stable, so that equal confidences keep the order of the data set.
    order = torch.argsort(confidence[wrong], descending=True, stable=True)
    shown = wrong[order][: COLUMNS * ROWS].tolist()
    # One image for all cells, since forty axes would take seconds to draw.
    canvas = np.full((ROWS * HEIGHT, COLUMNS * WIDTH), 255, dtype=np.uint8)
    figure = Figure(figsize=(COLUMNS * 1.35, ROWS * 1.7 + 0.5))
    axes = figure.add_axes((0.0, 0.0, 1.0, 0.95))
    axes.axis("off")
    for place, number in enumerate(shown):
        top, left = HEIGHT * (place // COLUMNS) + HEIGHT - SIDE, WIDTH * (place % COLUMNS) + (WIDTH - SIDE) // 2
        canvas[top : top + SIDE, left : left + SIDE] = images[number, 0].cpu().numpy()
        truth, answer = LABELS[int(evaluation.labels[number])], LABELS[int(predicted[number])]
        words = f"{number}: {truth}\n{answer} {_percent(float(confidence[number]))}"
        axes.text(left + SIDE / 2, top - 1.5, words, ha="center", va="bottom", fontsize=8)
    axes.imshow(canvas, cmap="gray", vmin=0, vmax=255, aspect="auto")
    figure.suptitle(
        f"the {len(shown)} most confident of {len(wrong):,} mistakes: number, true class, answer and its probability",
        fontsize=11,
    )
    return _png(figure)


def draw_reliability(evaluation: Evaluation, temperature: float | None = None) -> bytes:
    """Return a PNG of the reliability diagram (Guo et al., 2017), without and with a temperature."""
    temperatures = [1.0] if temperature is None else [1.0, temperature]
    figure = Figure(figsize=(4.6 * len(temperatures), 5.2), layout="constrained")
    for axes, t in zip(figure.subplots(1, len(temperatures), squeeze=False)[0], temperatures, strict=True):
        rows = [row for row in evaluation.reliability(t) if row["n"]]
        largest = max(row["n"] for row in rows)
        width = rows[0]["high"] - rows[0]["low"]
        for row in rows:  # the darker, the more images
            shade = 0.25 + 0.75 * (row["n"] / largest) ** 0.5
            axes.bar(row["low"], row["accuracy"], width, align="edge", color="tab:blue", alpha=shade, edgecolor="white")
        axes.plot([row["confidence"] for row in rows], [row["accuracy"] for row in rows], "k.-", linewidth=0.8)
        axes.plot([0, 1], [0, 1], color="gray", linestyle="--", linewidth=0.8)
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="confidence", ylabel="accuracy")
        axes.set_title(f"temperature {t:.3g}, calibration error {evaluation.calibration_error(t):.4f}", fontsize=10)
    return _png(figure)


def _percent(share: float) -> str:
    return ">99.9%" if share > 0.9995 else f"{share:.1%}"


def _png(figure: Figure) -> bytes:
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    return picture.getvalue()
