"""The training engine: one loop for every network and recipe.

It knows tensors, a recipe and a seed. It does not know files (`zoo.run` keeps those), commands or bars: whoever calls
it is told after every batch and every epoch.
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from runtime.errors import FashionZooError
from zoo.data import Epochs, LabelledImages
from zoo.distributed import ALONE, World
from zoo.evaluation import evaluate
from zoo.gradients import Gradients, OutOfMemory, Precision
from zoo.recipes import Recipe


class TrainingDiverged(FashionZooError):
    """The loss is no longer a number."""


@dataclass(frozen=True)
class EpochMetrics:
    """What one epoch did; `lr` is the rate of its last step, `seconds` its training alone, without evaluation."""

    epoch: int
    lr: float
    train_loss: float
    train_accuracy: float
    val_accuracy: float | None
    seconds: float
    images_per_second: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Meter:
    """Sums of an epoch, kept on the device: reading them waits for the device, so the bar reads them seldom."""

    def __init__(self, device: torch.device) -> None:
        self.images = 0
        self._loss = torch.zeros((), device=device)
        self._correct = torch.zeros((), device=device, dtype=torch.int64)

    def add(self, images: int, loss: Tensor, correct: Tensor) -> None:
        """Count so many images, the sum of their losses, and how many were right."""
        self.images += images
        self._loss += loss
        self._correct += correct

    def reduce(self, world: World) -> None:
        """Make these the sums over all processes."""
        if world.size > 1:
            sums = torch.stack(
                [self._loss.double(), self._correct.double(), self._loss.new_tensor(self.images).double()]
            )
            world.add_up(sums)
            self._loss, self._correct, images = sums
            self.images = int(images)

    @property
    def loss(self) -> float:
        return self._loss.item() / max(1, self.images)

    @property
    def accuracy(self) -> float:
        return self._correct.item() / max(1, self.images)


OnBatch = Callable[[int, Meter], None]


class Trainer:
    """Trains one model with one recipe; `state` and `load_state` let a run stop and go on with the same weights.

    Args:
        model: uint8 (N, 1, 28, 28) -> logits (N, K); moved to the data's device, changed in place.
        recipe: how to train.
        data: the training images, on the device to train on.
        seed: decides the order, the augmentation and the dropout; the model's first weights are the caller's.
        validation: held-out images to measure after every epoch, or None.
        precision: `fp32`, or `bf16` for mixed precision.
        world: the processes that share the work; each has all of the data and makes its own trainer.
        notice: told, as a sentence, what the owner of the run should know.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        data: LabelledImages,
        seed: int,
        validation: LabelledImages | None = None,
        *,
        precision: Precision = "fp32",
        world: World = ALONE,
        notice: Callable[[str], None] | None = None,
    ) -> None:
        device = data.labels.device
        self.recipe = recipe
        self.seed = seed
        self.epoch = 0
        self.model = model.to(device).to(memory_format=torch.channels_last)
        self._gradients = Gradients(self.model, recipe.label_smoothing, precision=precision, world=world, notice=notice)
        self.average: AveragedModel | None = None
        if recipe.ema:
            average = get_ema_multi_avg_fn(recipe.ema)  # type: ignore[no-untyped-call]
            # Statistics of batch norm belong to the weights they were measured with: they are averaged too.
            self.average = AveragedModel(self.model, multi_avg_fn=average, use_buffers=True)
        self.optimizer = make_optimizer(self.model, recipe)
        self._epochs = Epochs(data, recipe, seed, world)
        self._images = len(data)
        self._steps_per_epoch = math.ceil(len(data) / recipe.batch_size)
        self._world = world
        self._device = device
        self._validation = validation

    @property
    def trained(self) -> nn.Module:
        """The module whose weights are the result: the average where the recipe keeps one, else the model."""
        return self.average.module if self.average is not None else self.model

    def run_epoch(self, on_batch: OnBatch | None = None) -> EpochMetrics:
        """Train for one epoch.

        Raises:
            TrainingDiverged: the loss is not finite; the sentence names the epoch and the rate.
            OutOfMemory: not even a piece of a batch fits.
        """
        steps = self._steps_per_epoch * self.recipe.epochs
        step = self._steps_per_epoch * self.epoch
        # Dropout draws from the global generator: seeded here, an epoch is the same whatever ran before it.
        # Processes draw different masks, since they have different images.
        torch.manual_seed(self.seed * 1_000_003 + self.epoch + (self._world.rank << 53))
        self.model.train()
        meter = Meter(self._device)
        lr = 0.0
        left = self._images
        started = time.perf_counter()
        for images, labels in self._epochs.batches(self.epoch):
            lr = self.recipe.lr_at(step, steps)
            count = min(left, self.recipe.batch_size)
            self._step(images, labels, count, lr, meter)
            step += 1
            left -= count
            if on_batch is not None:
                on_batch(count, meter)
        meter.reduce(self._world)
        loss = meter.loss  # waits for the device, so it comes before the clock is read
        seconds = time.perf_counter() - started
        self.epoch += 1
        if not math.isfinite(loss):
            raise TrainingDiverged(
                f"the loss of epoch {self.epoch} is {loss} at learning rate {lr:.4g}: try a smaller --lr"
            )
        accuracy = evaluate(self.trained, self._validation).accuracy if self._validation is not None else None
        return EpochMetrics(self.epoch, lr, loss, meter.accuracy, accuracy, seconds, meter.images / seconds)

    def _step(self, images: Tensor, labels: Tensor, count: int, lr: float, meter: Meter) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        loss, correct = self._gradients.compute(images, labels, count)
        try:
            self.optimizer.step()
            if self.average is not None:
                self.average.update_parameters(self.model)
        except torch.OutOfMemoryError as error:
            raise OutOfMemory(f"the memory of {self._device} does not hold the optimiser of this network") from error
        meter.add(len(labels), loss, correct)

    def state(self) -> dict[str, Tensor]:
        """Return every tensor that the next epoch depends on, beyond the trained weights, under flat names.

        Random numbers need no place here: each epoch draws them from (seed, epoch).
        """
        state = {
            f"optimizer/{index}/{key}": torch.as_tensor(value)
            for index, slots in self.optimizer.state_dict()["state"].items()
            for key, value in slots.items()
            if value is not None
        }
        if self.average is not None:
            state["average/n"] = self.average.n_averaged
            state |= {f"model/{name}": tensor for name, tensor in self.model.state_dict().items()}
        return state

    def load_state(self, epoch: int, weights: dict[str, Tensor], state: dict[str, Tensor]) -> None:
        """Go on from the end of epoch `epoch`, with the trained weights and the `state()` of that moment."""
        self.epoch = epoch
        self.trained.load_state_dict(weights)
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        slots: dict[int, dict[str, Tensor]] = {}
        for name, tensor in state.items():
            if name.startswith("optimizer/"):
                _, index, key = name.split("/")
                parameter = parameters[int(index)]
                if tensor.shape == parameter.shape:
                    # Fused optimisers walk both in memory order, so the state must lie as the parameter does.
                    tensor = torch.empty_like(parameter).copy_(tensor)
                slots.setdefault(int(index), {})[key] = tensor
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": slots})
        if self.average is not None:
            self.average.n_averaged.copy_(state["average/n"])
            prefix = "model/"
            self.model.load_state_dict(
                {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
            )


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Build the recipe's optimiser; weight decay is for matrices and kernels, not for biases and norms."""
    kernels = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    others = [parameter for parameter in model.parameters() if parameter.dim() <= 1]
    groups = [{"params": kernels, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if recipe.optimizer == "adamw":
        # beta2 = 0.99, not 0.999: these runs are some ten thousand steps long.
        return torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, 0.99), fused=True)
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.momentum > 0, fused=True)
