"""Export and publish every model of the repository's weights again, from the checkpoints beside them.

    python -m tools.republish [MODEL ...]

All is verified twice, as by `zoo export` and `zoo publish`. A rounded checkpoint stays as it is, and so does what its
rounding cost.
"""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from export.bundle.artifact import export_network
from export.bundle.index import index_with
from export.description import CHECKPOINT_FILE
from runtime.datasets import fashion_mnist
from runtime.model.registry import INDEX, read_index, repository_weights, user_weights
from runtime.storage import write_bytes
from zoo.publishing.confidence import fit
from zoo.publishing.publish import publish_exported
from zoo.runs.trained import describe, load_trained


def republish(name: str, entry: dict[str, Any], weights: Path) -> dict[str, Any]:
    """Export one model into the user's weights, and publish that; return its new entry."""
    checkpoint, own = weights / name / CHECKPOINT_FILE, user_weights()
    trained = load_trained(name, checkpoint)
    images, labels = fashion_mnist.load("test")
    confidence = fit(trained)
    description = dataclasses.replace(describe(trained), confidence=confidence)
    precision = {key: entry.get(key, "fp32") for key in ("dtype", "storage")}
    export_network(trained.network, own, description, images=images, labels=labels, checkpoint=checkpoint, **precision)
    made = read_index(own)[name] | {"rounding": entry.get("rounding")}
    write_bytes(own / INDEX, index_with(own, made))
    return publish_exported(name)[0]


def main() -> None:
    weights = repository_weights()
    assert weights is not None
    index = read_index(weights)
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="*", default=list(index))
    asked = parser.parse_args()
    for name in asked.models:
        entry = republish(name, index[name], weights)
        print(name, entry["accuracy"]["top1"], entry["confidence"], flush=True)


if __name__ == "__main__":
    main()
