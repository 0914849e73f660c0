"""What can go wrong, in one tree; every error is one sentence and knows its exit code.

    FashionZooError                  1   something failed
    +-- UsageError (ValueError)      2   the request itself makes no sense
    +-- ModelNotFound (LookupError)  1   no model of that name or at that path
    +-- ModelInvalid (ValueError)    1   the file is damaged or breaks the contract
    +-- ImageError (ValueError)      1   this picture cannot be read; `.kind` says why
    +-- DatasetError                 1   Fashion-MNIST is missing, damaged or another release
    +-- DeviceUnavailable            4   the device asked for cannot do the work

The floors above add their own leaves (`export.VerificationFailed` exits with 3). A sentence names the thing, what was
expected, what was found and what to do next. A command line catches the root, prints the sentence and exits.
"""

from runtime.plain_text import brief


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

    def __reduce__(self) -> tuple[type["ImageError"], tuple[str, str]]:
        return ImageError, (self.kind, str(self))


class DatasetError(FashionZooError):
    """Fashion-MNIST cannot be found, or what was found is not the clean release."""


class DeviceUnavailable(FashionZooError):
    """The device asked for by name cannot run the whole model. `cause` is the reason alone, without the remedy."""

    exit_code = 4

    def __init__(self, message: str, cause: str | None = None) -> None:
        super().__init__(message)
        self.cause = cause or message
