"""D2L's training pipeline, as its text describes it: the baseline for the speed of the zoo's training.

    python benchmarks/d2l_pipeline.py --model lenet

torchvision's FashionMNIST with `ToTensor` (and `Resize` where the network is larger), a DataLoader with four workers,
an eager network, plain SGD. Written from the description in D2L 4.2, 7.6 and 8.1; no code is copied.
"""

import argparse
import gzip
import json
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms

from runtime.datasets import fashion_mnist
from zoo.models import ARCHITECTURES, create_model
from zoo.recipes import recipe_for
from zoo.training.device import choose_device

WORKERS = 4


def loader(root: Path, size: int, images: int, batch_size: int) -> DataLoader[tuple[Tensor, Tensor]]:
    """Return D2L's loader of the first `images` training images; `root` is that of torchvision's data set."""
    steps = [transforms.ToTensor()] if size == 28 else [transforms.Resize((size, size)), transforms.ToTensor()]
    data = datasets.FashionMNIST(root=str(root), train=True, transform=transforms.Compose(steps), download=False)
    return DataLoader(Subset(data, range(images)), batch_size, shuffle=True, num_workers=WORKERS)


def torchvision_root(folder: Path, scratch: Path) -> Path:
    """Write the data set into `scratch` as torchvision expects it, and return the root."""
    raw = scratch / "FashionMNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for split in ("train", "test"):
        for file in fashion_mnist.files_of(split):
            source = file.path_in(folder)
            assert source is not None
            content = source.read_bytes()
            if source.suffix == ".gz":
                content = gzip.decompress(content)
            (raw / file.name).write_bytes(content)
    return scratch


def images_per_second(
    network: nn.Module, batches: DataLoader[tuple[Tensor, Tensor]], lr: float, device: torch.device
) -> float:
    """Train one epoch as D2L does, and return images/s of the whole loop: starting the workers, as D2L does in
    every epoch, loading, and training."""
    network = network.to(device).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=lr)
    loss_function = nn.CrossEntropyLoss()
    seen = 0
    started = time.perf_counter()
    for images, labels in batches:
        images, labels = images.to(device), labels.to(device)
        loss = loss_function(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()  # D2L adds up the loss of every batch
        seen += len(labels)
    return seen / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="lenet")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--images", type=int, default=60_000, help="images of an epoch")
    parser.add_argument("--epochs", type=int, default=1, help="the last one is measured, the others warm up")
    arguments = parser.parse_args()
    recipe = recipe_for(arguments.model, "d2l")
    found = fashion_mnist.find()
    assert found is not None, "run `zoo data` first"
    with tempfile.TemporaryDirectory() as scratch:
        root = torchvision_root(found.folder, Path(scratch))
        batches = loader(root, ARCHITECTURES[arguments.model].input_size, arguments.images, recipe.batch_size)
        network = create_model(arguments.model).network
        device = choose_device(arguments.device)
        rates = [images_per_second(network, batches, recipe.lr, device) for _ in range(arguments.epochs)]
        print(json.dumps(rates[-1]))


if __name__ == "__main__":
    main()
