"""Step time of the engine against the bare loop (forward, backward, optimiser, no bookkeeping), in turn.

    python benchmarks/step_overhead.py --model lenet --rounds 30

The bare loop gets its batches ready made and its rate fixed. The engine shuffles, gathers, augments as its recipe says,
sets the rate, counts loss and accuracy, and is ready for an out-of-memory error.
"""

import argparse
import statistics
import time

import conditions
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.data import Epochs, LabelledImages, load_split
from zoo.device import choose_device, settle_arithmetic
from zoo.models import create_model
from zoo.optimizer import make_optimizer
from zoo.recipes import recipe_for
from zoo.training import Trainer


def bare_seconds(model: nn.Module, optimizer: torch.optim.Optimizer, batches: list[tuple[Tensor, Tensor]]) -> float:
    started = time.perf_counter()
    for images, labels in batches:
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    loss.item()  # waits for the device
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="lenet")
    parser.add_argument("--recipe", default="d2l")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--steps", type=int, default=40, help="steps a measurement")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    settle_arithmetic(device)
    recipe = recipe_for(arguments.model, arguments.recipe).override(epochs=10_000)
    data: LabelledImages = load_split("train", device)[slice(0, arguments.steps * recipe.batch_size)]
    trainer = Trainer(create_model(arguments.model), recipe, data, seed=0)
    model = create_model(arguments.model).to(device).to(memory_format=torch.channels_last).train()
    optimizer = make_optimizer(model, recipe)
    batches = list(Epochs(data, recipe, 0).batches(0))
    ratios, engine_times, bare_times = [], [], []
    for number in range(arguments.rounds + 1):
        engine = trainer.run_epoch().seconds
        bare = bare_seconds(model, optimizer, batches)
        if number:  # the first round warms up
            ratios.append(engine / bare)
            engine_times.append(engine / arguments.steps)
            bare_times.append(bare / arguments.steps)
    ratio = statistics.median(ratios)
    path = conditions.save(
        f"step_overhead_{arguments.model}_{arguments.recipe}_{device.type}",
        {
            "what": "step time of the engine, all of its bookkeeping included, against the bare loop, in turn",
            "model": arguments.model,
            "recipe": arguments.recipe,
            "batch_size": recipe.batch_size,
            "threads": torch.get_num_threads(),
            "rounds": arguments.rounds,
            "steps_a_round": arguments.steps,
            "engine_ms": round(1e3 * statistics.median(engine_times), 4),
            "bare_ms": round(1e3 * statistics.median(bare_times), 4),
            "ratios": [round(found, 4) for found in ratios],
            "median_ratio": round(ratio, 4),
            "ratio_of_the_fastest": round(min(engine_times) / min(bare_times), 4),
        },
    )
    print(
        f"{arguments.model}: median ratio {ratio:.3f}, of the fastest {min(engine_times) / min(bare_times):.3f}: {path}"
    )


if __name__ == "__main__":
    main()
