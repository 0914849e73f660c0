"""How much of the server is in use: pictures accepted and not yet answered, and bytes of bodies held."""

from __future__ import annotations

from typing import Self

from runtime.serving.limits import Limits
from runtime.serving.refusal import Refusal


class Admission:
    """Counts what is held, and refuses what is over the limits. Belongs to the event loop's thread.

    Attributes:
        pictures: accepted and not yet answered.
        held: bytes of their bodies.
    """

    def __init__(self, limits: Limits) -> None:
        self._max_pictures, self._max_held = limits.max_queue, limits.max_held
        self.pictures = 0
        self.held = 0

    def admit(self, pictures: int) -> None:
        """Give places in the queue.

        Raises:
            Refusal: 503, there are not as many left.
        """
        if self.pictures + pictures > self._max_pictures:
            raise Refusal(
                503,
                f"the queue is full: {self.pictures} pictures wait, at most {self._max_pictures} may; try again",
            )
        self.pictures += pictures

    def hold(self, size: int) -> None:
        """Count `size` more bytes.

        Raises:
            Refusal: 503, too many are held already.
        """
        if self.held + size > self._max_held:
            raise Refusal(503, f"the server holds {self.held} bytes of other requests, and has no room; try again")
        self.held += size


class Share:
    """What one request holds of an admission; as a context manager it gives all back at the end."""

    __slots__ = ("_admission", "_held", "_pictures")

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._held = self._pictures = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._admission.held -= self._held
        self._admission.pictures -= self._pictures

    def admit(self, pictures: int) -> None:
        """Take places in the queue. Raises as `Admission.admit`."""
        self._admission.admit(pictures)
        self._pictures += pictures

    def hold(self, size: int) -> None:
        """Hold `size` more bytes. Raises as `Admission.hold`."""
        self._admission.hold(size)
        self._held += size
