"""Gate: the graph's numbers are the network's, within a tolerance that is measured and not typed.

The reference is the network in float64. PyTorch's own float32 error against it, on the same inputs, is the noise floor
that no float32 implementation can be asked to beat; the graph's error may be at most `NOISE_MULTIPLE` times that.

A file that declares float16 is asked twice: read as float32 it must be the network with rounded weights as exactly as
any other file, and as it is it must be within the multiple of what the same rounding costs PyTorch; `export.precision`
has the derivation.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from export.bisect import first_departure
from export.subject import Finding, Floats, GateFailure, Pixels, Subject, run_network
from runtime import contract
from runtime.parity import READ_AS_FLOAT

# Another order of summation gives another error of the same size; its maximum over some 10,000 numbers varies by a
# small factor from one order to the next. Eight leaves room for that and for nothing else: a weight changed by 1 %, or
# a product rounded to TF32, is hundreds of times the floor.
NOISE_MULTIPLE = 8
REAL_IMAGES = 256
RANDOM_IMAGES = 64
ASCENT_STEPS, ASCENT_STEP = 6, 40  # from any picture, every pixel can reach black or white
REAL, RANDOM, OUTPUTS = "real images", "random pixels", (contract.LOGITS, contract.PROBABILITIES)


def parity(subject: Subject) -> Finding:
    found = subject.parity
    plain = found.get(READ_AS_FLOAT, {})
    for output, row in plain.items():
        if not row["max_abs_diff"] <= row["tolerance"]:
            raise GateFailure(
                f"read as float32, {output} differ from the float64 network with rounded weights by up to "
                f"{_excess(row)}{_where(subject, row['worst_image'])}",
                found,
            )
    for output in OUTPUTS:
        row = found[output]
        if not np.isfinite(row["noise_floor"]):
            remedy = "export it as fp32" if subject.precision.rounds else "a weight is not finite, or a sum overflows"
            raise GateFailure(f"{output} are beyond {subject.precision} already in PyTorch: {remedy}", found)
        if not row["max_abs_diff"] <= row["tolerance"]:
            where = "; read as float32 they are right" if plain else _where(subject, row["worst_image"])
            raise GateFailure(f"{output} differ from the float64 network by up to {_excess(row)}{where}", found)
    row = found[contract.LOGITS]
    told = f"; read as float32 within {plain[contract.LOGITS]['max_abs_diff']:.2g}" if plain else ""
    return Finding(
        f"logits within {row['max_abs_diff']:.2g} of the float64 network on {row['images']} images{told}; "
        f"{row['floor_of']} is {row['noise_floor']:.2g}, allowed is {NOISE_MULTIPLE} x that",
        found,
    )


def _excess(row: dict[str, Any]) -> str:
    return (
        f"{row['max_abs_diff']:.3g} ({row['worst_on']}), but at most {row['tolerance']:.3g} is allowed: "
        f"{NOISE_MULTIPLE} x {row['floor_of']}"
    )


def _where(subject: Subject, worst: int) -> str:
    """Say at which layer it begins, on the picture that shows it best and a few more."""
    images = np.concatenate(list(subject.parity_inputs.values()))[[worst, 0, 1, -1]]
    try:
        departure = first_departure(subject, images, NOISE_MULTIPLE)
    except Exception as error:  # the verdict stands without it
        return f"; where it begins could not be found: {' '.join(str(error).split())}"
    return f"; {departure}" if departure else "; every layer that can be told in the file is within its own tolerance"


def measure(subject: Subject) -> dict[str, dict[str, Any]]:
    """Return, for each output, the graph's largest error, the noise floor and the tolerance that follows from it.

    Of a float16 file, `READ_AS_FLOAT` holds the same for the file read as float32.
    """
    images = np.concatenate(list(subject.parity_inputs.values()))
    # The real ones stand in front, and have their answers from all of both: a large network is not run on them twice.
    real = len(subject.parity_inputs[REAL])
    graph = _behind(subject.graph_outputs, real, subject.run_graph(images[real:], OUTPUTS))
    exact = run_network(subject.double, images)
    words = "PyTorch's own float32 error"
    if subject.rounded is subject.network and subject.precision.dtype == "fp32":
        own = _behind(subject.network_outputs, real, run_network(subject.network, images[real:]))
        return _rows(subject, graph, exact, own, words)
    plain, rounded = subject.run_plain(images, OUTPUTS), run_network(subject.double_rounded, images)
    inner = _rows(subject, plain, rounded, run_network(subject.rounded, images), words)
    declared = run_network(subject.as_declared, images)
    rows = _rows(subject, graph, exact, declared, f"PyTorch's own error in {subject.precision}")
    return rows | {READ_AS_FLOAT: inner}


def _behind(known: Sequence[Floats], count: int, more: Sequence[Floats]) -> list[Floats]:
    """Return the first `count` rows of each output and, behind them, more."""
    return [np.concatenate([first[:count], rest]) for first, rest in zip(known, more, strict=True)]


def _rows(
    subject: Subject, graph: Sequence[Floats], exact: Sequence[Floats], own: Sequence[Floats], floor_of: str
) -> dict[str, dict[str, Any]]:
    groups = subject.parity_inputs
    owner = np.repeat(list(groups), [len(group) for group in groups.values()])
    rows: dict[str, dict[str, Any]] = {}
    for output, theirs, reference, ours in zip(OUTPUTS, graph, exact, own, strict=True):
        error = np.abs(theirs - reference)
        worst = int(np.nan_to_num(error, nan=np.inf).max(axis=1).argmax())
        # A network too small to err at all must still be granted the rounding of its result.
        rounding = float(np.finfo(np.float32).eps) / 2 * float(np.abs(reference).max())
        own_error = np.abs(ours - reference)
        floor = max(float(own_error.max()), rounding) if np.isfinite(own_error).all() else float("inf")
        rows[output] = {
            "max_abs_diff": float(error.max()) if np.isfinite(error).all() else float("inf"),
            "noise_floor": floor,
            "tolerance": NOISE_MULTIPLE * floor,
            "tolerance_on_real_images": NOISE_MULTIPLE * max(float(own_error[owner == REAL].max()), rounding),
            "worst_on": str(owner[worst]),
            "worst_image": worst,
            "images": len(owner),
            "floor_of": floor_of,
        }
    return rows


def parity_inputs(real: Pixels, network: nn.Module) -> dict[str, Pixels]:
    """Return the pictures that parity is measured on, by kind: real, random, dull ones that hide nothing, and ones that
    drive the network to its largest numbers."""
    random = np.random.default_rng(0).integers(0, 256, (RANDOM_IMAGES, 1, 28, 28), dtype=np.uint8)
    rows, columns = np.indices((28, 28))
    single = np.zeros((8, 28, 28), np.uint8)
    single[np.arange(8), [0, 0, 27, 27, 13, 14, 1, 20], [0, 27, 0, 27, 14, 13, 26, 5]] = 255
    boards = [np.where((rows // size + columns // size) % 2, 255, 0) for size in (1, 2, 4, 7)]
    ramps = [rows * 9, columns * 9, np.full((28, 28), 127)]
    dull = np.stack([np.zeros((28, 28)), np.full((28, 28), 255), *single, *boards, *ramps]).astype(np.uint8)
    groups = {REAL: real[:REAL_IMAGES], RANDOM: random, "dull images": dull[:, None]}
    return groups | ascended(network, real)


def ascended(network: nn.Module, real: Pixels) -> dict[str, Pixels]:
    """Push pictures up the gradient of each class's logit; {} for a network that only takes whole pixels."""
    pixels = torch.from_numpy(real[:1].copy()).float()
    try:
        with torch.no_grad():
            classes = network(pixels).shape[1]
        pixels = pixels.repeat(classes, 1, 1, 1)
        for _ in range(ASCENT_STEPS):
            pixels.requires_grad_(True)
            (slope,) = torch.autograd.grad(network(pixels).diagonal().sum(), pixels)
            pixels = (pixels.detach() + ASCENT_STEP * slope.sign()).clamp(0, 255)
    except RuntimeError:  # no gradient reaches the pixels, or floats are not taken
        return {}
    return {"images of the largest logits": pixels.round().to(torch.uint8).numpy()}
