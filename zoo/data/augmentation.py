"""Sample an epoch's order and augmentation: shifts, mirrors, mixed images and erased rectangles."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from zoo.recipes import Recipe

SIDE = 28
CLASSES = 10


@dataclass(frozen=True)
class Mix:
    """How much of another image each image takes in, place by place.

    Attributes:
        shares: float32 (N,), the part of the other's pixels and label.
        boxes: int64 (N, 4), the rectangle that is the other's (CutMix, Yun et al., 2019); None where all pixels are
            blended (mixup, Zhang et al., 2018).
    """

    shares: Tensor
    boxes: Tensor | None

    def blend(self, places: Tensor, own: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return images, uint8 (B, 28, 28), and shares of the classes, float32 (B, K), at these places of an epoch."""
        (images, labels), (others, their_labels) = own, other
        shares = self.shares[places]
        if self.boxes is not None:
            mixed = torch.where(inside(self.boxes[places]), others, images)
        else:
            mixed = torch.lerp(images.float(), others.float(), shares[:, None, None]).round().to(torch.uint8)
        classes = torch.arange(CLASSES, device=labels.device)
        mine, theirs = ((each[:, None] == classes).float() for each in (labels, their_labels))
        return mixed, torch.lerp(mine, theirs, shares[:, None])


@dataclass(frozen=True)
class EpochSample:
    """What chance decided for one epoch, place by place, on the device.

    Attributes:
        order: int64 (N,), the image that stands at each place.
        begins: int64 (N, 28), where each row that is shown begins in the whole store, counted in pixels; None where
            images are shown as they are.
        columns: int64 (N, 28), the columns that are shown, or None likewise.
        boxes: int64 (N, 4), the rectangle that is erased: top, bottom, left, right; None where nothing is.
        mix: what is taken in of other images; None where nothing is.
    """

    order: Tensor
    begins: Tensor | None = None
    columns: Tensor | None = None
    boxes: Tensor | None = None
    mix: Mix | None = None


def sample_epoch(recipe: Recipe, count: int, padded: int, generator: Generator, device: torch.device) -> EpochSample:
    """Sample the order and augmentation of an epoch, on the CPU, and move them to the device.

    Args:
        recipe: what is random.
        count: number of images.
        padded: side in pixels of the stored images, their border included.
        generator: the source of random numbers.
        device: where the result is used.
    """
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
        boxes = _boxes(centre, size).to(device)
    return EpochSample(order, begins, columns, boxes, _sample_mix(recipe, count, generator, device))


def _sample_mix(recipe: Recipe, count: int, generator: Generator, device: torch.device) -> Mix | None:
    if recipe.mixup:
        return Mix((torch.rand(count, generator=generator) * recipe.mixup).to(device), None)
    if recipe.cutmix:
        centre = torch.randint(0, SIDE, (count, 2), generator=generator)
        # A square whose area is uniform, as the method has it, and what of it lies inside the image.
        size = (torch.rand(count, 1, generator=generator).sqrt() * SIDE).round().long().expand(count, 2).clone()
        size[torch.rand(count, generator=generator) >= recipe.cutmix] = 0
        boxes = _boxes(centre, size).clamp(0, SIDE)
        top, bottom, left, right = boxes.unbind(1)
        return Mix(((bottom - top) * (right - left) / SIDE**2).to(device), boxes.to(device))
    return None


def _boxes(centre: Tensor, size: Tensor) -> Tensor:
    """Return (N, 4): top, bottom, left, right, of rectangles of `size` (N, 2) around `centre` (N, 2)."""
    low = centre - size // 2
    top, left = low.unbind(1)
    bottom, right = (low + size).unbind(1)
    return torch.stack([top, bottom, left, right], dim=1)


def inside(boxes: Tensor) -> Tensor:
    """Return the mask (B, 28, 28) of the pixels inside each box (B, 4)."""
    along = torch.arange(SIDE, device=boxes.device)
    top, bottom, left, right = boxes[:, :, None].unbind(1)
    rows = (along >= top) & (along < bottom)
    columns = (along >= left) & (along < right)
    return rows[:, :, None] & columns[:, None, :]
