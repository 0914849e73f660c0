"""Pictures in, predictions out, in order: decoding and ranking around whatever turns pixels into probabilities."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from runtime.contract import SIDE
from runtime.decoding import Source
from runtime.errors import ImageError
from runtime.images import Fit, Invert, Pixels, to_pixels_together
from runtime.overlap import decoded_batches
from runtime.prediction import Prediction, ranked


def answers(
    sources: Iterator[Source],
    probabilities: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]],
    labels: Sequence[str],
    *,
    batch_size: int,
    topk: int,
    invert: Invert,
    fit: Fit,
    return_errors: bool,
    decoders: int,
    spare: bool,
) -> Iterator[Prediction | ImageError]:
    """Yield one answer a source; a picture that cannot be read yields its ImageError, or raises it.

    Args:
        probabilities: uint8 (N, 1, 28, 28) -> float32 (N, K), for N of 0 to `batch_size`.
        labels: the K class names.
        decoders: threads that may decode.
        spare: whether `probabilities` leaves a core to them.
    """

    def decode(sources: Sequence[Source]) -> list[Pixels | ImageError]:
        return to_pixels_together(sources, invert=invert, fit=fit)

    batches = decoded_batches(sources, batch_size, decode, decoders, spare=spare)
    for batch in batches:
        seen: list[Pixels] = []
        for answer in batch:
            if not isinstance(answer, ImageError):
                seen.append(answer)
            elif not return_errors:
                batches.throw(answer)  # which raises it again, once no thread reads a source any more
        arrays = [picture.array for picture in seen]
        rows = iter(probabilities(np.stack(arrays)[:, None] if arrays else np.empty((0, 1, SIDE, SIDE), np.uint8)))
        for answer in batch:
            if isinstance(answer, ImageError):
                yield answer
            else:
                yield ranked(labels, next(rows), answer.inverted, topk)
