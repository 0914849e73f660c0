"""Find the file that a model's name means, and check that it is the one that was published.

A name is looked for, in this order, in the user's own exports (`$ZOO_HOME/weights`), in the repository this package
was imported from, and among the weights inside the wheel. Each of these folders has an `index.json` that holds every
model's checksum; a path to a file needs none. Models too large for a repository have an entry there without a file:
all their figures, and the command that makes them again.
"""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from runtime.errors import ModelInvalid, ModelNotFound, UsageError, quoted

INDEX = "index.json"
INDEX_SCHEMA = 1
MODEL_FILE = "model.onnx"
SHIPPED = ("lenet", "lenet-modern")  # travel in the wheel; pyproject.toml puts them there
ALIASES = {"vgg": "vgg11"}  # aliases of networks, for `zoo` and `runtime`
MAX_MODEL_BYTES = 2**31 - 1  # protobuf's own limit

Origin = Literal["path", "user", "repository", "wheel"]
_PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class StoredModel:
    """A model file: `entry` is its line of the index, or None for a file given by path."""

    name: str
    path: Path
    origin: Origin
    entry: dict[str, Any] | None

    @property
    def accuracy(self) -> float | None:
        accuracy = (self.entry or {}).get("accuracy")
        top1 = accuracy.get("top1") if isinstance(accuracy, dict) else None
        return top1 if isinstance(top1, int | float) else None

    @property
    def parameters(self) -> int | None:
        parameters = (self.entry or {}).get("parameters")
        return parameters if isinstance(parameters, int) else None

    def read(self) -> bytes:
        """Return the file's bytes, the same ones that were checked.

        Raises:
            ModelNotFound: the file is gone.
            ModelInvalid: it is no file, too large, or its sha256 is not the published one.
        """
        try:
            if not self.path.is_file():
                raise ModelNotFound(f"there is no model file at {self.path}")
            size = self.path.stat().st_size
            if not 0 < size <= MAX_MODEL_BYTES:
                raise ModelInvalid(f"{self.path} holds {size} bytes; a model has from 1 to {MAX_MODEL_BYTES}")
            content = self.path.read_bytes()
        except OSError as error:
            raise ModelInvalid(f"{self.path} cannot be read: {error.strerror}") from error
        if self.entry is not None:
            digest = hashlib.sha256(content).hexdigest()
            if digest != self.entry["sha256"]:
                raise ModelInvalid(
                    f"{self.path} is not the published {self.name}: its sha256 is {digest}, the index says "
                    f"{self.entry['sha256']}; restore the file, or export it again with `zoo export {self.name}`"
                )
        return content


def user_weights() -> Path:
    """The folder of the user's own exports."""
    from runtime.storage import home

    return home() / "weights"


def repository_weights() -> Path | None:
    """The `weights/` folder of the checkout this package was imported from, or None for an installed package."""
    root = _PACKAGE.parent
    return root / "weights" if (root / "pyproject.toml").is_file() else None


def folders() -> list[tuple[Origin, Path]]:
    """Return the folders that names are looked for in, first one first."""
    from runtime.storage import known_home  # a model that ships is found without

    user: list[tuple[Origin, Path]] = [("user", user_weights())] if known_home() else []
    return [*user, *_published_folders()]


def _published_folders() -> list[tuple[Origin, Path]]:
    repository, wheel = repository_weights(), _PACKAGE / "weights"
    return [("repository", repository), ("wheel", wheel)] if repository else [("wheel", wheel)]


def read_index(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the entries of a folder's index by name; a folder without an index has none.

    Raises:
        ModelInvalid: the index is damaged, or of another schema.
    """
    return _entries(folder, "models", ("name", "file", "sha256"))


def read_rebuildable(folder: Path) -> dict[str, dict[str, Any]]:
    """Return, by name, the models that a folder does not carry: entries with the command that makes them, `rebuild`."""
    return _entries(folder, "rebuildable", ("name", "rebuild", "sha256"))


def _entries(folder: Path, section: str, required: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    path = folder / INDEX
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ModelInvalid(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ModelInvalid(f"{path} is damaged: {error}") from error
    if not isinstance(document, dict) or document.get("schema") != INDEX_SCHEMA:
        raise ModelInvalid(f"{path} is not an index of schema {INDEX_SCHEMA}")
    entries = document.get(section, [] if section == "rebuildable" else None)  # younger than the first indexes
    if not isinstance(entries, list):
        raise ModelInvalid(f"{path} is damaged: it has no list of {section}")
    for entry in entries:
        if not (isinstance(entry, dict) and all(isinstance(entry.get(key), str) for key in required)):
            raise ModelInvalid(f"{path} is damaged: an entry lacks its {', '.join(required[:-1])} or {required[-1]}")
    return {entry["name"]: entry for entry in entries}


def list_models() -> list[StoredModel]:
    """Return every model that a name can reach here, in the order of the indexes; an earlier folder hides a later."""
    reachable: dict[str, StoredModel] = {}
    for origin, folder in folders():
        for name, entry in read_index(folder).items():
            path = folder / entry["file"]
            if name not in reachable and path.is_file():
                reachable[name] = StoredModel(name, path, origin, entry)
    return list(reachable.values())


def find_model(model: str | os.PathLike[str] | None = None) -> StoredModel:
    """Return the file that `model` means: a path, a name, or for None the most accurate model that the wheel carries.

    A string with a separator or the ending of a model is a path. Any other is a name first, so that a folder which
    happens to be called `lenet` does not stand in for the model; only what is no name here is looked for as a file.

    Raises:
        UsageError: it is neither a string nor a path.
        ModelNotFound: there is none; the sentence lists the known names and the nearest, or says how to make it.
        ModelInvalid: an index is damaged.
    """
    if model is None:
        return shipped_models()[0]
    if not isinstance(model, str | os.PathLike):
        raise UsageError(f"expected a model's name or the path of a .onnx file, found {type(model).__name__}")
    text = os.fsdecode(model)
    path = Path(os.path.expanduser(text))  # the home folder of an unknown user stays as it is written
    if not isinstance(model, str) or os.sep in text or "/" in text or text.lower().endswith(".onnx"):
        return _model_at(path)
    name = ALIASES.get(text, text)
    known = {stored.name: stored for stored in list_models()}
    if name in known:
        return known[name]
    for _, folder in folders():
        if entry := read_rebuildable(folder).get(name):
            raise ModelNotFound(
                f"{name} is not on this machine: its file of {entry.get('bytes', 0):,} bytes is more than the "
                f"repository carries; make it with `{entry['rebuild']}`"
            )
        if entry := read_index(folder).get(name):
            raise ModelNotFound(
                f"{name} is published, but not on this machine: there is no file {folder / entry['file']} (packages "
                f"carry {' and '.join(SHIPPED)}); take the repository's weights/{name}/{MODEL_FILE} and name its path, "
                f"or make one with `zoo train {name}` and `zoo export {name}`"
            )
    if (path / MODEL_FILE if path.is_dir() else path).is_file():
        return _model_at(path)
    import difflib  # only for whoever mistyped

    nearest = difflib.get_close_matches(text, known, n=1)
    hint = f": did you mean {nearest[0]!r}? Models here" if nearest else "; models here"
    have = ", ".join(known) or "none"
    raise ModelNotFound(
        f"there is no model {quoted(text)} on this machine{hint}: {have}; `zoo train` and `zoo export` make others"
    )


def shipped_models() -> list[StoredModel]:
    """Return the models that travel with the package, the most accurate first.

    Raises:
        ModelNotFound: this installation carries none.
        ModelInvalid: an index is damaged.
    """
    for origin, folder in reversed(_published_folders()):
        entries = read_index(folder)
        shipped = [
            StoredModel(name, folder / entries[name]["file"], origin, entries[name])
            for name in SHIPPED
            if name in entries
        ]
        if shipped:
            return sorted(shipped, key=lambda stored: stored.accuracy or 0.0, reverse=True)
    raise ModelNotFound("this installation carries no model; name one with --model, or give the path of a .onnx file")


def _model_at(path: Path) -> StoredModel:
    """Describe a file given by path; the index of its weights folder vouches for it, however the path is spelled."""
    if path.is_dir():
        path = path / MODEL_FILE
    if not path.is_file():
        raise ModelNotFound(f"there is no model file at {path}")
    for folder in _weights_folders(path):
        for entry in _readable(read_index, folder).values():
            if _is_same_file(folder / entry["file"], path):
                return StoredModel(entry["name"], path, "path", entry)
    name = path.stem if path.name != MODEL_FILE else Path(os.path.abspath(path)).parent.name
    return StoredModel(name, path, "path", None)


def _weights_folders(path: Path) -> list[Path]:
    """Return the folders whose index may list the file: two up from it, through links or not, and those of names."""
    spelled = Path(os.path.abspath(path)), Path(os.path.realpath(path.parent)) / path.name, Path(os.path.realpath(path))
    return list(dict.fromkeys([*(file.parent.parent for file in spelled), *_folders_of_names()]))


def _folders_of_names() -> list[Path]:
    """Return the folders that names are looked for in; none where $ZOO_HOME is wrong, which a path has no need of."""
    try:
        return [folder for _, folder in folders()]
    except UsageError:
        return []


def _readable(read: Callable[[Path], dict[str, dict[str, Any]]], folder: Path) -> dict[str, dict[str, Any]]:
    """Return a folder's entries; somebody else's index.json, or what is left of ours, has none."""
    try:
        return read(folder)
    except ModelInvalid:
        return {}


def _is_same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except (OSError, ValueError):  # it is missing, or its name is none
        return False


def find_entry(sha256: str) -> dict[str, Any] | None:
    """Return the entry, in the index of a folder that names are looked for in, of the file with this content."""
    for folder in _folders_of_names():
        for read in (read_index, read_rebuildable):
            for entry in _readable(read, folder).values():
                if entry["sha256"] == sha256:
                    return entry
    return None
