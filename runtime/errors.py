"""The exceptions, in one tree. Each message is one sentence, and each class has its exit code.

    FashionZooError                  1   something failed
    +-- UsageError (ValueError)      2   the request itself makes no sense
    +-- ModelNotFound (LookupError)  1   no model of that name or at that path
    +-- ModelInvalid (ValueError)    1   the file is damaged or breaks the contract
    +-- ImageError (ValueError)      1   this picture cannot be read; `.kind` says why
    +-- DatasetError                 1   Fashion-MNIST is missing, damaged or another release
    +-- DeviceUnavailable            4   the device asked for cannot do the work

The layers above add their own leaves (`export.VerificationFailed` exits with 3). A sentence names the thing, what was
expected, what was found and what to do next. A command line catches the root, prints the sentence and exits.
"""

from __future__ import annotations

import re
import reprlib


class FashionZooError(Exception):
    """Root of every error this project raises on purpose. `exit_code` is what a command exits with.

    The sentence is cut to a readable length: names and values in it come from anywhere, and may be of any length.
    """

    exit_code = 1

    def __init__(self, sentence: str) -> None:
        super().__init__(brief(sentence))


class UsageError(FashionZooError, ValueError):
    """The request makes no sense, whatever the state of the machine."""

    exit_code = 2


class ModelNotFound(FashionZooError, LookupError):
    """No model of that name or at that path."""


class ModelInvalid(FashionZooError, ValueError):
    """The file is not a model this runtime may trust: damaged, foreign, or outside the contract."""


class ImageError(FashionZooError, ValueError):
    """A picture that cannot be classified. `kind` is a stable word that programs may switch on."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple[type[ImageError], tuple[str, str]]:
        return ImageError, (self.kind, str(self))


class DatasetError(FashionZooError):
    """Fashion-MNIST cannot be found, or what was found is not the clean release."""


class DeviceUnavailable(FashionZooError):
    """The device asked for by name cannot run the whole model. `cause` is the reason alone, without the remedy."""

    exit_code = 4

    def __init__(self, message: str, cause: str | None = None) -> None:
        super().__init__(message)
        self.cause = cause or message


def install_line(extra: str) -> str:
    """Return the command that adds an extra of this package, which is on no package index, to a sentence."""
    return f"pip install -e '.[{extra}]' in a clone of the repository"


MAX_SHOWN = 200  # characters of a name or a value in a message
MAX_SENTENCE = 4000  # characters of the message


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
    """Return `repr(value)`, shortened; large containers are not read whole."""
    if isinstance(value, str | bytes):
        value = shortened(value, limit) if isinstance(value, str) else value[:limit]
        return shortened(repr(value), limit + 2)  # again: an escape is longer than its character
    return shortened(_PARTLY.repr(value), limit)


def brief(sentence: str) -> str:
    """Return a message in which no name is longer than about MAX_SHOWN, and which is not longer than MAX_SENTENCE."""
    return shortened(_LONG_WORD.sub(lambda word: shortened(word[0]), sentence), MAX_SENTENCE)


_LONG_WORD = re.compile(rf"\S{{{MAX_SHOWN + 20},}}")  # 20 more: a shortened value in quotes is not cut again
_PARTLY = reprlib.Repr()
_PARTLY.maxlevel, _PARTLY.maxstring, _PARTLY.maxlong, _PARTLY.maxother = 4, MAX_SHOWN, MAX_SHOWN, MAX_SHOWN
_PARTLY.maxlist = _PARTLY.maxtuple = _PARTLY.maxdict = 12
