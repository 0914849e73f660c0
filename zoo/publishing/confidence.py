"""Fit the confidence of a trained network: its temperature and the threshold of its score. No test image is used.

It takes images that the network was not trained on, or the nearest thing to them:

1. `validation`: of a run with `--val-split`, the 10,000 training images that it held out.
2. `training, moved`: of a run on all 60,000 images, the last 10,000 of them, each turned, scaled and shifted a little
   at random. They stand in for new images: the network has not seen these pixels, but has seen the garment, so that the
   temperature comes out somewhat low. It needs no training, where another one would take hours. The classes' means and
   covariances in the score are those of the same images as they are.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from export.confidence import fit_confidence
from runtime.model.confidence import Confidence
from zoo.data.dataset import LabelledImages, load_split
from zoo.runs.trained import Trained
from zoo.training.evaluation import evaluate

# The greatest motion, each drawn uniformly: degrees, share of the size, pixels.
TURN, SCALE, SHIFT = 5.0, 0.1, 1.0


def fit(trained: Trained) -> Confidence:
    """Return the confidence of a network; of images as the module's docstring has it."""
    data = load_split("validation", next(trained.network.parameters()).device)
    still, labels = evaluate(trained.network, data).logits.numpy(), data.labels.cpu().numpy()
    if trained.checkpoint.header.get("val_split"):
        return fit_confidence(still, labels, split="validation")
    answers = evaluate(trained.network, moved(data)).logits.numpy()
    return fit_confidence(answers, labels, split="training, moved", clusters=still)


def moved(data: LabelledImages) -> LabelledImages:
    """Turn, scale and shift each image at random, every time the same way; black comes in from outside."""
    generator = torch.Generator().manual_seed(0)
    turn, scale, x, y = (2 * torch.rand((4, len(data)), generator=generator) - 1).unbind()
    angle, factor, side = torch.deg2rad(TURN * turn), 1 + SCALE * scale, data.images.shape[-1]
    cos, sin = angle.cos() / factor, angle.sin() / factor
    # Affine grids have -1 to 1 over the image.
    rows = [torch.stack([cos, -sin, 2 * SHIFT * x / side], 1), torch.stack([sin, cos, 2 * SHIFT * y / side], 1)]
    grids = torch.stack(rows, 1).to(data.images.device)
    parts = max(1, math.ceil(len(data) / 1000))
    images = [_resampled(*part) for part in zip(data.images.chunk(parts), grids.chunk(parts), strict=True)]
    return LabelledImages(torch.cat(images), data.labels)


def _resampled(images: Tensor, grids: Tensor) -> Tensor:
    grid = F.affine_grid(grids, list(images.shape), align_corners=False)
    return F.grid_sample(images.float(), grid, align_corners=False).round().to(torch.uint8)
