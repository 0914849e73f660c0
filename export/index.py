"""`index.json`: one entry a model, the single source of the README's table and of every checksum the runtime trusts."""

import json
from pathlib import Path
from typing import Any

from runtime.atomic import write_bytes
from runtime.store import INDEX, INDEX_SCHEMA, read_index


def add_entry(weights: Path, entry: dict[str, Any]) -> None:
    """Put a model's entry into the index of a weights folder, in place of an older one, atomically.

    Raises:
        ModelInvalid: the index that is there is damaged; it is left as it is.
        OSError: it cannot be written.
    """
    entries = read_index(weights) | {entry["name"]: entry}
    document = {"schema": INDEX_SCHEMA, "models": [entries[name] for name in sorted(entries)]}
    write_bytes(weights / INDEX, (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode())
