"""Test accuracy of a recipe, mean and standard deviation over seeds. Finished runs are kept, unfinished ones continued.

python benchmarks/accuracy.py lenet lenet-modern --seeds 3
"""

import argparse
import sys
from pathlib import Path

import conditions

from runtime.cli.fetch import fetch_with_bar
from runtime.errors import DeviceUnavailable
from runtime.storage import home
from zoo.cli.progress import TrainingBar
from zoo.runs.seeds import train_seeds
from zoo.runs.settings import resolve_settings
from zoo.training.device import choose_device


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--recipe", default="best")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--runs", type=Path, default=home() / "runs", help="folder of the runs")
    parser.add_argument("--output", type=Path, default=conditions.RESULTS, help="folder of the results")
    arguments = parser.parse_args()
    try:
        device = choose_device(arguments.device)
    except DeviceUnavailable as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    fetch_with_bar()
    suffix = "" if arguments.recipe == "best" else f"-{arguments.recipe}"
    for model in arguments.models:
        settings = resolve_settings(model, None, arguments.recipe, {}, 0, False, device=device)
        with TrainingBar(model) as bar:
            several = train_seeds(
                model,
                settings,
                arguments.seeds,
                arguments.runs,
                device=device,
                resume=True,
                folder_of=lambda runs, seed, name=model + suffix: runs / f"{name}-s{seed}",
                listener=bar,
            )
        path = conditions.save(
            f"accuracy_{model}_{arguments.recipe}",
            {
                "what": "test accuracy after the last epoch; how the recipe was found: benchmarks/recipe_search.md",
                "model": model,
                "recipe": settings.recipe.as_dict(),
                "precision": settings.precision,
                "seeds": [result.seed for result in several.results],
                "test_accuracy": several.accuracies,
                "mean": round(several.mean, 5),
                "standard_deviation": round(several.standard_deviation or 0.0, 5),
                "seconds": [round(result.seconds, 1) for result in several.results],
            },
            arguments.output,
        )
        spread = several.standard_deviation or 0.0
        print(f"{model}, {arguments.recipe}: {several.mean:.4f} ± {spread:.4f} over {arguments.seeds} seeds: {path}")


if __name__ == "__main__":
    main()
