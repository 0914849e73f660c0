"""Draw training curves."""

import io
from typing import Any


def draw_curves(history: list[dict[str, Any]]) -> bytes:
    """Return a PNG of loss, accuracy and learning rate over the epochs of a run's `history`."""
    from matplotlib.figure import Figure  # no pyplot: nothing global, no display

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
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    return picture.getvalue()
