"""The networks of D2L by name, with the function names of timm."""

import difflib
import fnmatch
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from runtime.errors import UsageError
from runtime.model.registry import ALIASES
from zoo.models.alexnet import alexnet
from zoo.models.densenet import densenet
from zoo.models.googlenet import googlenet
from zoo.models.lenet import lenet
from zoo.models.nin import nin
from zoo.models.preprocess import ImageClassifier, Preprocess
from zoo.models.resnet import resnet18, resnext
from zoo.models.vgg import VGG11, VGG11_QUARTER, vgg


@dataclass(frozen=True)
class Architecture:
    """How to build a network, and the side in pixels of the square image that it takes."""

    build: Callable[[], nn.Module]
    input_size: int


ARCHITECTURES = {
    "lenet": Architecture(lenet, 28),
    "lenet-max": Architecture(partial(lenet, pooling=nn.MaxPool2d), 28),
    "lenet-relu": Architecture(partial(lenet, activation=nn.ReLU), 28),
    "lenet-modern": Architecture(partial(lenet, activation=nn.ReLU, pooling=nn.MaxPool2d), 28),
    "alexnet": Architecture(alexnet, 224),
    "vgg11": Architecture(partial(vgg, VGG11_QUARTER), 224),
    "vgg11-full": Architecture(partial(vgg, VGG11), 224),
    "nin": Architecture(nin, 224),
    "googlenet": Architecture(googlenet, 96),
    "resnet18": Architecture(resnet18, 96),
    "resnext": Architecture(resnext, 96),
    "densenet": Architecture(densenet, 96),
}


def list_models(pattern: str = "*") -> list[str]:
    """Return the names that match a shell pattern, in the order of D2L."""
    return [name for name in ARCHITECTURES if fnmatch.fnmatchcase(name, pattern)]


def canonical_name(name: str) -> str:
    """Return the table's name for `name`, which may be an alias.

    Raises:
        UsageError: no such model; the sentence lists the known ones and the nearest.
    """
    if not isinstance(name, str):
        raise UsageError(f"a model's name is a text, not {name!r}; known models: {', '.join(ARCHITECTURES)}")
    known = ALIASES.get(name, name)
    if known in ARCHITECTURES:
        return known
    nearest = difflib.get_close_matches(name, [*ARCHITECTURES, *ALIASES], n=1)
    hint = f": did you mean {nearest[0]!r}? Known models" if nearest else "; known models"
    raise UsageError(f"there is no model {name!r}{hint}: {', '.join(ARCHITECTURES)}")


def create_model(name: str, *, normalize: bool = True) -> ImageClassifier:
    """Build a network with fresh weights and its preprocessing: uint8 (N, 1, 28, 28) -> logits: float32 (N, 10).

    Args:
        name: a name of `list_models()`, or an alias.
        normalize: pixels to zero mean and unit variance; False gives D2L's 0 to 1.

    Raises:
        UsageError: no such model.
    """
    architecture = ARCHITECTURES[canonical_name(name)]
    return ImageClassifier(Preprocess(architecture.input_size, normalize=normalize), architecture.build())
