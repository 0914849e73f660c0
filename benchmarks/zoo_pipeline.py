"""The zoo's training loop on the first images of the training set, for the comparison with `d2l_pipeline.py`.

    python benchmarks/zoo_pipeline.py --model resnet18 --images 1280

Prints images/s of the last epoch by the recipe `d2l`. It does what `zoo train` does, without writing files.
"""

import argparse
import json

import torch

from zoo.data.dataset import load_split
from zoo.models import create_model
from zoo.recipes import recipe_for
from zoo.runs.settings import resolve_settings
from zoo.training.device import choose_device, configure_backends
from zoo.training.memory import keep_freed_memory
from zoo.training.trainer import Trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="lenet")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--images", type=int, default=60_000, help="images of an epoch")
    parser.add_argument("--epochs", type=int, default=1, help="the last one is measured, the others warm up")
    parser.add_argument("--precision", choices=["fp32", "bf16"], help="by default what `zoo train` would take")
    arguments = parser.parse_args()
    keep_freed_memory()
    device = choose_device(arguments.device)
    configure_backends(device)
    settings = resolve_settings(
        arguments.model, None, "d2l", {"epochs": arguments.epochs}, 0, False, arguments.precision, device
    )
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
