"""Progressive resizing: a run begins with small images, which cost little, and ends at the network's own side.

What a convolutional network learns from small images holds, for the most part, for larger ones: progressive resizing
(Howard and Gugger, 2020, chapter 7), whose reason Touvron et al., Fixing the train-test resolution discrepancy, 2019,
explain. On two cores, ResNet-18 takes in 5.6 times as many images a second at 32 pixels as at 96.
"""

import contextlib

import torch
from torch import nn

from runtime.errors import UsageError
from zoo.models.preprocess import ImageClassifier
from zoo.recipes import Recipe


class ProgressiveResizing:
    """Gives a model's images, epoch by epoch, the image size that the recipe gives for the epoch.

    Args:
        model: enlarges its images itself, to the side that its weights will be used with.
        recipe: where it names no `sides`, all of this does nothing.

    Raises:
        UsageError: the network takes images of one side only, or does not enlarge them itself.
    """

    def __init__(self, model: nn.Module, recipe: Recipe) -> None:
        self._recipe = recipe
        self._model = model
        for side in sorted(set(recipe.sides)):
            try:
                with self._of(side), torch.inference_mode():
                    _try(model)
            except (RuntimeError, ValueError) as error:
                reason = " ".join(str(error).split())[:200]
                raise UsageError(
                    f"recipe {recipe.name!r} shows images of {side} pixels, and this network does not take them "
                    f"({reason}): choose another --recipe"
                ) from error

    def at(self, epoch: int) -> int | None:
        """Return the side in epoch `epoch`, from 0; None for the network's own throughout."""
        return self._recipe.side_at(epoch)

    def shown(self, epoch: int) -> contextlib.AbstractContextManager[None]:
        """A context in which the model sees images as epoch `epoch` wants them."""
        side = self.at(epoch)
        return contextlib.nullcontext() if side is None else self._of(side)

    def _of(self, side: int) -> contextlib.AbstractContextManager[None]:
        if not isinstance(self._model, ImageClassifier):
            raise ValueError("it does not enlarge images itself")
        return self._model.at_image_size(side)


def _try(model: nn.Module) -> None:
    """Have a model answer one black image, and leave no trace of it."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        model(torch.zeros(1, 1, 28, 28, dtype=torch.uint8, device=device))
    finally:
        model.train(was_training)
