"""What parity is measured on and how: the pictures, the errors against float64, and the tolerance that follows.

The reference is the network in float64. Two float32 errors against it, on the same inputs, make the noise floor: that
of PyTorch, and that of the network with a random error of sqrt(n) roundings in each sum of n terms (`perturbed` of
`export.analysis.references`). The first alone would bind every kernel to the order in which PyTorch adds. The graph's
error may be at most `NOISE_MULTIPLE` times the floor.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from runtime.model.metadata import LOGITS, PROBABILITIES
from runtime.model.spec import FASHION_MNIST, InputSpec

Pixels = npt.NDArray[Any]  # as the `InputSpec` says
Floats = npt.NDArray[Any]
# Another order of summation gives another error of the same size; its maximum over some 10,000 numbers varies by a
# small factor from one order to the next. Eight leaves room for that and for nothing else: a weight changed by 1 %, or
# a product rounded to TF32, is hundreds of times the floor.
NOISE_MULTIPLE = 8
SUMS_SHARE = 0.25  # of the error of the perturbed sums in the floor: twice what they err by is allowed
# Rounding to integers is coarse, so its largest error hardly depends on the order of sums: another engine may round in
# other blocks, or not at all.
QUANTIZED_MULTIPLE = 2
REAL_IMAGES = 256
RANDOM_IMAGES = 64
FLOPS = 4e11  # of all pictures of parity in one pass: a minute of float64 on two cores
LEAST_IMAGES = 8  # of a kind, however costly the network; of the ascended ones a quarter
# A step is a part of the range: from any picture, every pixel can reach black or white.
ASCENT_STEPS, ASCENT_STEP = 6, 40 / 255
ASCENT_CLASSES = 16  # at most; of a thousand, the first
REAL, RANDOM, OUTPUTS = "real images", "random pixels", (LOGITS, PROBABILITIES)


def parity_inputs(
    real: Pixels, network: nn.Module, input: InputSpec = FASHION_MNIST, flops: float = 0
) -> dict[str, Pixels]:
    """Return the pictures that parity is measured on, by kind: real, random, structured ones that hide nothing, and
    ones that drive the network to its largest numbers; fewer of each where `flops`, of one image, are many."""
    structured = input.structured()
    share = min(1.0, FLOPS / flops / (REAL_IMAGES + RANDOM_IMAGES + len(structured) + ASCENT_CLASSES)) if flops else 1.0
    count = {
        kind: max(LEAST_IMAGES, int(most * share)) for kind, most in ((REAL, REAL_IMAGES), (RANDOM, RANDOM_IMAGES))
    }
    kept = np.linspace(0, len(structured) - 1, max(LEAST_IMAGES, int(len(structured) * share))).astype(int)
    groups = {
        REAL: real[: count[REAL]],
        RANDOM: input.random(count[RANDOM]),
        "structured images": structured[kept],
    }
    return groups | ascended(network, real, input, max(LEAST_IMAGES // 4, int(ASCENT_CLASSES * share)))


def ascended(
    network: nn.Module, real: Pixels, input: InputSpec = FASHION_MNIST, most: int = ASCENT_CLASSES
) -> dict[str, Pixels]:
    """Push pictures up the gradient of each class's logit; {} for a network that only takes whole pixels."""
    pixels = torch.from_numpy(real[:1].copy()).float()
    (low, high), step = input.range, ASCENT_STEP * (input.range[1] - input.range[0])
    try:
        with torch.no_grad():
            classes = min(network(pixels).shape[1], most)
        pixels = pixels.repeat(classes, 1, 1, 1)
        for _ in range(ASCENT_STEPS):
            pixels.requires_grad_(True)
            (slope,) = torch.autograd.grad(network(pixels).diagonal().sum(), pixels)
            pixels = (pixels.detach() + step * slope.sign()).clamp(low, high)
    except RuntimeError:  # no gradient reaches the pixels, or floats are not taken
        return {}
    whole = pixels.round() if input.dtype == np.uint8 else pixels
    return {"images of the largest logits": whole.numpy().astype(input.dtype)}


def parity_rows(
    groups: dict[str, Pixels],
    graph: Sequence[Floats],
    exact: Sequence[Floats],
    own: Sequence[Floats],
    floor_of: str,
    perturbed: Sequence[Floats] | None = None,
    multiple: int = NOISE_MULTIPLE,
) -> dict[str, dict[str, Any]]:
    """Return, for each output, the graph's largest error, the noise floor and the tolerance that follows from it.

    Args:
        groups: the pictures by kind, one behind the other.
        graph, exact, own: logits and probabilities of the file, of the float64 network, and of PyTorch in the file's
            precision, each (N, K).
        floor_of: whose error the noise floor is, in words.
        perturbed: the same of PyTorch with sums as inexact as any float32 kernel's.
        multiple: of the noise floor, is allowed.
    """
    owner = np.repeat(list(groups), [len(group) for group in groups.values()])
    rows: dict[str, dict[str, Any]] = {}
    for number, (output, theirs, reference, ours) in enumerate(zip(OUTPUTS, graph, exact, own, strict=True)):
        error = np.abs(theirs - reference)
        worst = int(np.nan_to_num(error, nan=np.inf).max(axis=1).argmax())
        # A network too small to err at all must still be granted the rounding of its result.
        rounding = float(np.finfo(np.float32).eps) / 2 * float(np.abs(reference).max())
        own_error = np.abs(ours - reference)
        errors = own_error
        if perturbed is not None:
            errors = np.maximum(own_error, SUMS_SHARE * np.abs(perturbed[number] - reference))
        floor = max(float(errors.max()), rounding) if np.isfinite(own_error).all() else float("inf")
        rows[output] = {
            "max_abs_diff": float(error.max()) if np.isfinite(error).all() else float("inf"),
            "noise_floor": floor,
            "tolerance": multiple * floor,
            "tolerance_on_real_images": multiple * max(float(errors[owner == REAL].max()), rounding),
            "own_error": float(own_error.max()),
            "worst_on": str(owner[worst]),
            "worst_image": worst,
            "images": len(owner),
            "floor_of": floor_of,
            "multiple": multiple,
        }
    return rows
