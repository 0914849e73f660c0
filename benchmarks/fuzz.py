"""Damaged pictures and damaged model files, by the thousand: an answer or one named error, in time, and no crash.

    python benchmarks/fuzz.py --pictures 20000 --models 5000

Cases come from a seed and a number, so each can be had again: `--only models:1234`. They run in child processes, in
pieces; a child that dies, or hangs, names the case it died of.
"""

import argparse
import io
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from a checkout that is not installed

import conditions
import numpy as np
from PIL import Image

from runtime import Classifier, fashion_mnist
from runtime.bench import same_package
from runtime.errors import ImageError, ModelInvalid
from runtime.images import to_pixels
from runtime.store import find_model

PIECE, PIECE_SECONDS, SLOW_SECONDS = 500, 600, 5.0
SAVED = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")


def seeds_of(kind: str) -> list[bytes]:
    """Whole files that cases are made from: a picture in every format, small and large; the models that ship."""
    if kind == "models":
        return [find_model(name).read() for name in ("lenet", "lenet-modern")]
    garment = Image.fromarray(fashion_mnist.load("test")[0][0, 0])
    found = []
    for picture in (garment, garment.resize((300, 200)).convert("RGB"), garment.convert("RGBA")):
        for name in SAVED:
            content = io.BytesIO()
            try:
                picture.save(content, name)
            except (OSError, KeyError, ValueError):  # this Pillow, or this format, cannot
                continue
            found.append(content.getvalue())
    return found


def damaged(kind: str, number: int, seeds: list[bytes]) -> bytes:
    """Return case `number`: bytes flipped, cut, repeated, exchanged with another file's, or made extreme."""
    rng = np.random.default_rng([number, len(kind)])
    data = bytearray(seeds[int(rng.integers(len(seeds)))])
    for _ in range(int(rng.integers(1, 6))):
        if not data:
            break
        # Half of the time near the beginning, where headers are.
        at = int(rng.integers(min(len(data), 200) if rng.random() < 0.5 else len(data)))
        length = int(rng.integers(1, 64))
        action = int(rng.integers(6))
        if action == 0:
            data[at] ^= 1 << int(rng.integers(8))
        elif action == 1:
            del data[at : len(data) if rng.random() < 0.3 else at + length]
        elif action == 2:
            data[at:at] = data[at : at + length] * int(rng.integers(1, 4))
        elif action == 3:
            other = seeds[int(rng.integers(len(seeds)))]
            data[at : at + length] = other[at : at + length]
        elif action == 4:
            data[at : at + 4] = [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\x80\x80\x80\x80"][
                int(rng.integers(4))
            ]
        else:
            data[at : at + length] = rng.bytes(length)
    return bytes(data)


def outcome(kind: str, content: bytes, scratch: Path) -> str:
    """What became of a case: `answered`, or the kind of the error; anything else is raised."""
    if kind == "pictures":
        try:
            pixels = to_pixels(content)
        except ImageError as error:
            return error.kind
        assert pixels.array.shape == (28, 28)
        assert pixels.array.dtype == np.uint8
        return "answered"
    scratch.write_bytes(content)
    try:
        with Classifier(scratch, device="cpu", threads=1) as classifier:
            assert classifier.logits(np.zeros((2, 1, 28, 28), np.uint8)).shape == (2, len(classifier.labels))
    except ModelInvalid:
        return "refused"
    return "answered"


def piece(kind: str, first: int, last: int) -> None:
    """Run cases; print each number before it is tried, and at the end what became of them, as JSON."""
    warnings.simplefilter("error")  # nothing may be said but by the error
    seeds, counts, slowest = seeds_of(kind), Counter[str](), 0.0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(first, last):
            print(number, file=sys.stderr, flush=True)
            began = time.perf_counter()
            counts[outcome(kind, damaged(kind, number, seeds), Path(folder) / "case.onnx")] += 1
            slowest = max(slowest, time.perf_counter() - began)
    print(json.dumps({"outcomes": counts, "slowest_seconds": round(slowest, 3)}))


def run(kind: str, cases: int) -> dict[str, Any]:
    """Run all cases in pieces; return the counts, and for each piece that died the case and the reason."""
    counts, failures, slowest, done = Counter[str](), [], 0.0, 0
    first = 0
    while first < cases:
        last = min(first + PIECE, cases)
        command = [sys.executable, __file__, "--piece", f"{kind}:{first}:{last}"]
        try:
            child = subprocess.run(
                command, capture_output=True, text=True, env=same_package(), timeout=PIECE_SECONDS, check=False
            )
            code, stdout, stderr = child.returncode, child.stdout, child.stderr
        except subprocess.TimeoutExpired as error:
            code, stdout, stderr = "timeout", "", (error.stderr or b"").decode()
        if code == 0:
            report = json.loads(stdout)
            counts.update(report["outcomes"])
            slowest, done, first = max(slowest, report["slowest_seconds"]), done + last - first, last
            continue
        tried = [line for line in stderr.splitlines() if line.isdecimal()]
        number = int(tried[-1]) if tried else first
        failures.append({"case": f"{kind}:{number}", "exit_code": code, "stderr": stderr.strip().splitlines()[-1:]})
        done, first = done + number + 1 - first, number + 1  # those before it passed, uncounted by kind
    return {"cases": done, "outcomes": dict(counts), "slowest_seconds": slowest, "failures": failures}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--models", type=int, default=5_000)
    parser.add_argument("--only", help="run this one case here: pictures:N or models:N")
    parser.add_argument("--piece", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.piece:
        kind, first, last = arguments.piece.split(":")
        piece(kind, int(first), int(last))
        return
    if arguments.only:
        kind, number = arguments.only.split(":")
        piece(kind, int(number), int(number) + 1)
        return
    figures = {kind: run(kind, getattr(arguments, kind)) for kind in ("pictures", "models")}
    print(figures, conditions.save("fuzz", figures), sep="\n")
    if any(figure["failures"] or figure["slowest_seconds"] > SLOW_SECONDS for figure in figures.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
