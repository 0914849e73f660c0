"""Fashion-MNIST as tensors on the device: no DataLoader, no workers, no copies per step.

All 60,000 images are 47 MB as uint8, so the whole set sits beside the network, and a batch is one gather. Every random
choice of an epoch (the order, and what happens to each image) is drawn at its start from (seed, epoch) alone. That is
what makes a resumed run, a run in micro-batches and a run over several processes see exactly the same pictures.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from runtime.datasets import fashion_mnist
from zoo.data.augmentation import EpochSample, inside, sample_epoch
from zoo.recipes import Recipe

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


class Epochs:
    """Serves one data set epoch by epoch, shuffled and augmented as a recipe says."""

    def __init__(self, data: LabelledImages, recipe: Recipe, seed: int) -> None:
        self._recipe = recipe
        self._seed = seed
        self._labels = data.labels
        # The black border that shifted images show is stored once, so that a shift is only another index.
        self._padded = F.pad(data.images, (recipe.shift,) * 4)[:, 0]
        self._places = torch.arange(len(data), device=data.labels.device)

    def sample(self, epoch: int) -> EpochSample:
        """Sample the random choices of an epoch: a function of the seed and the epoch, the same on every device."""
        # Drawn on the CPU, whatever the device: the same pictures everywhere.
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + epoch)
        return sample_epoch(self._recipe, len(self._labels), self._padded.shape[-1], generator, self._labels.device)

    def batch(self, sample: EpochSample, chosen: slice) -> tuple[Tensor, Tensor]:
        """Return the images and labels at these places of an epoch: uint8 (B, 1, 28, 28), and int64 (B,).

        Where the recipe mixes images, labels are the shares of each class, float32 (B, K).
        """
        images, labels = self._show(sample, chosen)
        if sample.mix is not None:  # with the image at the next place: in a shuffled epoch, any other one
            places = self._places[chosen]
            others, their_labels = self._show(sample, (places + 1) % len(self._places))
            images, labels = sample.mix.blend(places, (images, labels), (others, their_labels))
        if sample.boxes is not None:
            images = images.masked_fill(inside(sample.boxes[chosen]), 0)
        return images[:, None], labels

    def _show(self, sample: EpochSample, chosen: slice | Tensor) -> tuple[Tensor, Tensor]:
        """Return images, uint8 (B, 28, 28), shifted and mirrored, and their labels."""
        picked = sample.order[chosen]
        if sample.begins is None or sample.columns is None:
            return self._padded[picked], self._labels[picked]
        # Gather, shift and flip in one go; `take` needs half the time of three index tensors.
        images = self._padded.take(sample.begins[chosen][:, :, None] + sample.columns[chosen][:, None, :])
        return images, self._labels[picked]
