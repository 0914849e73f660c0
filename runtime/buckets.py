"""The batch sizes that a GPU is prepared for, and how any number of pictures is cut and padded to them.

A prepared size costs memory and a capture, a padded picture costs time. Doubling keeps the padding under half of a
batch; below 8 pictures a GPU waits for launches and not for pictures, and above 1024 it is full.
"""

from __future__ import annotations

from collections.abc import Iterator

BUCKETS = (1, 8, 32, 64, 128, 256, 512, 1024)


def bucket_for(count: int) -> int:
    """Return the smallest bucket that holds `count` pictures, which is at most the largest bucket."""
    return next(bucket for bucket in BUCKETS if count <= bucket)


def pieces(count: int, batch_size: int) -> Iterator[tuple[slice, int]]:
    """Yield which of `count` pictures to run together, at most `batch_size`, and the bucket that they are padded to."""
    step = min(batch_size, BUCKETS[-1])
    for start in range(0, count, step):
        stop = min(start + step, count)
        yield slice(start, stop), bucket_for(stop - start)
