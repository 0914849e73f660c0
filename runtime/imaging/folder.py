"""Which files of a folder are pictures, and one sentence about those that are passed over."""

from __future__ import annotations

import importlib.util
import os
from collections import Counter

from runtime.imaging.load import PLUGINS, SUFFIXES

# What systems leave in folders by themselves: nobody meant it as a picture.
_LITTER = frozenset((".ds_store", "thumbs.db", "desktop.ini", ".directory", ".gitkeep", "__macosx"))
_PLUGIN_SUFFIXES = {
    "HEIC": frozenset((".heic", ".heif", ".hif")),
    "JPEG XL": frozenset((".jxl",)),
}


def is_litter(name: str) -> bool:
    """Whether a file or folder of that name is a system's own, as macOS's `._boot.png` beside `boot.png`."""
    return name.startswith("._") or name.lower() in _LITTER


class PassedOver:
    """Sorts the files of folders, and counts those that are no pictures by their suffix."""

    def __init__(self) -> None:
        self._suffixes: Counter[str] = Counter()
        installed = [word for word, (*_, module) in PLUGINS.items() if importlib.util.find_spec(module)]
        self._taken = SUFFIXES.union(*(_PLUGIN_SUFFIXES[word] for word in installed))

    def is_picture(self, name: str) -> bool:
        """Whether the file is taken, by its name; one that is neither taken nor litter is counted."""
        if is_litter(name):
            return False
        suffix = os.path.splitext(name)[1].lower()
        if suffix in self._taken:
            return True
        self._suffixes[suffix] += 1
        return False

    def sentence(self) -> str | None:
        """Return "3 files passed over: .heic (save as JPEG, or pip install pillow-heif)"; None where there are none."""
        if not self._suffixes:
            return None
        parts = []
        for suffix, _ in self._suffixes.most_common(5):
            package = next((PLUGINS[word][2] for word, names in _PLUGIN_SUFFIXES.items() if suffix in names), None)
            advice = f" (save as JPEG, or pip install {package})" if package else ""
            parts.append((suffix or "without a suffix (name each file)") + advice)
        more = len(self._suffixes) - len(parts)
        count = self._suffixes.total()
        files = "1 file" if count == 1 else f"{count} files"
        return f"{files} passed over: {', '.join(parts)}" + (f" and {more} more kinds" if more else "")
