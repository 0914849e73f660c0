"""Text from a file that a stranger may have made: which of it may be a name, and how the rest is shown."""

from __future__ import annotations

import re
import reprlib
import unicodedata

# Control characters, halves of a character, line and paragraph separators; then what turns the reading direction over.
_NO_TEXT = {"Cc", "Cs", "Zl", "Zp"}
_TURNING = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}

MAX_SHOWN = 200  # characters of a name or a value in a message
MAX_SENTENCE = 4000  # characters of the message


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


def shortened(text: str, limit: int = MAX_SHOWN) -> str:
    """Return `text`; where it is longer than `limit`, its beginning and its end with "..." between them."""
    if len(text) <= limit:
        return text
    kept = limit - 3
    return f"{text[: kept - kept // 2]}...{text[len(text) - kept // 2 :]}"


def quoted(value: object, limit: int = MAX_SHOWN) -> str:
    """Return what `repr` makes of a value from outside, so shortened; no more than a part of a large one is visited."""
    if isinstance(value, str | bytes):
        # Twice: an escape is longer than its character.
        return shortened(repr(value if len(value) <= limit else _ends(value, limit)), limit + 2)
    return shortened(_PARTLY.repr(value), limit)


def _ends(value: str | bytes, limit: int) -> str | bytes:
    return shortened(value, limit) if isinstance(value, str) else value[:limit]


def brief(sentence: str) -> str:
    """Return a message in which no name is longer than about MAX_SHOWN, and which is not longer than MAX_SENTENCE."""
    return shortened(_LONG_WORD.sub(lambda word: shortened(word[0]), sentence), MAX_SENTENCE)


_LONG_WORD = re.compile(rf"\S{{{MAX_SHOWN + 20},}}")  # a value that has been shortened, with what is around it, is not
_PARTLY = reprlib.Repr()
_PARTLY.maxlevel, _PARTLY.maxstring, _PARTLY.maxlong, _PARTLY.maxother = 4, MAX_SHOWN, MAX_SHOWN, MAX_SHOWN
_PARTLY.maxlist = _PARTLY.maxtuple = _PARTLY.maxdict = 12
