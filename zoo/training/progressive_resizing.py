"""Progressive resizing: a run begins with small images, which cost little, and ends at the network's own image size.

What a convolutional network learns from small images holds, for the most part, for larger ones: progressive resizing
(Howard and Gugger, 2020, chapter 7), whose reason Touvron et al., Fixing the train-test resolution discrepancy, 2019,
explain. On two cores, ResNet-18 takes in 5.6 times as many images a second at 32 pixels as at 96.
"""

import torch

from runtime.errors import UsageError
from runtime.model.spec import FASHION_MNIST
from zoo.models.preprocess import ImageClassifier
from zoo.recipes import Recipe


def check_image_sizes(model: ImageClassifier, recipe: Recipe) -> None:
    """Run one black image of each size of the recipe through the network, which is left as it was.

    Raises:
        UsageError: the network does not take images of one of these sizes.
    """
    image = torch.from_numpy(FASHION_MNIST.zeros(1)).to(next(model.parameters()).device)
    was_training = model.training
    try:
        for side in sorted(set(recipe.sides)):
            with model.eval().at_image_size(side), torch.inference_mode():
                model(image)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(
            f"recipe {recipe.name!r} shows images of {side} pixels, and this network does not take them "
            f"({reason}): choose another --recipe"
        ) from error
    finally:
        model.train(was_training)
