"""Confidence against accuracy on the 10,000 test images, for each model of the repository, without and with its
temperature.

    python benchmarks/reliability.py [MODEL ...]

writes benchmarks/results/reliability.json, which `python -m tools.plots` draws. The temperature is the one that the
published file declares, or, of a file without one, that which `zoo export` would fit; neither sees a test image.
"""

import argparse
from typing import Any

import conditions

from export.description import CHECKPOINT_FILE
from runtime.model.registry import read_index
from zoo.data.dataset import load_split
from zoo.publishing.confidence import fit
from zoo.runs.trained import load_trained
from zoo.training.evaluation import evaluate

WEIGHTS = conditions.ROOT / "weights"


def measured(model: str, entry: dict[str, Any]) -> dict[str, Any]:
    """Return the temperature, what it was fitted on, and for 1 and for it the calibration error and the diagram."""
    trained = load_trained(model, WEIGHTS / model / CHECKPOINT_FILE)
    confidence = entry.get("confidence") or fit(trained).as_dict(table=False)
    evaluation = evaluate(trained.network, load_split("test"))
    rows = {
        name: {"ece": round(evaluation.calibration_error(t), 4), "bins": evaluation.reliability(t)}
        for name, t in (("before", 1.0), ("after", confidence["temperature"]))
    }
    return {"temperature": confidence["temperature"], "fitted_on": confidence["fitted_on"]} | rows


def main() -> None:
    index = read_index(WEIGHTS)
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="*", default=list(index))
    found = {}
    for model in parser.parse_args().models:
        found[model] = measured(model, index[model])
        print(model, found[model]["temperature"], found[model]["before"]["ece"], found[model]["after"]["ece"])
    conditions.save("reliability", {"models": found})


if __name__ == "__main__":
    main()
