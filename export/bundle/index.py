"""`index.json`: one entry a model, from which the README's table and the runtime's checksums come."""

from pathlib import Path
from typing import Any

from runtime.model.registry import INDEX_SCHEMA, read_index, read_rebuildable
from runtime.strict_json import json_bytes


def index_with(weights: Path, entry: dict[str, Any]) -> bytes:
    """Return the index of a weights folder with a model's entry in it, in place of an older one.

    An entry with a `rebuild` command, and no file, goes among the models that this folder does not carry. They have a
    list of their own, so that whoever reads the list of models finds a file for each.

    Raises:
        ModelInvalid: the index that is there is damaged.
    """
    sections = {"models": read_index(weights), "rebuildable": read_rebuildable(weights)}
    for entries in sections.values():
        entries.pop(entry["name"], None)
    sections["rebuildable" if "rebuild" in entry else "models"][entry["name"]] = entry
    document: dict[str, Any] = {"schema": INDEX_SCHEMA}
    for section, entries in sections.items():
        if entries or section == "models":
            document[section] = [entries[name] for name in sorted(entries)]
    return json_bytes(document)
