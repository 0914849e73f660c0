"""Every network of the zoo with its figures, for `zoo list` and the README."""

from typing import Any

from runtime.model.registry import folders, read_index, read_rebuildable, repository_weights, user_weights
from runtime.storage import known_home
from zoo.models import ARCHITECTURES
from zoo.models.summary import summarize


def catalogue() -> list[dict[str, Any]]:
    """Return a row a network: name, parameters, flops, input_size, and what is known of its published weights."""
    _, shipped = folders()[-1]
    folder = repository_weights() or shipped
    published, rebuildable = read_index(folder), read_rebuildable(folder)
    own = read_index(user_weights()) if known_home() else {}
    rows = []
    for name, architecture in ARCHITECTURES.items():
        entry = own.get(name) or published.get(name) or rebuildable.get(name)
        figures = entry or summarize(name).as_dict()
        rows.append(
            {
                "name": name,
                "parameters": figures["parameters"],
                "flops": figures["flops"],
                "input_size": architecture.input_size,
                "recipe": entry["recipe"]["name"] if entry else None,
                "accuracy": entry["accuracy"]["top1"] if entry else None,
                "published": name in published,
            }
        )
    return rows
