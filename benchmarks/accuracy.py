"""Test accuracy of a recipe, mean and spread over seeds; finished runs are taken as they are, broken ones go on.

python benchmarks/accuracy.py lenet lenet-modern --seeds 3
"""

import argparse
import statistics
from pathlib import Path

import conditions

from runtime.fetch import fetch_with_bar
from runtime.home import home
from zoo import run
from zoo.device import choose_device
from zoo.progress import TrainingBar
from zoo.recipes import recipe_for


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--recipe", default="best")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--runs", type=Path, default=home() / "runs", help="folder of the runs")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    fetch_with_bar()
    for model in arguments.models:
        results = []
        for seed in range(arguments.seeds):
            suffix = "" if arguments.recipe == "best" else f"-{arguments.recipe}"
            folder = arguments.runs / f"{model}{suffix}-s{seed}"
            settings = run.Settings(recipe_for(model, arguments.recipe), seed)
            with TrainingBar(model) as bar:
                results.append(run.train(model, settings, device=device, resume=True, folder=folder, listener=bar))
        accuracies = [result.test_accuracy for result in results if result.test_accuracy is not None]
        mean, spread = statistics.mean(accuracies), statistics.stdev(accuracies)
        path = conditions.save(
            f"accuracy_{model}_{arguments.recipe}",
            {
                "what": "test accuracy after the last epoch; the recipe was chosen on the validation split",
                "model": model,
                "recipe": results[0].recipe.as_dict(),
                "seeds": [result.seed for result in results],
                "test_accuracy": accuracies,
                "mean": round(mean, 5),
                "standard_deviation": round(spread, 5),
                "seconds": [round(result.seconds, 1) for result in results],
            },
        )
        print(f"{model}, {arguments.recipe}: {mean:.4f} ± {spread:.4f} over {len(accuracies)} seeds, written to {path}")


if __name__ == "__main__":
    main()
