"""The whole way, from pixels to an app, for one network: what `make demo` runs.

Every step is a command that you can type yourself. A second run reuses the data and the trained network.
"""

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image

from runtime.datasets import fashion_mnist
from runtime.storage import home

EPOCHS = 10  # a minute or two on two cores; the published lenet has 60
PICTURES = 6


def main() -> None:
    os.environ.setdefault("ZOO_HOME", str(Path(__file__).resolve().parents[1] / ".zoo"))
    steps = []
    for title, command in {
        "Get Fashion-MNIST": "zoo data",
        f"Train LeNet for {EPOCHS} epochs": f"zoo train lenet --epochs {EPOCHS} --resume",
        "Freeze it into one ONNX file": "zoo export lenet",
        "Prove that the file is the network": "zoo verify lenet",
        "Measure it without PyTorch": "runtime accuracy -m lenet --device cpu",
    }.items():
        steps.append((title, run(title, command)))
    pictures = write_pictures(home() / "pictures")
    title = "Name real pictures"
    command = f"runtime predict -m lenet {shlex.join(pictures)}"
    steps.append((title, run(title, command)))
    print("\nWhat took how long:")
    for title, seconds in steps:
        print(f"  {seconds:7.1f} s  {title}")
    print(f"\nEverything is in {home()}. The model file alone is all that an app needs:")
    print(f"  {home() / 'weights' / 'lenet' / 'model.onnx'}")


def run(title: str, command: str) -> float:
    """Run a command of the project as if typed, stop where it fails, and return its seconds."""
    print(f"\n== {title}\n$ {command}", flush=True)
    program, *arguments = shlex.split(command)
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-P", "-m", program, *arguments], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)
    return time.perf_counter() - started


def write_pictures(folder: Path) -> list[str]:
    """Save a few test images as PNG, named after what they show, and one as a photograph on white; return the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    images, labels = fashion_mnist.load("test")
    paths = []
    for index in range(PICTURES):
        name = fashion_mnist.LABELS[labels[index]].replace("/", "-").replace(" ", "-").lower()
        picture = Image.fromarray(images[index, 0])
        if index == PICTURES - 1:
            page = Image.new("L", (420, 360), 255)
            page.paste(Image.fromarray(255 - images[index, 0]).resize((280, 280), Image.Resampling.BICUBIC), (90, 50))
            picture, name = page.convert("RGB"), f"photo-of-{name}"
        path = folder / f"{index}-{name}.png"
        picture.save(path)
        paths.append(str(path))
    return paths


if __name__ == "__main__":
    main()
