"""The recipes: how each network is trained.

`d2l` is D2L's own recipe; `best`, the default, trains the same, unchanged network to the accuracies of the README;
`cpu` trains VGG-11 and ResNet-18 where there is no GPU.
What was tried on the way to `best`, and what failed, is in `benchmarks/recipe_search.md`.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal, Self

from runtime.datasets.fashion_mnist import SIDE
from runtime.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained, apart from the seed and the hardware.

    Attributes:
        epochs: passes over the training images.
        batch_size: images a step, over all devices together.
        lr: peak learning rate.
        optimizer: `sgd` (Nesterov where `momentum` > 0) or `adamw` (Loshchilov and Hutter, 2019).
        schedule: after warm-up, the rate is `constant`, or falls to zero: by `cosine` (Loshchilov and Hutter, 2017), or
            `linear`, under which the last epochs have a higher rate.
        warmup: part of all steps over which the rate rises linearly from zero.
        weight_decay: decoupled for `adamw`; weights of dense and convolutional layers only.
        label_smoothing: Szegedy et al., 2016.
        flip: mirror half of the images, left to right.
        shift: move each image by up to this many pixels, in both directions.
        erase: share of the images in which a random rectangle is set to black (random erasing, Zhong et al., 2020).
        erase_side: the longest side of such a rectangle, in pixels of the 28x28 image.
        ema: decay of the moving average of the weights, which becomes the trained network; 0 keeps no average.
        sides: image sizes in pixels, each for an equal part of the epochs; empty for the network's own size in all of
            them. See `zoo.training.progressive_resizing`.
        normalize: pixels to zero mean and unit variance; D2L only scales them to 0 to 1.
    """

    name: str
    epochs: int
    batch_size: int = 128
    lr: float
    optimizer: Literal["sgd", "adamw"] = "sgd"
    momentum: float = 0.0
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    warmup: float = 0.0
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    flip: bool = False
    shift: int = 0
    erase: float = 0.0
    erase_side: int = 10
    ema: float = 0.0
    sides: tuple[int, ...] = ()
    normalize: bool = True

    def __post_init__(self) -> None:
        def require(field: str, sound: bool, expected: str) -> None:
            if not sound:
                raise UsageError(f"recipe {self.name!r}: {field} must be {expected}, not {getattr(self, field)!r}")

        require("epochs", self.epochs >= 1, "at least 1")
        require("batch_size", self.batch_size >= 1, "at least 1")
        require("lr", 0 < self.lr < math.inf, "a positive number")
        require("optimizer", self.optimizer in ("sgd", "adamw"), "'sgd' or 'adamw'")
        schedules = ("constant", "cosine", "linear")
        require("schedule", self.schedule in schedules, "'constant', 'cosine' or 'linear'")
        require("shift", 0 <= self.shift <= SIDE // 2, f"from 0 to {SIDE // 2} pixels")
        require("weight_decay", 0 <= self.weight_decay < math.inf, "zero or more")
        for field in ("momentum", "warmup", "label_smoothing", "ema"):
            require(field, 0 <= getattr(self, field) < 1, "in [0, 1)")
        require("erase", 0 <= self.erase <= 1, "in [0, 1]")
        require("erase_side", 2 <= self.erase_side <= SIDE, f"from 2 to {SIDE} pixels")
        object.__setattr__(self, "sides", tuple(self.sides))  # in a file it was a list
        require("sides", all(isinstance(side, int) and 8 <= side <= 512 for side in self.sides), "from 8 to 512 pixels")

    def override(self, **changes: Any) -> Self:
        """Return this recipe with the given fields changed; None leaves a field as it is."""
        return dataclasses.replace(self, **{field: value for field, value in changes.items() if value is not None})

    def lr_at(self, step: int, steps: int) -> float:
        """Return the learning rate of step `step` (from 0) out of `steps`: a function of the step alone, so that a
        resumed run needs no state of a scheduler."""
        warmup_steps = self.warmup * steps
        if step < warmup_steps:
            return self.lr * (step + 1) / (warmup_steps + 1)
        if self.schedule == "constant":
            return self.lr
        progress = (step - warmup_steps) / (steps - warmup_steps)
        if self.schedule == "linear":
            return self.lr * (1.0 - progress)
        return self.lr * 0.5 * (1.0 + math.cos(math.pi * progress))

    def side_at(self, epoch: int) -> int | None:
        """Return the side of the images in epoch `epoch`, from 0; None for the network's own throughout."""
        # Rounded so that the last epoch has the last side, however few epochs there are.
        return self.sides[((epoch + 1) * len(self.sides) - 1) // self.epochs] if self.sides else None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON has them, so that what comes back from a file is the same."""
        return dataclasses.asdict(self) | {"sides": list(self.sides)}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """Rebuild a recipe from `as_dict`.

        Raises:
            UsageError: a field is missing, unknown or out of range, as in a checkpoint of another version.
        """
        # Older checkpoints have these two fields, which were zero in every recipe.
        kept = {name: value for name, value in fields.items() if name not in ("mixup", "cutmix") or value}
        try:
            return cls(**kept)
        except TypeError as error:
            raise UsageError(f"this recipe is not one of this version of fashion-zoo: {error}") from error


def recipe_for(model: str, name: str = "best") -> Recipe:
    """Return the recipe `name` (`best`, `d2l` or `cpu`) of a model.

    Raises:
        UsageError: there is no such recipe.
    """
    try:
        return RECIPES[name][model]
    except KeyError:
        known = ", ".join(recipe for recipe, models in RECIPES.items() if model in models)
        raise UsageError(f"there is no recipe {name!r} for {model!r}; there are: {known}") from None


def _d2l(lr: float) -> Recipe:
    return Recipe(name="d2l", epochs=10, batch_size=128, lr=lr, normalize=False)


_LENET_BEST = Recipe(
    name="best",
    epochs=60,
    batch_size=128,
    lr=1e-2,
    optimizer="adamw",
    schedule="cosine",
    warmup=0.05,
    flip=True,
    shift=1,
)
# With ReLU the network overfits: a lower rate and weight decay.
_LENET_RELU_BEST = _LENET_BEST.override(lr=5e-3, weight_decay=0.15)

# The large networks are trained on a GPU, in large batches. These are usual values for such networks, not the result of
# a search.
_AUGMENTED = Recipe(
    name="best",
    epochs=60,
    batch_size=512,
    lr=0.4,
    optimizer="sgd",
    momentum=0.9,
    schedule="cosine",
    warmup=0.1,
    weight_decay=5e-4,
    label_smoothing=0.1,
    flip=True,
    shift=2,
    erase=0.5,
    erase_side=14,
    ema=0.998,
)
# Without batch norm, SGD makes almost no progress from Xavier's initialisation of eleven layers: AdamW, whose steps do
# not shrink with the gradients, and a slow warm-up.
_UNNORMALIZED = _AUGMENTED.override(optimizer="adamw", lr=5e-4, momentum=0.0, weight_decay=0.05)

RECIPES: dict[str, dict[str, Recipe]] = {
    "best": {
        "lenet": _LENET_BEST,
        "lenet-max": _LENET_BEST,
        "lenet-relu": _LENET_RELU_BEST,
        "lenet-modern": _LENET_RELU_BEST,
        "alexnet": _UNNORMALIZED.override(epochs=40),
        "vgg11": _UNNORMALIZED,
        "vgg11-full": _UNNORMALIZED,
        "nin": _UNNORMALIZED.override(epochs=40),
        "googlenet": _UNNORMALIZED.override(epochs=40),
        "resnet18": _AUGMENTED,
        "resnext": _AUGMENTED.override(epochs=40),
        "densenet": _AUGMENTED.override(epochs=40),
    },
    # For two cores and no GPU: smaller images first, then several epochs at the network's own size, at a rate that is
    # still high. What was tried, and the accuracies, are in `benchmarks/recipe_search.md`.
    "cpu": {
        "vgg11": _UNNORMALIZED.override(
            name="cpu",
            epochs=16,
            batch_size=128,
            schedule="linear",
            warmup=0.05,
            shift=1,
            erase=0.0,
            ema=0.0,
            sides=(112, 112, 112, 112, 160, 224, 224, 224),
        ),
        "resnet18": _AUGMENTED.override(
            name="cpu",
            epochs=32,
            batch_size=128,
            lr=0.1,
            ema=0.0,
            sides=(48, 64, 96, 96),
        ),
    },
    # The current edition of D2L: batch 128, 10 epochs, plain SGD at a constant rate, no augmentation. It trains
    # neither VGG-11 at full width nor a ResNeXt: these two have the rate of the networks they are variants of.
    "d2l": {
        **dict.fromkeys(("lenet", "lenet-max", "lenet-relu", "lenet-modern"), _d2l(0.1)),
        "nin": _d2l(0.05),
        **dict.fromkeys(("alexnet", "vgg11", "vgg11-full", "googlenet", "resnet18", "resnext", "densenet"), _d2l(0.01)),
    },
}
