"""How far are honest files and files with one real mistake from the tolerance of parity? Error / tolerance, both.

    python benchmarks/tolerance.py            # writes results/tolerance.json

Networks of torchvision, trained for an epoch on coloured pictures of Fashion-MNIST, some seeds each. A mistake is made
in a copy of the network of one seed, which is exported; the file is then verified against the network as it was. An
honest file must pass every check, a wrong one must fail one; where its error / tolerance is below 1, another check than
parity.
"""

import argparse
import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from conditions import save
from torch import nn
from torchvision.models import get_model
from torchvision.models.vision_transformer import VisionTransformer

from export import Description, Report, verify
from export.convert.exporter import build_graph
from runtime import InputSpec
from runtime.datasets import fashion_mnist

SIDE = 32
SPEC = InputSpec.photo(SIDE, mean=(0.49, 0.48, 0.45), std=(0.25, 0.24, 0.26))
OTHER_MEAN = InputSpec.photo(SIDE, mean=(0.5, 0.5, 0.5), std=(0.25, 0.24, 0.26))
CLASSES, TRAINING_IMAGES, TEST_IMAGES, BATCH = 10, 10_000, 256, 64


def transformer() -> nn.Module:
    return VisionTransformer(SIDE, 4, num_layers=2, num_heads=4, hidden_dim=64, mlp_dim=128, num_classes=CLASSES)


BACKBONES = ("resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5", "mnasnet0_5")
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    **{name: lambda name=name: get_model(name, weights=None, num_classes=CLASSES) for name in BACKBONES},
    "vision transformer": transformer,
}


def pictures(split: fashion_mnist.Split, count: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Return the first images, each in a colour of its own: uint8 (N, 3, 32, 32); and their labels: int64 (N,)."""
    images, labels = fashion_mnist.load(split)
    grey = np.pad(images[:count], ((0, 0), (0, 0), (2, 2), (2, 2)))
    colours = np.random.default_rng(0).uniform(0.3, 1, (count, 3, 1, 1))
    return np.rint(grey * colours).astype(np.uint8), labels[:count].astype(np.int64)


def normalized(images: torch.Tensor) -> torch.Tensor:
    """Return what the network takes: uint8 (N, 3, H, W) -> float32."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (SPEC.mean, SPEC.std))
    return (images.float() / 255 - mean) / std


def trained(name: str, seed: int, images: torch.Tensor, labels: torch.Tensor) -> nn.Module:
    torch.manual_seed(seed)
    network = NETWORKS[name]() if name in NETWORKS else get_model(name, weights=None, num_classes=CLASSES)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1  # some have 0.01, whose statistics are not those of so short a training
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    for rows in torch.randperm(len(images)).split(BATCH):
        loss = nn.functional.cross_entropy(network(normalized(images[rows])), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def epsilon(network: nn.Module) -> InputSpec | None:
    """The other usual epsilon: PyTorch's 1e-5, or Keras' 1e-3 where it is that already."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d | nn.LayerNorm)]
    for norm in norms:
        norm.eps = 1e-3 if norm.eps == 1e-5 else 1e-5
    return SPEC if norms else None


def activation(network: nn.Module) -> InputSpec | None:
    for module in network.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU | nn.Hardswish | nn.GELU):
                usual = {nn.ReLU: nn.GELU(), nn.Hardswish: nn.SiLU(), nn.GELU: nn.GELU("tanh")}
                setattr(module, name, usual[type(child)])
                return SPEC
    return None


def slope(network: nn.Module) -> InputSpec | None:
    for module in network.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU):
                setattr(module, name, nn.LeakyReLU(0.01))
                return SPEC
    return None


def mean(network: nn.Module) -> InputSpec | None:
    return OTHER_MEAN


def channels(network: nn.Module) -> InputSpec | None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.flip(1)
            return SPEC
    return None


def swapped(network: nn.Module) -> InputSpec | None:
    seen: dict[Any, nn.Parameter] = {}
    for parameter in network.parameters():
        if parameter.dim() >= 2 and (other := seen.get(parameter.shape)) is not None:
            parameter.data, other.data = other.data.clone(), parameter.data.clone()
            return SPEC
        seen[parameter.shape] = parameter
    return None


def padding(network: nn.Module) -> InputSpec | None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.padding == (1, 1) and module.stride == (1, 1):
            module.padding_mode, module._reversed_padding_repeated_twice = "replicate", [1, 1, 1, 1]
            return SPEC
    return None


def rounded(network: nn.Module) -> InputSpec | None:
    weights = [parameter for parameter in network.parameters() if parameter.dim() >= 2]
    weights[len(weights) // 2].data = weights[len(weights) // 2].data.half().float()
    return SPEC


MISTAKES: dict[str, Callable[[nn.Module], InputSpec | None]] = {
    "another epsilon": epsilon, "another activation": activation, "a slope below zero": slope, "another mean": mean,
    "channels in another order": channels, "two layers swapped": swapped, "another padding": padding,
    "one weight tensor rounded to float16": rounded,
}  # fmt: skip


def report_of(network: nn.Module, exported: nn.Module, spec: InputSpec, test: tuple[Any, Any]) -> Report:
    """Export a network as one of `spec` and verify the file against the other, as one of SPEC."""
    metadata = Description(name="m", labels=[str(k) for k in range(CLASSES)]).metadata(None)
    content = build_graph(exported, metadata, input=spec)
    return verify(network, content, input=SPEC, images=test[0], labels=test[1])


def row_of(report: Report) -> dict[str, Any]:
    parity = next(check.measures for check in report.checks if check.name == "parity")
    outputs = [parity[name] for name in ("logits", "probabilities")]
    return {
        "failed": [check.name for check in report.failures],
        "ratio": max(output["max_abs_diff"] / max(output["tolerance"], 1e-30) for output in outputs),
        "by_own_error": max(output["max_abs_diff"] / (8 * max(output["own_error"], 1e-12)) for output in outputs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    seeds = parser.parse_args().seeds
    images, labels = map(torch.from_numpy, pictures("train", TRAINING_IMAGES))
    test = pictures("test", TEST_IMAGES)
    honest: list[dict[str, Any]] = []
    mistakes: list[dict[str, Any]] = []
    for name in NETWORKS:
        for seed in range(seeds):
            network = trained(name, seed, images, labels)
            report = report_of(network, network, SPEC, test)
            with torch.inference_mode():
                right = network(normalized(torch.from_numpy(test[0]))).argmax(1).numpy() == test[1]
            honest.append({"network": name, "seed": seed, "accuracy": float(right.mean())} | row_of(report))
            print(honest[-1], flush=True)
            for mistake, make in list(MISTAKES.items())[seed::seeds]:
                wrong = copy.deepcopy(network)
                if (spec := make(wrong)) is not None:
                    row = {"mistake": mistake, "network": name, "seed": seed}
                    mistakes.append(row | row_of(report_of(network, wrong, spec, test)))
                    print(mistakes[-1], flush=True)
    figures = {
        "honest_refused": sum(bool(row["failed"]) for row in honest),
        "honest_largest": max(row["ratio"] for row in honest),
        "mistakes_missed": sum(not row["failed"] for row in mistakes),
        "mistakes_below_tolerance": sum(row["ratio"] <= 1 for row in mistakes),
        "mistakes_smallest": min(row["ratio"] for row in mistakes),
    }
    print(save("tolerance", figures | {"honest": honest, "mistakes": mistakes}), figures)


if __name__ == "__main__":
    main()
