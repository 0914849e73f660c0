"""Images/s of the zoo's training by the recipe `d2l` against D2L's own pipeline, each in its own process, in turn.

    python benchmarks/train_speed.py --model lenet --rounds 5
    python benchmarks/train_speed.py --model resnet18 --images 1280 --device cpu
    python benchmarks/train_speed.py --model vgg11 --device cuda

D2L's pipeline is written from the description in D2L 4.2, 7.6 and 8.1; no code is copied: torchvision's FashionMNIST
with `ToTensor` (and `Resize` where the network is larger), a DataLoader with four workers, an eager network, plain SGD.
The zoo's side does what `zoo train` does, without writing files. Both train the same network from fresh weights on the
same first images with batches of 128, and count the whole loop, data loading included. Starting Python and reading the
files is counted for neither. The last of two epochs counts, on a GPU of three: the first ones choose algorithms and
compile.
"""

import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import conditions
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms

from runtime.datasets import fashion_mnist
from runtime.errors import DeviceUnavailable
from runtime.evaluation.benchmark import same_package
from zoo.data.dataset import load_split
from zoo.models import ARCHITECTURES, create_model
from zoo.recipes import recipe_for
from zoo.runs.settings import default_precision, resolve_settings
from zoo.training.device import choose_device, configure_backends
from zoo.training.memory import keep_freed_memory
from zoo.training.trainer import Trainer

WORKERS = 4


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


def d2l_pipeline(model: str, images: int, device: torch.device, epochs: int, precision: str | None) -> float:
    """Return images/s of the last epoch of D2L's pipeline, which is in fp32 whatever the zoo's side is in."""
    recipe, size = recipe_for(model, "d2l"), ARCHITECTURES[model].input_size
    found = fashion_mnist.find()
    assert found is not None, "run `zoo data` first"
    with tempfile.TemporaryDirectory() as scratch:
        root = str(torchvision_root(found.folder, Path(scratch)))
        steps = [*([] if size == 28 else [transforms.Resize((size, size))]), transforms.ToTensor()]
        data = datasets.FashionMNIST(root, train=True, transform=transforms.Compose(steps), download=False)
        batches = DataLoader(Subset(data, range(images)), recipe.batch_size, shuffle=True, num_workers=WORKERS)
        network = create_model(model).network
        return [images_per_second(network, batches, recipe.lr, device) for _ in range(epochs)][-1]


def zoo_pipeline(model: str, images: int, device: torch.device, epochs: int, precision: str | None) -> float:
    """Return images/s of the last epoch of the zoo's training."""
    keep_freed_memory()
    configure_backends(device)
    settings = resolve_settings(model, None, "d2l", {"epochs": epochs}, 0, False, precision, device)
    torch.manual_seed(settings.seed)
    trainer = Trainer(
        create_model(model, normalize=recipe_for(model, "d2l").normalize),
        settings.recipe,
        load_split("train", device)[slice(0, images)],
        settings.seed,
        precision=settings.precision,
        compile=settings.compile,
    )
    return [trainer.run_epoch().images_per_second for _ in range(epochs)][-1]


SIDES = {"d2l": d2l_pipeline, "zoo": zoo_pipeline}


def in_own_process(side: str) -> float:
    """Run this script's one side, with the arguments that it was given."""
    command = [sys.executable, __file__, *sys.argv[1:], "--side", side]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=same_package())
    return round(json.loads(done.stdout), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="lenet")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=60_000, help="images of an epoch")
    parser.add_argument("--precision", choices=["fp32", "bf16"], help="of the zoo's side; by default `zoo train`'s")
    parser.add_argument("--output", type=Path, default=conditions.RESULTS, help="folder of the result")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    try:
        device = choose_device(asked.device)
    except DeviceUnavailable as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    if asked.side:
        epochs = 3 if device.type == "cuda" else 2
        print(json.dumps(SIDES[asked.side](asked.model, asked.images, device, epochs, asked.precision)))
        return
    rates = conditions.in_turn({side: partial(in_own_process, side) for side in SIDES}, asked.rounds)
    ratio = round(conditions.median_ratio(rates["zoo"], rates["d2l"]), 3)
    path = conditions.save(
        f"train_speed_{asked.model}_{device.type}",
        {
            "what": "images/s of training, the zoo's recipe d2l against the D2L pipeline, in turn",
            "baseline": "torchvision FashionMNIST, ToTensor, DataLoader with 4 workers, eager SGD, batch 128",
            "model": asked.model,
            "images": asked.images,
            "precision": asked.precision or default_precision(asked.model, device),
            "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
            "rounds": [dict(zip(rates, row, strict=True)) for row in zip(*rates.values(), strict=True)],
            "median_ratio": ratio,
        },
        asked.output,
    )
    print(f"median ratio {ratio:.2f}, written to {path}")


if __name__ == "__main__":
    main()
