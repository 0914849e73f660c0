"""How far are honest files and files with one real mistake from the tolerance of parity? Error / tolerance, both.

    python benchmarks/tolerance.py            # writes results/tolerance.json: the distributions of docs' plot

Small networks with random weights over some seeds; a mistake is made in a copy of the network, which is exported and
put to the network as it was. An honest file is right below 1, a mistake is caught above 1.
"""

import argparse
import copy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from conditions import save  # noqa: E402
from torch import nn  # noqa: E402

from export import Description  # noqa: E402
from export.convert.exporter import build_graph  # noqa: E402
from export.verification.context import VerificationContext  # noqa: E402
from runtime import InputSpec  # noqa: E402

SPEC = InputSpec.photo(32, mean=(0.49, 0.48, 0.45), std=(0.25, 0.24, 0.26))
OTHER_MEAN = InputSpec.photo(32, mean=(0.5, 0.5, 0.5), std=(0.25, 0.24, 0.26))
CLASSES = 10


def block(channels: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]


def plain() -> nn.Module:
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, CLASSES)]
    return nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU(), *block(32), *block(32), *head)


def wide_mean() -> nn.Module:
    """Long sums of numbers of one sign, in which engines differ most."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)
    )


def dense() -> nn.Module:
    layers = [nn.Linear(3072, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, CLASSES)]
    return nn.Sequential(nn.Flatten(), *layers)


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches, self.places = nn.Conv2d(3, 64, 4, 4), nn.Parameter(torch.randn(1, 64, 64) * 0.1)
        layers = [nn.TransformerEncoderLayer(64, 4, 128, 0.0, "gelu", 1e-6, True, True) for _ in range(2)]
        self.layers, self.head = nn.Sequential(*layers), nn.Linear(64, CLASSES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(self.patches(images).flatten(2).transpose(1, 2) + self.places).mean(1))


class Mobile(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        depthwise = [nn.Conv2d(32, 32, 3, padding=1, groups=32, bias=False), nn.BatchNorm2d(32), nn.Hardswish()]
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1), nn.Hardswish())
        self.body = nn.Sequential(*depthwise, nn.Conv2d(32, 32, 1), *copy.deepcopy(depthwise), nn.Conv2d(32, 32, 1))
        self.gate, self.head = nn.Linear(32, 32), nn.Linear(32, CLASSES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        values = self.body(self.stem(images))
        values = values * torch.sigmoid(self.gate(values.mean((2, 3))))[:, :, None, None]
        return self.head(values.mean((2, 3)))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "plain": plain, "wide mean": wide_mean, "dense": dense, "attention": Attending, "mobile": Mobile,
}  # fmt: skip


def epsilon(network: nn.Module) -> InputSpec | None:
    """The other usual epsilon: 1e-3 of Keras for 1e-5, 1e-5 for 1e-6."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d | nn.LayerNorm)]
    for norm in norms:
        norm.eps = 1e-3 if isinstance(norm, nn.BatchNorm2d) else 1e-5
    return SPEC if norms else None


def activation(network: nn.Module) -> InputSpec | None:
    for module in network.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU | nn.Hardswish):
                setattr(module, name, nn.GELU() if isinstance(child, nn.ReLU) else nn.SiLU())
                return SPEC
        if isinstance(module, nn.TransformerEncoderLayer):
            module.activation, module.activation_relu_or_gelu = lambda v: nn.functional.gelu(v, approximate="tanh"), 0
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


def stride(network: nn.Module) -> InputSpec | None:
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
    "channels in another order": channels, "two layers swapped": swapped, "another padding": stride,
    "one weight tensor rounded to float16": rounded,
}  # fmt: skip


def made(name: str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    network = NETWORKS[name]().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.3)
            nn.init.uniform_(module.running_var, 0.2, 2)
    return network


def ratio(network: nn.Module, exported: nn.Module, spec: InputSpec) -> dict[str, float]:
    """Return the largest error / tolerance of the two outputs, and the same against PyTorch's own error alone."""
    metadata = Description(name="m", labels=[str(k) for k in range(CLASSES)]).metadata(None)
    content = build_graph(exported, metadata, input=spec)
    images = SPEC.random(16, seed=9)
    rows = VerificationContext(network, content, images, np.zeros(16, int), {}, input=SPEC).parity
    return {
        "ratio": max(row["max_abs_diff"] / row["tolerance"] for row in rows.values()),
        "by_own_error": max(row["max_abs_diff"] / (8 * max(row["own_error"], 1e-12)) for row in rows.values()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    seeds = parser.parse_args().seeds
    honest, mistakes = [], []
    for name in NETWORKS:
        for seed in range(seeds):
            network = made(name, seed)
            honest.append({"network": name, "seed": seed} | ratio(network, network, SPEC))
            print(honest[-1], flush=True)
            for mistake, make in MISTAKES.items():
                wrong = made(name, seed)
                if seed < max(1, seeds // 2) and (spec := make(wrong)) is not None:
                    row = {"mistake": mistake, "network": name, "seed": seed}
                    mistakes.append(row | ratio(network, wrong, spec))
                    print(mistakes[-1], flush=True)
    figures = {
        "honest_refused": sum(row["ratio"] > 1 for row in honest),
        "honest_largest": max(row["ratio"] for row in honest),
        "mistakes_missed": sum(row["ratio"] <= 1 for row in mistakes),
        "mistakes_smallest": min(row["ratio"] for row in mistakes),
    }
    print(save("tolerance", figures | {"honest": honest, "mistakes": mistakes}), figures)


if __name__ == "__main__":
    main()
