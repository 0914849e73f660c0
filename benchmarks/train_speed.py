"""Images/s of `zoo train --recipe d2l` against the book's own pipeline, in turn, on this machine.

    python benchmarks/train_speed.py --model lenet --rounds 5

Both train the same network from fresh weights with plain SGD; both count the whole loop, data loading included.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

import conditions
import d2l_pipeline
import torch

from runtime import fashion_mnist
from zoo.data import load_split
from zoo.device import choose_device
from zoo.models import ARCHITECTURES, create_model
from zoo.recipes import recipe_for
from zoo.training import Trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="lenet")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=60_000, help="images a measurement")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    recipe = recipe_for(arguments.model, "d2l").override(epochs=1)
    found = fashion_mnist.find()
    assert found is not None, "run `zoo data` first"
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        root = d2l_pipeline.torchvision_root(found.folder, Path(scratch))
        batches = d2l_pipeline.loader(root, ARCHITECTURES[arguments.model].input_size, recipe.batch_size)
        data = load_split("train", device)[slice(0, arguments.images)]
        for _ in range(arguments.rounds):
            network = create_model(arguments.model, normalize=False).network
            book = d2l_pipeline.images_per_second(network, batches, recipe.lr, device, arguments.images)
            trainer = Trainer(create_model(arguments.model, normalize=False), recipe, data, seed=0)
            ours = trainer.run_epoch().images_per_second
            rows.append({"d2l": round(book, 1), "zoo": round(ours, 1), "ratio": round(ours / book, 3)})
            print(rows[-1], flush=True)
    ratio = statistics.median(row["ratio"] for row in rows)
    path = conditions.save(
        f"train_speed_{arguments.model}_{device.type}",
        {
            "what": "images/s of one training epoch, zoo against the D2L pipeline (4 workers, eager SGD), in turn",
            "model": arguments.model,
            "batch_size": recipe.batch_size,
            "images": arguments.images,
            "threads": torch.get_num_threads(),
            "rounds": rows,
            "median_ratio": ratio,
        },
    )
    print(f"median ratio {ratio:.2f}, written to {path}")


if __name__ == "__main__":
    main()
