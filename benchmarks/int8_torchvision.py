"""Are ResNet-50 and MobileNetV2 of torchvision exported to int8, every check passed? Random, and trained for a while.

    python benchmarks/int8_torchvision.py [NETWORK ...] [--steps 150]      # writes results/int8_torchvision.json

Coloured pictures of Fashion-MNIST of 32x32 pixels, as in `benchmarks/tolerance.py`; calibrated on 256 of those it was
trained on. A refusal is recorded in its own words.
"""

import argparse
import tempfile
import time
from typing import Any

import torch
from conditions import save
from tolerance import CLASSES, SPEC, pictures, trained
from torch import nn
from torchvision.models import get_model

from export import Description, export_network
from runtime.errors import FashionZooError

CALIBRATION, TEST = 256, 512  # images


def network_of(name: str, steps: int) -> nn.Module:
    if steps:
        images, labels = pictures("train", 64 * steps)
        return trained(name, 0, torch.from_numpy(images), torch.from_numpy(labels))
    torch.manual_seed(0)
    network: nn.Module = get_model(name, weights=None, num_classes=CLASSES)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.7, 1.4)
    return network.eval()


def row_of(name: str, steps: int) -> dict[str, Any]:
    network = network_of(name, steps)
    images, labels = pictures("test", TEST)
    calibration, _ = pictures("train", CALIBRATION)
    row: dict[str, Any] = {"network": name, "steps": steps, "verdict": "certified"}
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        try:
            report = export_network(
                network,
                folder,
                Description(name="m", labels=[str(k) for k in range(CLASSES)]),
                input=SPEC,
                images=images,
                labels=labels,
                dtype="int8",
                storage="int8",
                calibration=calibration,
                purpose="size",
            )
        except FashionZooError as error:
            return row | {"verdict": "refused", "why": str(error)[:1000]}
    row["seconds"] = round(time.perf_counter() - started)
    quantization = report.conditions["quantization"]
    row |= {key: quantization[key] for key in ("float_layers", "speed")}
    measures = {check.name: check.measures for check in report.checks}
    return row | {key: measures["decisions"][key] for key in ("flips", "lost", "p_value")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=["mobilenet_v2", "resnet50"])
    parser.add_argument("--steps", type=int, default=150, help="of 64 images, by which a network is trained")
    asked = parser.parse_args()
    rows = []
    for name in asked.networks:
        for steps in (0, asked.steps):
            rows.append(row_of(name, steps))
            print({key: value for key, value in rows[-1].items() if key != "speed"}, flush=True)
    print(save("int8_torchvision", {"images": TEST, "calibration": CALIBRATION, "rows": rows}))


if __name__ == "__main__":
    main()
