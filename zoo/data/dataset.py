"""Fashion-MNIST as tensors on the device: no DataLoader, no workers, no copies per step.

All 60,000 images are 47 MB as uint8, so the whole set is kept on the device, and a batch is one gather. Every random
choice of an epoch (order and augmentation) is sampled at its start from (seed, epoch) alone. So a resumed run, a run in
micro-batches and a run over several processes see the same pictures as an unbroken run in one process.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from runtime.datasets import fashion_mnist
from zoo.data.augmentation import EpochSample, inside, sample_epoch
from zoo.recipes import Recipe

# The validation split is the last 10,000 training images. The file is already shuffled (each class has 955 to 1,050
# images there), so a fixed split is as good as a random one, and needs no seed.
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
        data = data[:-VALIDATION_IMAGES]
    elif split == "validation":
        data = data[-VALIDATION_IMAGES:]
    return data.to(device) if device else data


class Epochs:
    """The batches of a data set, shuffled and augmented as a recipe says."""

    def __init__(self, data: LabelledImages, recipe: Recipe, seed: int) -> None:
        self._recipe = recipe
        self._seed = seed
        self._labels = data.labels
        # With a black border, a shift is only another index.
        self._padded = F.pad(data.images, (recipe.shift,) * 4)[:, 0]

    def sample(self, epoch: int) -> EpochSample:
        """Sample the random choices of an epoch: a function of the seed and the epoch, the same on every device."""
        # On the CPU, since generators of other devices give other numbers.
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + epoch)
        return sample_epoch(self._recipe, len(self._labels), self._padded.shape[-1], generator, self._labels.device)

    def batch(self, sample: EpochSample, chosen: slice) -> tuple[Tensor, Tensor]:
        """Return the images and labels at these positions of an epoch: uint8 (B, 1, 28, 28), and int64 (B,)."""
        picked = sample.order[chosen]
        if sample.begins is None or sample.columns is None:
            images = self._padded[picked]
        else:  # gather, shift and flip at once; `take` needs half the time of three index tensors
            images = self._padded.take(sample.begins[chosen][:, :, None] + sample.columns[chosen][:, None, :])
        if sample.boxes is not None:
            images = images.masked_fill(inside(sample.boxes[chosen]), 0)
        return images[:, None], self._labels[picked]
