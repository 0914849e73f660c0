"""A network from elsewhere, torchvision's ResNet-18 with one channel, exported and proved like those of the zoo."""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from export import Description, export_network
from runtime.datasets import fashion_mnist


class OwnNetwork(nn.Module):
    """images: uint8 (N, 1, 28, 28) -> logits: float32 (N, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.resnet = resnet18(num_classes=10)
        self.resnet.conv1 = nn.Conv2d(1, 64, kernel_size=3, padding=1, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.resnet(images.float() / 255)
        return logits


def main(folder: Path, count: int = 1000) -> None:
    torch.manual_seed(0)
    network = OwnNetwork().eval()  # your training goes here
    images, labels = fashion_mnist.load("test")
    description = Description(name="own", labels=fashion_mnist.LABELS, license="Apache-2.0")
    report = export_network(network, folder, description, images=images[:count], labels=labels[:count])
    for check in report.checks:
        print(f"{check.name}: {check.detail}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "own-weights"))
