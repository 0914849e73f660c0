"""Images/s of `zoo train --recipe d2l` against the book's own pipeline, each in its own process, in turn.

    python benchmarks/train_speed.py --model lenet --rounds 5
    python benchmarks/train_speed.py --model resnet18 --images 1280 --device cpu

Both train the same network from fresh weights with plain SGD and batches of 128, and count the whole loop, data loading
included. Starting Python and reading the files is counted for neither. With fewer images than the training set has, as
for a large network on a CPU, both train on the same first ones, and the zoo's side is its loop, without `zoo train`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import conditions

HERE = Path(__file__).parent


def last_json(command: list[str]) -> Any:
    """Run a command and return the JSON that it prints."""
    done = subprocess.run([sys.executable, *command], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="lenet")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=60_000, help="images of an epoch")
    arguments = parser.parse_args()
    same = ["--device", arguments.device]
    subset = ["--model", arguments.model, "--images", str(arguments.images), *same]
    rows = []
    for _ in range(arguments.rounds):
        book = last_json([str(HERE / "d2l_pipeline.py"), *subset])
        if arguments.images < 60_000:
            ours = last_json([str(HERE / "zoo_pipeline.py"), *subset])
        else:
            with tempfile.TemporaryDirectory() as folder:
                options = ["--recipe", "d2l", "--epochs", "2", "-o", folder, "--json", *same]
                ours = last_json(["-m", "zoo", "train", arguments.model, *options])["images_per_second"]
        rows.append({"d2l": round(book, 1), "zoo": round(ours, 1), "ratio": round(ours / book, 3)})
        print(rows[-1], flush=True)
    ratio = statistics.median(row["ratio"] for row in rows)
    kind = arguments.device.partition(":")[0]
    path = conditions.save(
        f"train_speed_{arguments.model}_{kind}",
        {
            "what": "images/s of training, `zoo train --recipe d2l` against the D2L pipeline, in turn",
            "baseline": "torchvision FashionMNIST, ToTensor, DataLoader with 4 workers, eager SGD, batch 128",
            "model": arguments.model,
            "images": arguments.images,
            "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
            "rounds": rows,
            "median_ratio": ratio,
        },
    )
    print(f"median ratio {ratio:.2f}, written to {path}")


if __name__ == "__main__":
    main()
