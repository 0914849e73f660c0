"""The zoo's training loop on the first images of the training set: what `d2l_pipeline.py` is compared with.

    python benchmarks/zoo_pipeline.py --model resnet18 --images 1280

Prints images/s of the last epoch by the recipe `d2l`: what `zoo train` does, on fewer images and without its files.
"""

import argparse
import json

import torch

from zoo.data import load_split
from zoo.device import choose_device, settle_arithmetic
from zoo.models import create_model
from zoo.recipes import recipe_for
from zoo.settings import settle
from zoo.training import Trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="lenet")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--images", type=int, default=60_000, help="images of an epoch")
    parser.add_argument("--epochs", type=int, default=1, help="the last one is measured, the others warm up")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    settle_arithmetic(device)
    settings = settle(arguments.model, None, "d2l", {"epochs": arguments.epochs}, 0, False, device=device)
    torch.manual_seed(settings.seed)
    trainer = Trainer(
        create_model(arguments.model, normalize=recipe_for(arguments.model, "d2l").normalize),
        settings.recipe,
        load_split("train", device)[slice(0, arguments.images)],
        settings.seed,
        precision=settings.precision,
        compile=settings.compile,
    )
    rates = [trainer.run_epoch().images_per_second for _ in range(arguments.epochs)]
    print(json.dumps(rates[-1]))


if __name__ == "__main__":
    main()
