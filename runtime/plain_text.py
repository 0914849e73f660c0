"""Text from a file that a stranger may have made: which of it may be a name, and how the rest is shown."""

from __future__ import annotations

import unicodedata

# Control characters, halves of a character, line and paragraph separators; then what turns the reading direction over.
_NO_TEXT = {"Cc", "Cs", "Zl", "Zp"}
_TURNING = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}


def is_name(value: object) -> bool:
    """Whether `value` is text that reads as itself wherever it is printed: not blank, and no command to a terminal."""
    return (
        isinstance(value, str)
        and bool(value.strip())
        and not any(
            unicodedata.category(letter) in _NO_TEXT or unicodedata.bidirectional(letter) in _TURNING
            for letter in value
        )
    )


def is_folder_name(value: object) -> bool:
    """Whether `value` is such a name, and names a folder here and nowhere else."""
    return isinstance(value, str) and is_name(value) and not value.startswith(".") and not set("/\\") & set(value)


def shown(text: str) -> str:
    """Return `text` with every character that does not print replaced by its escape."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
