"""Which files of a folder are pictures, and one sentence about those that are passed over."""

import functools
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


@functools.cache
def _taken() -> frozenset[str]:
    """The suffixes of pictures that can be read here."""
    installed = [word for word, (*_, module) in PLUGINS.items() if importlib.util.find_spec(module)]
    return SUFFIXES.union(*(_PLUGIN_SUFFIXES[word] for word in installed))


def is_picture(name: str, passed_over: Counter[str]) -> bool:
    """Whether a folder's file is taken, by its name; the suffix of one that is neither taken nor litter is counted."""
    if is_litter(name):
        return False
    suffix = os.path.splitext(name)[1].lower()
    if suffix in _taken():
        return True
    passed_over[suffix] += 1
    return False


def passed_over_sentence(suffixes: Counter[str]) -> str:
    """Return "3 files passed over: .heic (save as JPEG, or pip install pillow-heif)", or "" of none."""
    if not suffixes:
        return ""
    parts = []
    for suffix, _ in suffixes.most_common(5):
        package = next((PLUGINS[word][2] for word, names in _PLUGIN_SUFFIXES.items() if suffix in names), None)
        advice = f" (save as JPEG, or pip install {package})" if package else ""
        parts.append((suffix or "without a suffix (name each file)") + advice)
    more = len(suffixes) - len(parts)
    count = suffixes.total()
    files = "1 file" if count == 1 else f"{count} files"
    return f"{files} passed over: {', '.join(parts)}" + (f" and {more} more kinds" if more else "")
