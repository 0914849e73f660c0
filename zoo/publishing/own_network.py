"""A network of the user's own, from files: its code, weights, labels and pictures; for `zoo export` and `verify`."""

import dataclasses
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from runtime.classifier import Classifier
from runtime.errors import ImageError, UsageError
from runtime.evaluation.image_folder import labelled_pictures
from runtime.model.spec import InputSpec
from runtime.pipeline import preprocess
from zoo.publishing.verify import CALIBRATION

_WRAPPED = ("state_dict", "model_state_dict", "model", "net")  # keys of a state_dict that is saved with other things


@dataclass(frozen=True)
class OwnNetwork:
    """A network with its weights, and what it is verified on.

    Attributes:
        labels: the class names, in the order of the logits.
        images, targets: the pictures of the folder as `input` says, and their classes.
        calibration: training pictures, which int8 needs.
        unreadable: the pictures that could not be read.
    """

    network: nn.Module
    input: InputSpec
    labels: tuple[str, ...]
    images: npt.NDArray[Any]
    targets: npt.NDArray[np.int64]
    calibration: npt.NDArray[Any] | None = None
    unreadable: tuple[ImageError, ...] = ()

    @property
    def pictures(self) -> dict[str, Any]:
        """What `export.export_network` and `export.verify` are given of it beside the network."""
        return {
            "input": self.input,
            "images": self.images,
            "labels": self.targets,
            "calibration": self.calibration,
        }

    def doubts(self, file: Path) -> list[str]:
        """Return a question for each sign, in the file's answers, that labels, weights or input are not the network's.

        Two labels are exchanged where most pictures of each get another answer, as where the labels are in another
        order than the outputs. Accuracy within two standard deviations of chance may be guessing.
        """
        with Classifier(file, device="cpu") as classifier:
            answers = classifier.logits(self.images).argmax(axis=1)
        instead = {}
        for index in range(len(self.labels)):
            counts = np.bincount(answers[self.targets == index], minlength=len(self.labels))
            if 2 * counts.max() > counts.sum() and counts.argmax() != index:
                instead[index] = int(counts.argmax())
        found = [
            f"most pictures of {self.labels[true]!r} are answered {self.labels[answer]!r}: are the --labels in the "
            "order of the outputs?"
            for true, answer in instead.items()
            if answer in instead and true in instead.values()
        ][:3]
        right, count, chance = int((answers == self.targets).sum()), len(answers), 1 / len(self.labels)
        if right <= count * chance + 2 * (count * chance * (1 - chance)) ** 0.5:
            found.append(f"{right} of {count} right may be guessing: are these the network's weights and its input?")
        return found


def load_own(
    module: str,
    weights: Path | None,
    labels: Path,
    images: Path,
    input: InputSpec,
    limit: int | None = None,
    calibration: Path | None = None,
) -> OwnNetwork:
    """Read a network and everything that goes with it.

    Args:
        module: `FILE.py:function`, whose function takes nothing and returns the network.
        weights: a state_dict, `.pth` or `.safetensors`; None where the function loads them itself.
        labels: a text file, a class name a line.
        images: a folder of pictures, DIR/<label>/*.
        input: how a picture becomes the network's input.
        limit: read so many pictures, evenly from all; by default every one.
        calibration: a folder of training pictures like `images`, of which CALIBRATION are read.

    Raises:
        UsageError: one of them is missing or is something else.
    """
    names = _read_labels(labels)
    network = _made(module)
    if weights is not None:
        _load_weights(network, weights)
    pixels, targets, unreadable = _read_pictures(images, names, input, limit)
    typical = None
    if calibration is not None:
        typical, _, failed = _read_pictures(calibration, names, input, CALIBRATION)
        unreadable += failed
    return OwnNetwork(network, input, names, pixels, targets, typical, tuple(unreadable))


def _read_pictures(
    folder: Path, labels: tuple[str, ...], input: InputSpec, limit: int | None
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64], list[ImageError]]:
    """Return up to `limit` pictures of DIR/<label>/*, evenly from all, their classes, and why others were not read."""
    found = labelled_pictures(folder, labels)
    if limit is not None and limit < len(found):
        found = [found[index] for index in np.linspace(0, len(found) - 1, limit).astype(int)]
    levels, targets, unreadable = [], [], []
    for path, index in found:
        try:
            levels.append(preprocess(path, input).array.reshape(input.shape))
            targets.append(index)
        except ImageError as error:
            unreadable.append(error)
    if not levels:
        raise UsageError(f"none of the {len(found)} pictures in {folder} can be read: {unreadable[0]}")
    return input.from_levels(np.stack(levels)), np.array(targets, np.int64), unreadable


def parse_input(input: str | None, given: dict[str, Any], stored: InputSpec | None = None) -> InputSpec:
    """Return the input that the command line means.

    Args:
        input: `photo:224`, `photo:224x320`, `grey:32` or `fashion-mnist`; None for that of `stored`, or `photo:224`.
        given: those of resize, mean, std and interpolation that are not left out. One number is that of every channel.
        stored: the input that a file declares.

    Raises:
        UsageError: it is none of these, or a number makes no sense.
    """
    kind, _, size = (input or "photo:224").partition(":")
    base = stored if input is None else InputSpec.fashion_mnist() if kind == "fashion-mnist" else None
    if base is not None:
        return dataclasses.replace(base, **_by_channel(given, base.channels))
    sides = size.split("x")
    if kind not in ("photo", "grey") or len(sides) > 2 or not all(side.isdecimal() for side in sides):
        raise UsageError(f"--input should be photo:SIZE, photo:HEIGHTxWIDTH, grey:SIZE or fashion-mnist, not {input!r}")
    channels: Literal[1, 3] = 1 if kind == "grey" else 3
    return InputSpec.photo((int(sides[0]), int(sides[-1])), channels=channels, **_by_channel(given, channels))


def _by_channel(given: dict[str, Any], channels: int) -> dict[str, Any]:
    numbers = {name: tuple(given[name]) for name in ("mean", "std") if name in given}
    return given | {name: values * channels if len(values) == 1 else values for name, values in numbers.items()}


def _read_labels(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the labels in {path} cannot be read: {error}") from error
    while lines and not lines[-1].strip():
        lines.pop()
    if blank := next((number for number, line in enumerate(lines, 1) if not line.strip()), None):
        raise UsageError(f"line {blank} of {path} is blank: give a class name a line, in the order of the outputs")
    return tuple(line.strip() for line in lines)


def _made(module: str) -> nn.Module:
    file, colon, function = module.rpartition(":")
    path = Path(file)
    if not colon or not function.isidentifier() or path.suffix != ".py":
        raise UsageError(f"--module should be FILE.py:function, not {module!r}")
    if not path.is_file():
        raise UsageError(f"--module names the file {path}, which does not exist")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, loaded)
    sys.path.append(str(path.resolve().parent))  # for what it imports beside itself
    try:
        spec.loader.exec_module(loaded)
        network = getattr(loaded, function)()
    except Exception as error:  # the user's own code
        what = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise UsageError(f"{function}() of {path} should return the network, but fails with {what}") from error
    if not isinstance(network, nn.Module):
        raise UsageError(f"{function}() of {path} should return the network, but returns a {type(network).__name__}")
    return network.eval()


def _load_weights(network: nn.Module, path: Path) -> None:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises what its pickle, its zip file and the system do
        what = " ".join(str(error).split())[:200]
        raise UsageError(
            f"the weights in {path} cannot be read: {what}; give a state_dict: torch.save(network.state_dict(), path)"
        ) from error
    for key in _WRAPPED:
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict):
        raise UsageError(f"{path} should hold a state_dict, but holds a {type(state).__name__}")
    for prefix in ("module.", "_orig_mod."):  # DataParallel's and torch.compile's
        if state and all(str(name).startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    try:
        network.load_state_dict(state)
    except Exception as error:
        what = " ".join(str(error).split())[:400]
        raise UsageError(f"the weights in {path} are not those of {type(network).__name__}: {what}") from error
