"""Fashion-MNIST as tensors that live on the device: no DataLoader, no workers, no copies per step.

All 60,000 images are 47 MB as uint8, so the whole set sits beside the network, and a batch is one gather. Every random
choice of an epoch (the order, and what happens to each image) is drawn at its start from (seed, epoch) alone. That is
what makes a resumed run, a run in micro-batches and a run over several processes see exactly the same pictures.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from runtime import fashion_mnist
from zoo.distributed import ALONE, World
from zoo.recipes import Recipe

SIDE = 28
# The published validation split: the last 10,000 training images. The file is already shuffled (every class has
# 955 to 1,050 images there), so a fixed cut is as good as a random one and needs no seed to reproduce.
VALIDATION_IMAGES = 10_000


@dataclass(frozen=True)
class LabelledImages:
    """images: uint8 (N, 1, 28, 28); labels: int64 (N,); both on one device."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> "LabelledImages":
        return LabelledImages(self.images.to(device), self.labels.to(device))

    def __getitem__(self, rows: slice) -> "LabelledImages":
        return LabelledImages(self.images[rows], self.labels[rows])


def load_split(split: str, device: torch.device | None = None) -> LabelledImages:
    """Load `train` (60,000), `test` (10,000), `fit` (the first 50,000 of train) or `validation` (its last 10,000).

    Raises:
        DatasetError: the files are missing or not the clean release.
    """
    images, labels = fashion_mnist.load("test" if split == "test" else "train")
    data = LabelledImages(torch.from_numpy(images), torch.from_numpy(labels).long())
    if split == "fit":
        data = data[slice(None, -VALIDATION_IMAGES)]
    elif split == "validation":
        data = data[slice(-VALIDATION_IMAGES, None)]
    return data.to(device) if device else data


@dataclass(frozen=True)
class Draw:
    """What chance decided for one epoch, place by place, on the device.

    Attributes:
        order: int64 (N,), the image that stands at each place.
        begins: int64 (N, 28), where each row that is shown begins in the whole store, counted in pixels; None where
            images are shown as they are.
        columns: int64 (N, 28), the columns that are shown, or None likewise.
        boxes: int64 (N, 4), the rectangle that is erased: top, bottom, left, right; None where nothing is.
    """

    order: Tensor
    begins: Tensor | None
    columns: Tensor | None
    boxes: Tensor | None

    def replace_by(self, other: "Draw") -> None:
        """Overwrite these tensors by those of another epoch of the same recipe, in place."""
        for field in dataclasses.fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if mine is not None:
                mine.copy_(theirs)


class Epochs:
    """Serves one data set epoch by epoch, shuffled and augmented as a recipe says.

    Of each batch it yields this process's share: all of it, unless `world` has several processes.
    """

    def __init__(self, data: LabelledImages, recipe: Recipe, seed: int, world: World = ALONE) -> None:
        self._recipe = recipe
        self._seed = seed
        self._world = world
        self._labels = data.labels
        # The black border that shifted images show is stored once, so that a shift is only another index.
        self._padded = F.pad(data.images, (recipe.shift,) * 4)[:, 0]

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (images: uint8 (B, 1, 28, 28), labels: int64 (B,)) over one epoch; the last batch may be smaller."""
        draw = self.draw(epoch)
        count, size = len(self._labels), self._recipe.batch_size
        for start in range(0, count, size):
            yield self.batch(draw, self._world.share(start, min(start + size, count)))

    def draw(self, epoch: int) -> "Draw":
        """Let chance decide an epoch: a function of the seed and the epoch, the same on every device."""
        device = self._labels.device
        count = len(self._labels)
        # Drawn on the CPU, whatever the device: the same pictures everywhere.
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + epoch)
        order = torch.randperm(count, generator=generator).to(device)
        rows, columns = self._draw_windows(count, generator)
        boxes = self._draw_boxes(count, generator)
        begins = None
        if rows is not None:
            side = self._padded.shape[-1]
            begins = order[:, None] * (side * side) + rows * side
        return Draw(order, begins, columns, boxes)

    def batch(self, draw: "Draw", chosen: slice | Tensor) -> tuple[Tensor, Tensor]:
        """Return the images, uint8 (B, 1, 28, 28), and labels, int64 (B,), at these places of an epoch.

        With places on the device, int64 (B,), nothing here waits for it, so that a CUDA graph can hold this too.
        """
        picked = draw.order[chosen]
        if draw.begins is None or draw.columns is None:
            images = self._padded[picked]
        else:  # gather, shift and flip in one go; `take` needs half the time of three index tensors
            images = self._padded.take(draw.begins[chosen][:, :, None] + draw.columns[chosen][:, None, :])
        if draw.boxes is not None:
            images = images.masked_fill(_inside(draw.boxes[chosen]), 0)
        return images[:, None], self._labels[picked]

    def _draw_windows(self, count: int, generator: torch.Generator) -> tuple[Tensor | None, Tensor | None]:
        """Return the padded rows (N, 28) and columns (N, 28) that each image of the epoch shows, or None for all."""
        shift, device = self._recipe.shift, self._labels.device
        if not (shift or self._recipe.flip):
            return None, None
        top, left = torch.randint(0, 2 * shift + 1, (2, count, 1), generator=generator).to(device)
        mirrored = (torch.rand(count, 1, generator=generator) < (0.5 if self._recipe.flip else 0.0)).to(device)
        along = torch.arange(SIDE, device=device)
        return along + top, torch.where(mirrored, SIDE - 1 - along, along) + left

    def _draw_boxes(self, count: int, generator: torch.Generator) -> Tensor | None:
        """Return the erased rectangles (N, 4) as top, bottom, left, right; empty ones for images left whole."""
        if not self._recipe.erase:
            return None
        centre = torch.randint(0, SIDE, (count, 2), generator=generator)
        size = torch.randint(2, 11, (count, 2), generator=generator)
        size[torch.rand(count, generator=generator) >= self._recipe.erase] = 0
        low = centre - size // 2
        top, left = low.unbind(1)
        bottom, right = (low + size).unbind(1)
        return torch.stack([top, bottom, left, right], dim=1).to(self._labels.device)


def _inside(boxes: Tensor) -> Tensor:
    """Return the mask (B, 28, 28) of the pixels inside each box (B, 4)."""
    along = torch.arange(SIDE, device=boxes.device)
    top, bottom, left, right = boxes[:, :, None].unbind(1)
    rows = (along >= top) & (along < bottom)
    columns = (along >= left) & (along < right)
    return rows[:, :, None] & columns[:, None, :]
