"""The training loop, one for every network and recipe.

It knows tensors, a recipe and a seed, but no files (see `zoo.runs.run`), commands or progress bars; a callback is
called after every batch.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from runtime.errors import FashionZooError
from zoo.data.dataset import Epochs, LabelledImages
from zoo.distributed import ALONE, World
from zoo.models.preprocess import ImageClassifier
from zoo.recipes import Recipe
from zoo.training.accumulation import Gradients, OutOfMemory, Precision
from zoo.training.ema import ExponentialMovingAverage
from zoo.training.evaluation import evaluate
from zoo.training.metrics import RunningMetrics
from zoo.training.optimizer import make_optimizer
from zoo.training.progressive_resizing import check_image_sizes


class TrainingDiverged(FashionZooError):
    """The loss is no longer a number."""


@dataclass(frozen=True)
class EpochMetrics:
    """The metrics of one epoch; `lr` is that of its last step, `seconds` the time of training without evaluation."""

    epoch: int
    lr: float
    train_loss: float
    train_accuracy: float
    val_accuracy: float | None
    seconds: float
    images_per_second: float


OnBatch = Callable[[int, RunningMetrics], None]


class Trainer:
    """Trains one model with one recipe; `state` and `load_state` continue a run to the same weights, bit by bit.

    Args:
        model: uint8 (N, 1, 28, 28) -> logits (N, K); moved to the data's device, changed in place.
        data: the training images, on the device to train on.
        seed: of the order, the augmentation and the dropout; the model's first weights are the caller's.
        validation: held-out images to measure after every epoch, or None.
        precision, micro_batch: as for `zoo.training.accumulation.Gradients`.
        compile: compile forward and loss by `torch.compile`; for a single process.
        world: the processes that share each batch; each has all of the data and its own trainer.
    """

    def __init__(
        self,
        model: ImageClassifier,
        recipe: Recipe,
        data: LabelledImages,
        seed: int,
        validation: LabelledImages | None = None,
        *,
        precision: Precision = "fp32",
        micro_batch: int | None = None,
        compile: bool = False,
        world: World = ALONE,
    ) -> None:
        device = data.labels.device
        self.recipe = recipe
        self.seed = seed
        self.epoch = 0
        self.model = model.to(device).to(memory_format=torch.channels_last)
        check_image_sizes(self.model, recipe)
        self._gradients = Gradients(
            self.model,
            recipe.label_smoothing,
            precision=precision,
            world=world,
            micro_batch=micro_batch,
            compile_for=recipe.batch_size if compile else 0,
        )
        self.average = ExponentialMovingAverage(self.model, recipe.ema) if recipe.ema else None
        self.optimizer = make_optimizer(self.model, recipe)
        self._epochs = Epochs(data, recipe, seed)
        self._images = len(data)
        self._steps_per_epoch = math.ceil(len(data) / recipe.batch_size)
        self._world = world
        self._device = device
        self._validation = validation

    @property
    def trained(self) -> nn.Module:
        """The trained network: the moving average where the recipe keeps one, else the model."""
        return self.average.module if self.average is not None else self.model

    def run_epoch(self, on_batch: OnBatch | None = None) -> EpochMetrics:
        """Train for one epoch.

        Raises:
            TrainingDiverged: the loss is not finite; the sentence names the epoch and the rate.
            OutOfMemory: a step does not fit into the device's memory.
        """
        with self.model.at_image_size(self.recipe.side_at(self.epoch) or self.model.preprocess.size):
            metrics = self._train_one(on_batch)
        self.epoch += 1
        if not math.isfinite(metrics.train_loss):
            raise TrainingDiverged(
                f"the loss of epoch {self.epoch} is {metrics.train_loss} at learning rate {metrics.lr:.4g}: "
                "try a smaller --lr"
            )
        if self._validation is None:
            return metrics
        return replace(metrics, val_accuracy=evaluate(self.trained, self._validation).accuracy)

    def _train_one(self, on_batch: OnBatch | None) -> EpochMetrics:
        """Train for one epoch, and return its metrics without the accuracy on held-out images."""
        self.model.train()
        # Dropout uses the global generator. Seeded here, an epoch is the same whatever ran before it, and each process
        # has other masks.
        torch.manual_seed(self.seed * 1_000_003 + self.epoch + (self._world.rank << 53))
        before, steps = self._steps_per_epoch * self.epoch, self._steps_per_epoch * self.recipe.epochs
        size, lr = self.recipe.batch_size, 0.0
        running = RunningMetrics(self._device)
        started = time.perf_counter()
        sample = self._epochs.sample(self.epoch)
        for number in range(self._steps_per_epoch):
            lr = self.recipe.lr_at(before + number, steps)
            start, stop = number * size, min((number + 1) * size, self._images)
            images, labels = self._epochs.batch(sample, self._world.share(start, stop))
            self._take_step(images, labels, stop - start, lr, running)
            if on_batch is not None:
                on_batch(stop - start, running)
        running.reduce(self._world)
        loss = running.loss  # waits for the device
        seconds = time.perf_counter() - started
        return EpochMetrics(self.epoch + 1, lr, loss, running.accuracy, None, seconds, running.images / seconds)

    def _take_step(self, images: Tensor, labels: Tensor, count: int, lr: float, running: RunningMetrics) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        loss, correct = self._gradients.compute(images, labels, count)
        try:
            self.optimizer.step()
            if self.average is not None:
                self.average.update()
        except torch.OutOfMemoryError as error:
            raise OutOfMemory(f"the memory of {self._device} does not hold the optimiser of this network") from error
        running.add(len(labels), loss, correct)

    def state(self) -> dict[str, Tensor]:
        """Return every tensor that the next epoch depends on, beyond the trained weights, under flat names.

        There is no state of random generators: each epoch seeds them from (seed, epoch).
        """
        state = {
            f"optimizer/{index}/{key}": torch.as_tensor(value)
            for index, slots in self.optimizer.state_dict()["state"].items()
            for key, value in slots.items()
            if value is not None
        }
        if self.average is not None:
            state["average/n"] = torch.tensor(self.average.updates)
            state |= {f"model/{name}": tensor for name, tensor in self.model.state_dict().items()}
        return state

    def load_state(self, epoch: int, weights: dict[str, Tensor], state: dict[str, Tensor]) -> None:
        """Continue from the end of epoch `epoch`, with the trained weights and the `state()` of that moment."""
        self.epoch = epoch
        self.trained.load_state_dict(weights)
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        slots: dict[int, dict[str, Tensor]] = {}
        for name, tensor in state.items():
            if name.startswith("optimizer/"):
                _, index, key = name.split("/")
                parameter = parameters[int(index)]
                if tensor.shape == parameter.shape:
                    # Fused optimisers read both in memory order, so the state needs the parameter's strides.
                    tensor = torch.empty_like(parameter).copy_(tensor)
                slots.setdefault(int(index), {})[key] = tensor
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": slots})
        if self.average is not None:
            self.average.updates = int(state["average/n"])
            prefix = "model/"
            self.model.load_state_dict(
                {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
            )
