"""Time the runtime, PyTorch, torch.compile, a CUDA graph, onnxruntime and OpenVINO in turn.

    python benchmarks/compare.py --device cpu
    python benchmarks/compare.py --device cuda --precisions fp32 tf32 fp16 --minutes 20

Weights are those of seed 0, since the speed does not depend on them. Every cell (model, precision, batch size) is saved
when it is done; started again, the script continues with the next one. A backend that is not installed, or that fails,
is named in the result.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import conditions
import numpy as np
import onnx
import torch
from onnxruntime.transformers.float16 import convert_float_to_float16

from export.convert.exporter import build_graph
from export.description import Description
from runtime.datasets import fashion_mnist
from runtime.evaluation.timing import load_average
from runtime.model.spec import FASHION_MNIST
from runtime.session.device import Device, device_problem
from runtime.storage import write_bytes
from zoo.benchmark.compare import OURS, BackendFailed, Worker, take_turns
from zoo.models import create_model
from zoo.models.summary import summarize

MODELS = ("lenet", "resnet18", "vgg11")
BATCH_SIZES = (1, 8, 64, 256, 1024)
MIN_RUNS = 20
BACKENDS = {
    "cpu": (OURS, "runtime-sleeping", "onnxruntime", "torch", "torch-compile", "openvino"),
    "cuda": (
        *(OURS, "runtime-no-graph", "runtime-nhwc", "runtime-exhaustive", "onnxruntime"),
        *("torch", "torch-graph", "torch-graph-bare", "torch-compile"),
    ),
}
PRECISIONS = {"cpu": ("fp32",), "cuda": ("fp32", "tf32", "fp16")}
MOST_FLOPS = 4e11  # of a batch on a CPU, where one of more takes tens of seconds in some backend


def model_file(model: str, precision: str, folder: Path) -> Path:
    """Export the network of seed 0, in half precision for fp16."""
    torch.manual_seed(0)
    described = Description(name=model, labels=fashion_mnist.LABELS)
    graph = build_graph(create_model(model), described.metadata(None))
    if precision == "fp16":
        half = convert_float_to_float16(onnx.load_from_string(graph), keep_io_types=True)
        graph = half.SerializeToString()
    path = folder / "model.onnx"
    path.write_bytes(graph)
    return path


def start(backends: tuple[str, ...], file: Path, device: str, precision: str, model: str) -> tuple[list[Worker], Any]:
    """Start the workers one after the other; return those that run, and the version or the error of each."""
    workers, said = [], {}
    for backend in backends:
        try:
            worker = Worker(backend, file, device, precision=precision, network=model)
        except BackendFailed as error:
            said[backend] = {"error": str(error)}
            continue
        workers.append(worker)
        said[backend] = {"version": worker.version, "cold_start_ms": worker.cold_start_ms}
    return workers, said


def agreement(workers: list[Worker]) -> dict[str, Any]:
    """Return how far each worker's logits are from the first's on the same pixels."""
    pixels = FASHION_MNIST.random(64)
    ours = workers[0].logits(pixels)
    found: dict[str, Any] = {}
    for worker in workers[1:]:
        if worker.backend == "torch-graph-bare":  # its logits are of other pixels
            continue
        try:
            logits = worker.logits(pixels)
        except BackendFailed as error:
            found[worker.backend] = {"error": str(error)}
            continue
        flips = int(np.count_nonzero(logits.argmax(axis=1) != ours.argmax(axis=1)))
        found[worker.backend] = {"max_abs_diff": float(np.abs(logits - ours).max()), "other_class": flips}
    return found


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    ends = time.monotonic() + 60 * arguments.minutes
    kind = arguments.device.partition(":")[0]
    output: Path = arguments.output
    what = f"one caller, numpy pixels in, numpy logits out, in turn; {arguments.min_seconds} s a backend"
    document: dict[str, Any] = {"conditions": conditions.conditions(), "what": what, "starts": {}, "cells": {}}
    if output.exists():
        document = json.loads(output.read_text())

    def save() -> None:
        write_bytes(output, (json.dumps(document, indent=2) + "\n").encode())

    for model in arguments.models:
        for precision in arguments.precisions:
            group = f"{model}/{precision}"
            todo = [size for size in BATCH_SIZES if f"{group}/{size}" not in document["cells"]]
            if not todo or time.monotonic() > ends:
                continue
            with tempfile.TemporaryDirectory() as scratch:  # all have read it once they have started
                file = model_file(model, precision, Path(scratch))
                workers, said = start(BACKENDS[kind], file, arguments.device, precision, model)
            try:
                if not workers or workers[0].backend != OURS:
                    raise SystemExit(f"the runtime itself cannot run {file}: {said[OURS]['error']}")
                document["starts"][group] = said | {"agreement": agreement(workers)}
                save()
                for size in todo:
                    too_slow = kind == "cpu" and summarize(model).flops * size > MOST_FLOPS
                    if time.monotonic() > ends or too_slow:
                        continue
                    load = load_average()
                    rows = take_turns(workers, size, arguments.min_seconds, MIN_RUNS)
                    document["cells"][f"{group}/{size}"] = {"load_average": load, "backends": rows}
                    save()
                    print(line(f"{group}/{size}", rows), flush=True)
            finally:
                for worker in workers:
                    worker.__exit__(None, None, None)
    return document


def line(cell: str, rows: dict[str, Any]) -> str:
    """Return a line of text: each backend's median latency, and its ratio to ours."""
    parts = (
        f"{backend} {row['error'][:60]}"
        if "error" in row
        else f"{backend} {row['latency_ms']['p50']:.3f} ms ({row['times_ours']})"
        for backend, row in rows.items()
    )
    return f"{cell}: {', '.join(parts)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS["cuda"])
    parser.add_argument("--min-seconds", type=float, default=1.0, help="for each backend in each cell")
    parser.add_argument("--minutes", type=float, default=60.0, help="start no cell later than this")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    kind = arguments.device.partition(":")[0]
    if kind not in BACKENDS:
        parser.error(f"--device {arguments.device}: expected cpu, cuda or cuda:N")
    index = arguments.device.partition(":")[2]
    if kind == "cuda" and (problem := device_problem(Device("cuda", int(index or 0)))):
        raise SystemExit(f"cannot measure on {arguments.device}: {problem}")
    arguments.precisions = arguments.precisions or PRECISIONS[kind]
    if kind == "cpu" and set(arguments.precisions) != {"fp32"}:
        parser.error("on the CPU there is fp32 alone")
    arguments.output = arguments.output or conditions.RESULTS / f"compare_{kind}.json"
    run(arguments)
    print(arguments.output)


if __name__ == "__main__":
    main()
