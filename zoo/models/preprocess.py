"""Preprocessing inside the network: from uint8 pixels to its input, in training, evaluation and the exported graph."""

import contextlib
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runtime.datasets.fashion_mnist import SIDE

# Mean and standard deviation of all pixels of the 60,000 training images, in pixel units (0 to 255).
TRAINING_MEAN, TRAINING_STD = 72.9404, 90.0212


class Preprocess(nn.Module):
    """Scale, normalise and resize: images: uint8 (N, 1, 28, 28) -> float (N, 1, S, S).

    `mean` and `std` are buffers in pixel units: they travel in every checkpoint, and `module.double()` turns the whole
    path, this one included, to float64. With `normalize=False` pixels become 0 to 1, as in D2L.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, size: int = SIDE, *, normalize: bool = True) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("mean", torch.tensor(TRAINING_MEAN if normalize else 0.0))
        self.register_buffer("std", torch.tensor(TRAINING_STD if normalize else 255.0))

    def forward(self, images: Tensor) -> Tensor:
        pixels = (images.to(self.mean.dtype) - self.mean) / self.std
        if self.size == SIDE:
            return pixels
        # The same bilinear rule as D2L's torchvision resize; enlarging needs no antialiasing.
        return F.interpolate(pixels, size=(self.size, self.size), mode="bilinear", align_corners=False)

    def extra_repr(self) -> str:
        return f"size={self.size}, mean={self.mean.item():.4f}, std={self.std.item():.4f}"


class ImageClassifier(nn.Module):
    """Preprocessing and a network, as one module: images: uint8 (N, 1, 28, 28) -> logits: float (N, K)."""

    def __init__(self, preprocess: Preprocess, network: nn.Module) -> None:
        super().__init__()
        self.preprocess = preprocess
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(self.preprocess(images))
        return logits

    @contextlib.contextmanager
    def at_image_size(self, size: int) -> Iterator[None]:
        """A context in which the network is shown images of `size` pixels a side instead of its own size.

        Only networks that pool their last maps, or resize them as `VGG` does, take images of another size.
        """
        own, self.preprocess.size = self.preprocess.size, size
        try:
            yield
        finally:
            self.preprocess.size = own
