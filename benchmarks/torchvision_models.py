"""Which classifiers of torchvision are exported, proved and run? Random weights, one process each.

    python benchmarks/torchvision_models.py                 # writes results/torchvision_models.json; goes on
    python benchmarks/torchvision_models.py swin_t resnet18 # only these, anew

Every classification architecture of `torchvision.models.list_models` up to 100 M parameters, with the statistics of its
batch norms moved off their defaults, at the smallest of some sizes that it takes.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

RESULTS = ROOT / "benchmarks" / "results" / "torchvision_models.json"
SIZES = (64, 96, 128, 224, 256)
IMAGES, MOST_PARAMETERS, MINUTES = 8, 100_000_000, 20
ONE_OF_EACH = [
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet", "inception_v3",
    "maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_y_400mf", "resnet18", "resnext50_32x4d",
    "shufflenet_v2_x1_0", "squeezenet1_0", "swin_t", "swin_v2_t", "vgg11", "vit_b_32", "wide_resnet50_2",
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="only these, anew; by default all that have not been done")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(judge(asked.one)))
        return
    import torchvision

    from benchmarks.conditions import conditions
    from runtime.storage import write_bytes

    every = torchvision.models.list_models(module=torchvision.models)
    names = asked.models or [*by_size(ONE_OF_EACH), *by_size(set(every).difference(ONE_OF_EACH))]
    rows = json.loads(RESULTS.read_text())["models"] if RESULTS.exists() else {}
    for name in names:
        if name in rows and not asked.models:
            continue
        rows[name] = row = in_a_process(name)
        judged = [each for each in rows.values() if each["verdict"] != "too large"]
        proved = sum(each["verdict"] == "proved and run" for each in judged)
        figures = {"conditions": conditions(), "proved": proved, "of": len(judged), "architectures": len(every)}
        write_bytes(RESULTS, (json.dumps(figures | {"models": rows}, indent=1) + "\n").encode())
        print(f"{name:24} {row['verdict']:16} {row.get('seconds', 0):6.0f} s  {row.get('why', '')[:300]}", flush=True)


def by_size(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: (parameters_of(name), name))


def parameters_of(name: str) -> int:
    import torchvision

    count: int = torchvision.models.get_model_weights(name)["DEFAULT"].meta["num_params"]
    return count


def in_a_process(name: str) -> dict[str, Any]:
    command = [sys.executable, "-P", __file__, "--one", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=MINUTES * 60)
    except subprocess.TimeoutExpired:
        return {"verdict": "too slow", "why": f"not done after {MINUTES} minutes"}
    if done.returncode:
        return {"verdict": "crashed", "why": (done.stderr.strip().splitlines() or [str(done.returncode)])[-1]}
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def judge(name: str) -> dict[str, Any]:
    import torch

    parameters = parameters_of(name)
    if parameters > MOST_PARAMETERS:
        return {"verdict": "too large", "parameters": parameters}
    from export import Description, export_network
    from runtime import Classifier, InputSpec
    from runtime.errors import FashionZooError

    torch.manual_seed(0)
    network, size = made(name)
    spec = InputSpec.photo(size)
    images = pictures(spec)
    labels = torch.arange(IMAGES).numpy()
    row: dict[str, Any] = {"parameters": parameters, "size": size}
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        names = [f"class {index}" for index in range(1000)]
        try:
            report = export_network(
                network, folder, Description(name=name, labels=names), input=spec, images=images, labels=labels
            )
            row["verdict"] = "proved"
        except FashionZooError as error:
            return row | {"verdict": "refused", "why": str(error)[:1000], "seconds": time.perf_counter() - started}
        row["seconds"] = round(time.perf_counter() - started, 1)
        row["load"] = round(os.getloadavg()[0], 1)  # of the machine: how far the seconds are its own
        row["memory_gb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
        parity = next(check for check in report.checks if check.name == "parity").measures["logits"]
        row["error"], row["tolerance"] = parity["max_abs_diff"], parity["tolerance"]
        row["not_proved"] = report.as_dict().get("not_proved", [])
        try:
            logits = Classifier(Path(folder) / name / "model.onnx", device="cpu").logits(images)
            row["verdict"] = "proved and run" if logits.shape == (IMAGES, 1000) else f"logits {logits.shape}"
        except Exception as error:  # what a user would see
            row["why"] = f"{type(error).__name__}: {error}"[:1000]
    return row


def made(name: str) -> tuple[Any, int]:
    """Return a network with jittered statistics and the smallest size of input that it takes."""
    import torch
    import torchvision

    for size in SIZES:
        options: dict[str, Any] = {"weights": None}
        if name.startswith("vit"):
            options["image_size"] = size
        if name.startswith("maxvit"):
            options["input_size"] = (size, size)
        if name in ("googlenet", "inception_v3"):
            options["init_weights"] = False
        try:
            network = torchvision.models.get_model(name, **options).eval()
            with torch.no_grad():
                network(torch.zeros(2, 3, size, size))
        except Exception:  # the size is too small
            continue
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.normal_(module.running_mean, 0, 0.1)
                torch.nn.init.uniform_(module.running_var, 0.7, 1.4)
            elif isinstance(module, torch.nn.Linear) and not module.weight.any():  # as the head of a ViT begins
                torch.nn.init.normal_(module.weight, 0, 0.02)
        return network, size
    raise ValueError(f"{name} takes none of the sizes {SIZES}")


def pictures(spec: Any) -> Any:
    """Smooth pictures, as photographs are: low frequencies in random colours."""
    import numpy as np

    random = np.random.default_rng(1)
    rows, columns = np.indices((spec.height, spec.width)) / spec.height
    waves = sum(
        random.normal(size=(IMAGES, 3, 1, 1))
        * np.sin(2 * np.pi * (random.normal(size=(IMAGES, 3, 1, 1)) * rows + random.normal() * columns) * scale)
        / scale
        for scale in (1, 2, 4, 8)
    )
    return (127 + 60 * waves).clip(0, 255).astype(np.uint8)


if __name__ == "__main__":
    main()
