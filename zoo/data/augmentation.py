"""Sample an epoch's order and augmentation: shifts, mirrors and erased rectangles."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from runtime.datasets.fashion_mnist import SIDE
from zoo.recipes import Recipe


@dataclass(frozen=True)
class EpochSample:
    """The random choices of one epoch, on the device. Rows are positions in the epoch.

    Attributes:
        order: int64 (N,), the index of the image at each position.
        begins: int64 (N, 28), where each row of the window begins, as an index into all padded images as one array;
            None where images are neither shifted nor mirrored.
        columns: int64 (N, 28), the columns of the window; None likewise.
        boxes: int64 (N, 2, 2), the rectangle that is erased: its first row and column, and those after its last; None
            where nothing is erased.
    """

    order: Tensor
    begins: Tensor | None = None
    columns: Tensor | None = None
    boxes: Tensor | None = None


def sample_epoch(recipe: Recipe, count: int, padded: int, generator: Generator, device: torch.device) -> EpochSample:
    """Sample the order and augmentation of an epoch of `count` images, `padded` pixels a side with their border, on the
    CPU, and move them to the device."""
    order = torch.randperm(count, generator=generator).to(device)
    begins = columns = None
    if recipe.shift or recipe.flip:
        top, left = torch.randint(0, 2 * recipe.shift + 1, (2, count, 1), generator=generator).to(device)
        mirrored = (torch.rand(count, 1, generator=generator) < (0.5 if recipe.flip else 0.0)).to(device)
        along = torch.arange(SIDE, device=device)
        begins = order[:, None] * (padded * padded) + (along + top) * padded
        columns = torch.where(mirrored, SIDE - 1 - along, along) + left
    boxes = None
    if recipe.erase:
        centre = torch.randint(0, SIDE, (count, 2), generator=generator)
        size = torch.randint(2, recipe.erase_side + 1, (count, 2), generator=generator)
        size[torch.rand(count, generator=generator) >= recipe.erase] = 0
        low = centre - size // 2
        boxes = torch.stack([low, low + size], dim=1).to(device)
    return EpochSample(order, begins, columns, boxes)


def inside(boxes: Tensor) -> Tensor:
    """Return the mask (B, 28, 28) of the pixels inside each box (B, 2, 2) of `EpochSample`."""
    along = torch.arange(SIDE, device=boxes.device)
    low, high = boxes[..., None].unbind(1)
    rows, columns = ((along >= low) & (along < high)).unbind(1)
    return rows[:, :, None] & columns[:, None, :]
