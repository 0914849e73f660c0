"""int8 and int4 files against float32: speed in turn on the same pictures, size, accuracy; OpenVINO beside onnxruntime.

python benchmarks/int8.py [MODEL ...] [--rounds 10] [--images 10000] [--threads 2]     resnet18 and vgg11 by default

A model without a checkpoint here has random weights: it is timed, and its accuracy is null. Each round times every file
once, in an order that turns; a ratio is the median of the rounds' ratios to onnxruntime's float32.
"""

import argparse
import json
import os
import statistics
import sys
from dataclasses import asdict
from functools import partial
from typing import Any

import conditions
import numpy as np
import onnxruntime
import torch

from export import Description
from export.convert.calibrate import sha256_of_images
from export.convert.exporter import build_graph
from export.precision import Precision
from export.verification.accuracy_change import AccuracyChange
from export.verification.backends import OpenVINO
from runtime.datasets import fashion_mnist
from runtime.evaluation.timing import timed
from zoo.models import create_model
from zoo.publishing.verify import calibration_images
from zoo.runs.checkpoint import CheckpointMissing
from zoo.runs.trained import load_trained

FORMS = {
    "fp32": Precision(),
    "int8": Precision("int8"),
    "int8 weights": Precision(storage="int8"),
    "int4 weights": Precision(storage="int4"),
}
BATCHES = (1, 8, 64)
SECONDS = 0.5  # of one file in one round, after a run that is not timed: the threads of the one before it still spin


def files(model: str) -> tuple[dict[str, bytes], bool]:
    """Return a model's files by form, and whether its weights are trained."""
    try:
        network, is_trained = load_trained(model).network, True
    except CheckpointMissing:
        torch.manual_seed(0)
        network, is_trained = create_model(model).eval(), False
    calibration = calibration_images()
    described = {"images": len(calibration), "sha256": sha256_of_images(calibration)}
    found = {}
    for name, form in FORMS.items():
        precision = Precision(form.dtype, form.storage, calibration=described if form.dtype == "int8" else None)
        description = Description(name=model, labels=fashion_mnist.LABELS, precision=precision)
        found[name] = build_graph(network, description.metadata(None), calibration=calibration)
        print(model, name, f"{len(found[name]):,} bytes", file=sys.stderr)
    return found, is_trained


def sessions(contents: dict[str, bytes], threads: int) -> dict[str, Any]:
    """Open every file in onnxruntime, and those in float32 and int8 in OpenVINO too."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    providers = ["CPUExecutionProvider"]
    opened = {name: onnxruntime.InferenceSession(each, options, providers) for name, each in contents.items()}
    try:
        others = {f"openvino {name}": OpenVINO(contents[name]) for name in ("fp32", "int8")}
    except Exception as error:  # it is not installed, or cannot read a file: that is a result too
        print(f"openvino: {error}", file=sys.stderr)
        others = {}
    return opened | others


def milliseconds(session: Any, images: Any) -> float:
    run = partial(session.run, ["logits"], {"image": images})
    run()
    return statistics.mean(timed(run, SECONDS, 1)) / 1e6


def speeds(opened: dict[str, Any], images: Any, rounds: int) -> dict[str, Any]:
    """Return, by session, the median of its times and of its ratios to float32, which is above 1 where it is faster."""
    methods = {name: partial(milliseconds, session, images) for name, session in opened.items()}
    times = conditions.in_turn(methods, rounds)
    return {
        name: {"ms": round(statistics.median(row), 4), "ratio": round(conditions.median_ratio(times["fp32"], row), 3)}
        for name, row in times.items()
    }


def changes(opened: dict[str, Any], images: Any, labels: Any) -> dict[str, Any]:
    """Return the accuracy of each session, and its decisions against those of float32."""
    answers = {}
    for name, session in opened.items():
        parts = [images[start : start + 64] for start in range(0, len(images), 64)]
        answers[name] = np.concatenate([session.run(["logits"], {"image": part})[0].argmax(1) for part in parts])
    right = {name: found == labels for name, found in answers.items()}
    found = {}
    for name in opened:
        flips = int((answers[name] != answers["fp32"]).sum())
        lost, gained = int((right["fp32"] & ~right[name]).sum()), int((right[name] & ~right["fp32"]).sum())
        change = AccuracyChange(len(labels), flips, lost, gained)
        found[name] = {"top1": float(right[name].mean())} | asdict(change) | {"p_value": change.p_value}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["resnet18", "vgg11"])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    images, labels = fashion_mnist.load("test")
    images, labels = images[: arguments.images], labels[: arguments.images]
    figures: dict[str, Any] = {"rounds": arguments.rounds, "threads": arguments.threads, "models": {}}
    for model in arguments.models:
        contents, is_trained = files(model)
        opened = sessions(contents, arguments.threads)
        figures["models"][model] = {
            "trained": is_trained,
            "bytes": {name: len(content) for name, content in contents.items()},
            "speed": {
                f"batch {batch}": speeds(opened, np.resize(images, (batch, *images.shape[1:])), arguments.rounds)
                for batch in BATCHES
            },
            "accuracy": changes(opened, images, labels) if is_trained else None,
        }
    figures["load_average_at_the_end"] = os.getloadavg()[0]
    print(json.dumps(figures, indent=2))
    print(conditions.save("int8", figures), file=sys.stderr)


if __name__ == "__main__":
    main()
