"""Check: any number of images gives what each of them gives alone. Exporters freeze the batch without saying so.

Structured and extreme pictures are mixed with real ones. Real images alone would hide an operation across the batch:
all have a black pixel, for example. All are run together, in another order, and in batches of other sizes.
"""

import numpy as np

from export.verification.context import CheckFailed, CheckResult, VerificationContext
from export.verification.evidence import REAL, Floats, Pixels
from runtime.model.metadata import LOGITS
from runtime.model.spec import INPUT

SIZES, COSTLY_SIZES = (1, 2, 7, 64), (1, 2, 3, 8)
FLOPS = 4e11  # of all that the check runs


def batch(context: VerificationContext) -> CheckResult:
    _require_a_batch_in_every_value(context)
    others = [pictures for kind, pictures in context.parity_inputs.items() if kind != REAL]
    mixed = np.concatenate([*(pictures[:17] for pictures in others), context.images[: max(SIZES)]])
    sizes = SIZES if context.cost[0] * max(SIZES) * (len(SIZES) + 1) <= FLOPS else COSTLY_SIZES
    images = np.resize(mixed, (max(sizes), *mixed.shape[1:]))
    together = _run(context, images)
    tolerance, worst = context.tolerance[LOGITS], 0.0
    for size in sizes[:-1]:
        parts = [_run(context, images[start : start + size]) for start in range(0, len(images), size)]
        worst = max(worst, _difference(np.concatenate(parts), together, f"in batches of {size}", tolerance))
    order = np.random.default_rng(0).permutation(len(images))
    worst = max(worst, _difference(_run(context, images[order]), together[order], "in another order", tolerance))
    return CheckResult(
        f"batches of {', '.join(map(str, sizes))} in any order give each image the same logits within {worst:.2g}",
        {"max_abs_diff": worst},
    )


def _difference(found: Floats, together: Floats, how: str, tolerance: float) -> float:
    difference = float(np.abs(found - together).max())
    if not difference <= tolerance:
        raise CheckFailed(
            f"{how} the logits of an image differ by {difference:.3g} from those in a batch of {len(together)}, more "
            f"than {tolerance:.3g}: images of a batch influence each other"
        )
    return difference


def _require_a_batch_in_every_value(context: VerificationContext) -> None:
    """Refuse a value that is computed from pixels and has one size for any number of images."""
    for name, shape in context.examination.shapes.items():
        if name in context.of_images and 0 not in shape and not any(isinstance(size, str) for size in shape):
            raise CheckFailed(f"{name!r} is {list(shape)} for any number of images: all of them have a part in it")


def _run(context: VerificationContext, images: Pixels) -> Floats:
    try:
        (logits,) = context.session.run([LOGITS], {INPUT: images})
    except Exception as error:  # onnxruntime's errors share no base class
        raise CheckFailed(f"a batch of {len(images)} fails: {' '.join(str(error).split())}") from error
    if logits.ndim != 2 or len(logits) != len(images):
        raise CheckFailed(f"a batch of {len(images)} should give as many rows of logits, but gives {logits.shape}")
    return logits  # type: ignore[no-any-return]
