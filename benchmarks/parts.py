"""Large files in parts, for a way that takes only small ones; and checkpoints at half their size.

python benchmarks/parts.py split FILE FOLDER     FOLDER/FILE.part00, .part01, ..., and FILE.parts.json
python benchmarks/parts.py join FOLDER TARGET    every file whose parts are all there, checked by its sha256
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

from runtime.errors import FashionZooError
from runtime.storage import write_bytes
from zoo import checkpoint
from zoo.data import LabelledImages
from zoo.evaluation import evaluate
from zoo.models import create_model

PART_BYTES = 15 << 20


class PartsError(FashionZooError):
    """A part is missing or damaged."""


def split(path: Path, folder: Path, part_bytes: int = PART_BYTES) -> list[Path]:
    """Write a file's parts and the list that puts them together again; return all that was written."""
    content = path.read_bytes()
    pieces = [content[start : start + part_bytes] for start in range(0, len(content), part_bytes)] or [b""]
    names = [f"{path.name}.part{number:02d}" for number in range(len(pieces))]
    listing = {"name": path.name, "bytes": len(content), "sha256": _sha256(content), "parts": names}
    folder.mkdir(parents=True, exist_ok=True)
    for name, piece in zip(names, pieces, strict=True):
        write_bytes(folder / name, piece)
    write_bytes(folder / f"{path.name}.parts.json", (json.dumps(listing, indent=2) + "\n").encode())
    return [folder / name for name in [*names, f"{path.name}.parts.json"]]


def join(folder: Path, target: Path) -> list[Path]:
    """Put the files together whose parts are in a folder, and return them.

    Raises:
        PartsError: a part is missing, or the whole is not what was split.
    """
    joined = []
    for listing in sorted(folder.glob("*.parts.json")):
        wanted = json.loads(listing.read_text())
        missing = [name for name in wanted["parts"] if not (folder / name).exists()]
        if missing:
            raise PartsError(f"{wanted['name']} lacks {', '.join(missing)} in {folder}")
        content = b"".join((folder / name).read_bytes() for name in wanted["parts"])
        if _sha256(content) != wanted["sha256"]:
            raise PartsError(f"the parts of {wanted['name']} in {folder} do not make the file that was split")
        target.mkdir(parents=True, exist_ok=True)
        write_bytes(target / wanted["name"], content)
        joined.append(target / wanted["name"])
    return joined


def halve(source: Path, target: Path, test: LabelledImages) -> tuple[float, float]:
    """Store a finished checkpoint with its kernels and matrices in float16, measured again, and say so in its header.

    Biases and statistics stay float32: they are few, and statistics have a wider range.

    Args:
        source: a finished checkpoint.
        target: the file to write.
        test: the test images, on the device to measure on.

    Returns:
        The test accuracy before and after.
    """
    found = checkpoint.load(source)
    weights = {name: tensor.half() if tensor.dim() > 1 else tensor for name, tensor in found.weights.items()}
    network = create_model(found.model).to(test.labels.device)
    accuracies = []
    for each in (found.weights, weights):
        network.load_state_dict(each)
        accuracies.append(evaluate(network, test).accuracy)
    before, after = accuracies
    header = found.header | {"test_accuracy": after, "stored": {"kernels": "float16", "accuracy_in_float32": before}}
    header["rounded_from"] = found.sha256()  # `zoo export` measures what rounding costs, and refuses rounded weights
    checkpoint.save(target, header, weights)
    return before, after


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["split", "join"])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    asked = parser.parse_args()
    try:
        found = split(asked.source, asked.target) if asked.action == "split" else join(asked.source, asked.target)
    except (PartsError, OSError) as error:
        sys.exit(f"Error: {error}")
    print(*found, sep="\n")


if __name__ == "__main__":
    main()
