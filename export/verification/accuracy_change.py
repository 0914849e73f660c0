"""Whether rounding changed a network's accuracy: McNemar's test on the same images, before and after."""

import math
from dataclasses import dataclass

SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class AccuracyChange:
    """Among `n` labelled pictures `flips` got another class; `lost` of these were right before, `gained` are now."""

    n: int
    flips: int
    lost: int
    gained: int

    @property
    def p_value(self) -> float:
        """McNemar's exact test: how likely a coin that is fair splits the pictures so unevenly, or more.

        McNemar, Note on the sampling error of the difference between correlated proportions or percentages, 1947. Of
        two classifiers on the same pictures, only those count that exactly one of them gets right.
        """
        count = self.lost + self.gained
        tail = sum(math.comb(count, k) for k in range(min(self.lost, self.gained) + 1))
        return min(1.0, 2 * tail / float(2**count))

    @property
    def is_loss(self) -> bool:
        """Whether more was lost than chance explains."""
        return self.lost > self.gained and self.p_value < SIGNIFICANCE

    def __str__(self) -> str:
        flips = f"{self.flips} of {self.n:,} decisions differ from the float32 network's"
        return f"{flips}, {self.lost} lost, {self.gained} gained"
