"""Pictures in, predictions out, in order: decoding and ranking around whatever turns pixels into probabilities."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

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
    """Yield one answer a source; a picture that cannot be read yields its ImageError, or raises it after those before.

    Args:
        probabilities: uint8 (N, 1, 28, 28) -> float32 (N, K), for N of 1 to `batch_size`.
        labels: the K class names.
        decoders: threads that may decode.
        spare: whether `probabilities` leaves a core to them.
    """

    def decode(sources: Sequence[Source]) -> list[Pixels | ImageError]:
        return to_pixels_together(sources, invert=invert, fit=fit)

    batches = decoded_batches(sources, batch_size, decode, decoders, spare=spare)
    for batch in batches:
        error = None if return_errors else next((answer for answer in batch if isinstance(answer, ImageError)), None)
        if error is not None:
            batch = batch[: batch.index(error)]
        arrays = [answer.array for answer in batch if not isinstance(answer, ImageError)]
        rows = iter(probabilities(np.stack(arrays)[:, None]) if arrays else ())
        for answer in batch:
            if isinstance(answer, ImageError):
                yield answer
            else:
                yield ranked(labels, next(rows), answer.inverted, topk)
        if error is not None:
            batches.throw(error)  # which raises it again, once no thread reads a source any more
