"""Images/s of the zoo's training by the recipe `d2l` against D2L's own pipeline, each in its own process, in turn.

    python benchmarks/train_speed.py --model lenet --rounds 5
    python benchmarks/train_speed.py --model resnet18 --images 1280 --device cpu
    python benchmarks/train_speed.py --model vgg11 --device cuda

Both train the same network from fresh weights with plain SGD and batches of 128, and count the whole loop, data loading
included. Starting Python and reading the files is counted for neither. On a GPU the last of three epochs counts: the
first ones choose algorithms and compile. On a CPU all epochs of `zoo train` count, or, with fewer images than the
training set has, as for a large network, one epoch of its loop; both then train on the same first images.
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

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from a checkout that is not installed

import conditions

from runtime.errors import DeviceUnavailable
from runtime.evaluation.benchmark import same_package
from zoo.runs.settings import default_precision
from zoo.training.device import choose_device

HERE = Path(__file__).parent


def last_json(command: list[str]) -> Any:
    """Run a command and return the JSON that it prints."""
    return json.loads(
        subprocess.run([sys.executable, *command], check=True, stdout=subprocess.PIPE, env=same_package()).stdout
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="lenet")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=60_000, help="images of an epoch")
    parser.add_argument("--precision", choices=["fp32", "bf16"], help="of the zoo's side; by default `zoo train`'s")
    parser.add_argument("--output", type=Path, default=conditions.RESULTS, help="folder of the result")
    arguments = parser.parse_args()
    try:
        device = choose_device(arguments.device)
    except DeviceUnavailable as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    same = ["--device", str(device)]
    pipeline = ["--model", arguments.model, "--images", str(arguments.images), *same]
    if device.type == "cuda":
        pipeline += ["--epochs", "3"]
    precision = ["--precision", arguments.precision] if arguments.precision else []
    rows = []
    for _ in range(arguments.rounds):
        d2l = last_json([str(HERE / "d2l_pipeline.py"), *pipeline])
        if device.type == "cuda" or arguments.images < 60_000:
            zoo = last_json([str(HERE / "zoo_pipeline.py"), *pipeline, *precision])
        else:
            with tempfile.TemporaryDirectory() as folder:
                options = ["--recipe", "d2l", "--epochs", "2", "-o", folder, "--json", *same, *precision]
                zoo = last_json(["-m", "zoo", "train", arguments.model, *options])["images_per_second"]
        rows.append({"d2l": round(d2l, 1), "zoo": round(zoo, 1), "ratio": round(zoo / d2l, 3)})
        print(rows[-1], flush=True)
    ratio = statistics.median(row["ratio"] for row in rows)
    path = conditions.save(
        f"train_speed_{arguments.model}_{device.type}",
        {
            "what": "images/s of training, the zoo's recipe d2l against the D2L pipeline, in turn",
            "baseline": "torchvision FashionMNIST, ToTensor, DataLoader with 4 workers, eager SGD, batch 128",
            "model": arguments.model,
            "images": arguments.images,
            "precision": arguments.precision or default_precision(arguments.model, device),
            "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
            "rounds": rows,
            "median_ratio": ratio,
        },
        arguments.output,
    )
    print(f"median ratio {ratio:.2f}, written to {path}")


if __name__ == "__main__":
    main()
