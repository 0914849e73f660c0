"""The settings of a training run, and how command-line options resolve to them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast, get_args

import torch

from runtime.errors import UsageError
from zoo.distributed import launched
from zoo.models.summary import summarize
from zoo.recipes import Recipe, recipe_for
from zoo.runs import checkpoint
from zoo.training.accumulation import Precision
from zoo.training.device import computes_bf16

# Multiply-adds of one image from which on bfloat16 is the default on a CPU that has it. On one core with AMX, a step of
# the LeNets (0.4 million) is 5 to 15 % faster, which is not worth the loss of precision; ResNeXt (76 million) is 1.8
# times as fast, ResNet-18 (319 million) twice, DenseNet (129 million) 2.6 times.
LARGE = 10_000_000


@dataclass(frozen=True)
class Settings:
    """Everything that decides the weights of a run, besides the model, the device and the number of processes.

    Attributes:
        recipe: how to train.
        seed: of the first weights, the order and the augmentation.
        val_split: train on the first 50,000 training images and evaluate on the other 10,000, not on the test images.
        precision: `fp32`, or `bf16` for mixed precision. Not in the recipe, since it depends on the hardware.
        compile: whether forward and loss are compiled by `torch.compile`. Likewise not in the recipe.
        micro_batch: the most images in one forward and backward pass; None for whole batches.
    """

    recipe: Recipe
    seed: int = 0
    val_split: bool = False
    precision: Precision = "fp32"
    compile: bool = False
    micro_batch: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise UsageError(f"the seed must be from 0 to 2**32 - 1, not {self.seed}")
        if self.precision not in get_args(Precision):
            raise UsageError(f"the precision must be fp32 or bf16, not {self.precision!r}")
        if self.micro_batch is not None and self.micro_batch < 1:
            raise UsageError(f"a micro-batch must have at least one image, not {self.micro_batch}")

    def as_dict(self) -> dict[str, Any]:
        return {"recipe": self.recipe.as_dict()} | {
            field: getattr(self, field) for field in ("seed", "val_split", "precision", "compile", "micro_batch")
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """Rebuild settings from `as_dict`, or from a checkpoint's header, which in early versions lacks some fields.

        Raises:
            UsageError: a field is missing or out of range, as in a checkpoint of another version.
        """
        try:
            recipe, seed, val_split = Recipe.from_dict(fields["recipe"]), fields["seed"], fields["val_split"]
        except KeyError as error:
            raise UsageError(
                f"these settings are not those of this version of fashion-zoo: {error} is missing"
            ) from error
        compiled = fields.get("compile", fields.get("step", "eager") != "eager")  # "step" was the name in version 0.1
        return cls(recipe, seed, val_split, fields.get("precision", "fp32"), compiled, fields.get("micro_batch"))


def default_precision(model: str, device: torch.device | None) -> Precision:
    """Return bf16 on CUDA, and for large networks on a CPU that computes in bfloat16; else fp32."""
    if device is None:
        return "fp32"
    if device.type == "cuda" or (computes_bf16() and summarize(model).flops >= 2 * LARGE):
        return "bf16"
    return "fp32"


def resolve_settings(
    model: str,
    resumed: Path | None,
    recipe: str | None,
    changes: dict[str, Any],
    seed: int | None,
    val_split: bool,
    precision: str | None = None,
    device: torch.device | None = None,
    compile: bool | None = None,
    micro_batch: int | None = None,
) -> Settings:
    """Return the settings that a command line asks for.

    Options that are None are those of the resumed run, else those of the recipe, with the precision of
    `default_precision`, and compiled steps in a single process on CUDA.

    Raises:
        UsageError: no such recipe, a value out of range, or an option that differs from the run in `resumed`.
        CheckpointError: the run in `resumed` is damaged.
    """
    path = checkpoint.checkpoint_in(resumed) if resumed else None
    if path is None or not path.exists():
        on_cuda = device is not None and device.type == "cuda"
        # Settings refuses any other precision.
        chosen = cast("Precision", precision or default_precision(model, device))
        compiled = on_cuda and not launched() if compile is None else compile
        resolved = recipe_for(model, recipe or "best").override(**changes)
        return Settings(resolved, seed or 0, val_split, chosen, compiled, micro_batch)
    started = Settings.from_dict(checkpoint.read_header(path, model=model))
    asked = {"recipe": recipe, "seed": seed, "val_split": val_split or None, "precision": precision}
    asked |= {"compile": compile, "micro_batch": micro_batch} | changes
    before = started.as_dict() | started.recipe.as_dict() | {"recipe": started.recipe.name}
    for name, wanted in asked.items():
        if wanted is not None and wanted != before[name]:
            raise UsageError(
                f"the run in {resumed} was started with {name.replace('_', '-')} {before[name]}, not {wanted}: "
                "resume it with its own settings, or start over without --resume"
            )
    return started
