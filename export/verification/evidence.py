"""What parity is measured on and how: the pictures, the errors against float64, and the tolerance that follows.

The reference is the network in float64. PyTorch's own float32 error against it, on the same inputs, is the noise floor
that no float32 implementation can be asked to beat; the graph's error may be at most `NOISE_MULTIPLE` times that.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from runtime.model import spec

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[Any]
# Another order of summation gives another error of the same size; its maximum over some 10,000 numbers varies by a
# small factor from one order to the next. Eight leaves room for that and for nothing else: a weight changed by 1 %, or
# a product rounded to TF32, is hundreds of times the floor.
NOISE_MULTIPLE = 8
# Rounding to integers is coarse, so its largest error hardly depends on the order of sums: another engine may round in
# other blocks, or not at all.
QUANTIZED_MULTIPLE = 2
REAL_IMAGES = 256
RANDOM_IMAGES = 64
ASCENT_STEPS, ASCENT_STEP = 6, 40  # from any picture, every pixel can reach black or white
ASCENT_CLASSES = 16  # at most; of a thousand, the first
REAL, RANDOM, OUTPUTS = "real images", "random pixels", (spec.LOGITS, spec.PROBABILITIES)


def parity_inputs(real: Pixels, network: nn.Module) -> dict[str, Pixels]:
    """Return the pictures that parity is measured on, by kind: real, random, structured ones that hide nothing, and
    ones that drive the network to its largest numbers."""
    random = np.random.default_rng(0).integers(0, 256, (RANDOM_IMAGES, 1, 28, 28), dtype=np.uint8)
    rows, columns = np.indices((28, 28))
    single = np.zeros((8, 28, 28), np.uint8)
    single[np.arange(8), [0, 0, 27, 27, 13, 14, 1, 20], [0, 27, 0, 27, 14, 13, 26, 5]] = 255
    boards = [np.where((rows // size + columns // size) % 2, 255, 0) for size in (1, 2, 4, 7)]
    ramps = [rows * 9, columns * 9, np.full((28, 28), 127)]
    structured = np.stack([np.zeros((28, 28)), np.full((28, 28), 255), *single, *boards, *ramps]).astype(np.uint8)
    groups = {REAL: real[:REAL_IMAGES], RANDOM: random, "structured images": structured[:, None]}
    return groups | ascended(network, real)


def ascended(network: nn.Module, real: Pixels) -> dict[str, Pixels]:
    """Push pictures up the gradient of each class's logit; {} for a network that only takes whole pixels."""
    pixels = torch.from_numpy(real[:1].copy()).float()
    try:
        with torch.no_grad():
            classes = min(network(pixels).shape[1], ASCENT_CLASSES)
        pixels = pixels.repeat(classes, 1, 1, 1)
        for _ in range(ASCENT_STEPS):
            pixels.requires_grad_(True)
            (slope,) = torch.autograd.grad(network(pixels).diagonal().sum(), pixels)
            pixels = (pixels.detach() + ASCENT_STEP * slope.sign()).clamp(0, 255)
    except RuntimeError:  # no gradient reaches the pixels, or floats are not taken
        return {}
    return {"images of the largest logits": pixels.round().to(torch.uint8).numpy()}


def parity_rows(
    groups: dict[str, Pixels],
    graph: Sequence[Floats],
    exact: Sequence[Floats],
    own: Sequence[Floats],
    floor_of: str,
    multiple: int = NOISE_MULTIPLE,
) -> dict[str, dict[str, Any]]:
    """Return, for each output, the graph's largest error, the noise floor and the tolerance that follows from it.

    Args:
        groups: the pictures by kind, one behind the other.
        graph, exact, own: logits and probabilities of the file, of the float64 network, and of PyTorch in the file's
            precision, each (N, K).
        floor_of: whose error the noise floor is, in words.
        multiple: of the noise floor, is allowed.
    """
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
            "tolerance": multiple * floor,
            "tolerance_on_real_images": multiple * max(float(own_error[owner == REAL].max()), rounding),
            "worst_on": str(owner[worst]),
            "worst_image": worst,
            "images": len(owner),
            "floor_of": floor_of,
            "multiple": multiple,
        }
    return rows
