"""The runtime's one class: a model file, opened on a device, that turns pictures into labels."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self, overload

import numpy as np
import numpy.typing as npt

from runtime import contract
from runtime.contract import SIDE, Metadata, TensorSpec
from runtime.decoding import Source
from runtime.errors import FashionZooError, ImageError, UsageError
from runtime.images import Fit, Invert, to_pixels
from runtime.session import open_session
from runtime.store import find_model

DEFAULT_BATCH_SIZE = 256
_DATATYPES = {"tensor(uint8)": "UINT8", "tensor(float)": "FP32"}


@dataclass(frozen=True, slots=True)
class Candidate:
    """One class that a picture may show."""

    label: str
    index: int
    probability: float

    def as_dict(self) -> dict[str, Any]:
        return {"label": self.label, "index": self.index, "probability": self.probability}


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model sees in one picture: `top` is sorted, most probable first; `inverted` says that the picture had a
    light background and was inverted."""

    top: tuple[Candidate, ...]
    inverted: bool

    @property
    def label(self) -> str:
        return self.top[0].label

    @property
    def index(self) -> int:
        return self.top[0].index

    @property
    def confidence(self) -> float:
        return self.top[0].probability

    def as_dict(self) -> dict[str, Any]:
        return {
            "label": self.label,
            "index": self.index,
            "confidence": self.confidence,
            "inverted": self.inverted,
            "top": [candidate.as_dict() for candidate in self.top],
        }


class Classifier:
    """A model, ready to answer. May be used from several threads at once, and as a context manager.

    Args:
        model: a name (`runtime list` shows them), a path to a contract-true .onnx file, or None for the most accurate
            model that ships with the package.
        device: `auto`, `cpu`, `cuda` or `cuda:N`. A device asked for by name is used or the constructor fails.
        threads: CPU threads; by default all that affinity and the container's quota allow.

    Attributes:
        name: the model's name.
        path: the file in use.
        origin: where it was found: "path", "user", "repository" or "wheel".
        labels: the K class names, in the order of the outputs.
        metadata: the description inside the file.
        device: where every node runs: "cpu" or "cuda:N".
        device_reason: why `auto` did not choose CUDA, or None.
        placement: number of nodes by execution provider.
        providers: those execution providers.

    Raises:
        ModelNotFound: no such model.
        ModelInvalid: the file is damaged or breaks the contract.
        DeviceUnavailable: the device asked for cannot run the whole model.
    """

    def __init__(
        self, model: str | os.PathLike[str] | None = None, *, device: str = "auto", threads: int | None = None
    ) -> None:
        if threads is not None and threads < 1:
            raise UsageError(f"threads must be at least 1, not {threads}")
        stored = find_model(model)
        content = stored.read()
        opened = open_session(content, device, threads=threads, what=str(stored.path))
        self._session = opened.session
        self.metadata: Metadata = contract.parse_metadata(
            self._session.get_modelmeta().custom_metadata_map, str(stored.path)
        )
        contract.check_signature(
            _specs(self._session.get_inputs()),
            _specs(self._session.get_outputs()),
            len(self.metadata.labels),
            str(stored.path),
        )
        self.name = self.metadata.model
        self.labels = self.metadata.labels
        self.path = stored.path
        self.origin = stored.origin
        self.entry = stored.entry
        self.bytes = len(content)
        self.device = str(opened.device)
        self.device_reason = opened.reason
        self.placement = opened.placement
        self.providers = list(opened.placement)

    def __repr__(self) -> str:
        return f"Classifier({self.name!r}, device={self.device!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the session's memory back; the classifier cannot be used afterwards."""
        self._session = None

    def info(self) -> dict[str, Any]:
        """Return everything known of the model: the file, its metadata, its place in the index, and its placement."""
        described = {name: value for name, value in self.metadata.fields.items() if name not in ("format", "model")}
        entry = self.entry or {}
        return {
            "model": self.name,
            "file": str(self.path),
            "origin": self.origin,
            "bytes": self.bytes,
            "sha256": entry.get("sha256"),
            "parameters": entry.get("parameters"),
            "flops": entry.get("flops"),
            "inputs": [str(spec) for spec in contract.input_specs()],
            "outputs": [str(spec) for spec in contract.output_specs(len(self.labels))],
            **described,
            "verified": entry.get("verified"),
            "device": self.device,
            "device_reason": self.device_reason,
            "placement": self.placement,
        }

    def logits(self, pixels: npt.NDArray[np.uint8], batch_size: int = DEFAULT_BATCH_SIZE) -> npt.NDArray[np.float32]:
        """Return the raw scores: pixels: uint8 (N, 1, 28, 28), light garment on black -> float32 (N, K).

        Raises:
            ImageError: the array is of another type or shape; `.kind` is "array".
        """
        return self._run(contract.LOGITS, _checked(pixels), batch_size)

    def probabilities(
        self, pixels: npt.NDArray[np.uint8], batch_size: int = DEFAULT_BATCH_SIZE
    ) -> npt.NDArray[np.float32]:
        """Return the softmax of the logits: pixels: uint8 (N, 1, 28, 28) -> float32 (N, K). Raises as `logits`."""
        return self._run(contract.PROBABILITIES, _checked(pixels), batch_size)

    def predict(self, source: Source, *, topk: int = 5, invert: Invert = "auto", fit: Fit = "auto") -> Prediction:
        """Classify one picture: a path, bytes, a PIL image or an array.

        Args:
            source: the picture; see `runtime.images` for how it becomes 28x28 grey pixels.
            topk: how many candidates to return; all of them if there are fewer.
            invert: whether to invert light and dark; "auto" does so for a light background.
            fit: how to bring it to 28x28.

        Raises:
            ImageError: it cannot be read; `.kind` says why.
        """
        return self.predict_batch([source], topk=topk, invert=invert, fit=fit)[0]

    def predict_batch(
        self,
        sources: Iterable[Source],
        batch_size: int = DEFAULT_BATCH_SIZE,
        *,
        topk: int = 5,
        invert: Invert = "auto",
        fit: Fit = "auto",
    ) -> list[Prediction]:
        """Classify many pictures, in order.

        Raises:
            ImageError: one of them cannot be read; use `stream(..., return_errors=True)` to go on with the others.
        """
        return list(self.stream(sources, batch_size, topk=topk, invert=invert, fit=fit))

    @overload
    def stream(
        self,
        sources: Iterable[Source],
        batch_size: int = ...,
        *,
        topk: int = ...,
        invert: Invert = ...,
        fit: Fit = ...,
        return_errors: Literal[False] = ...,
    ) -> Iterator[Prediction]: ...
    @overload
    def stream(
        self,
        sources: Iterable[Source],
        batch_size: int = ...,
        *,
        topk: int = ...,
        invert: Invert = ...,
        fit: Fit = ...,
        return_errors: Literal[True],
    ) -> Iterator[Prediction | ImageError]: ...
    def stream(
        self,
        sources: Iterable[Source],
        batch_size: int = DEFAULT_BATCH_SIZE,
        *,
        topk: int = 5,
        invert: Invert = "auto",
        fit: Fit = "auto",
        return_errors: bool = False,
    ) -> Iterator[Prediction | ImageError]:
        """Classify pictures as they come, in order, holding one batch at a time.

        With `return_errors`, a picture that cannot be read yields its ImageError in place of a prediction.
        """
        if topk < 1:
            raise UsageError(f"topk must be at least 1, not {topk}")
        waiting = iter(sources)
        _check_batch_size(batch_size)
        while group := list(itertools.islice(waiting, batch_size)):
            answers: list[Prediction | ImageError | None] = []
            arrays: list[npt.NDArray[np.uint8]] = []
            inverted: list[bool] = []
            for source in group:
                try:
                    seen = to_pixels(source, invert=invert, fit=fit)
                except ImageError as error:
                    if not return_errors:
                        raise
                    answers.append(error)
                else:
                    answers.append(None)
                    arrays.append(seen.array)
                    inverted.append(seen.inverted)
            pixels = np.stack(arrays)[:, None] if arrays else np.empty((0, 1, SIDE, SIDE), np.uint8)
            rows = iter(zip(self._run(contract.PROBABILITIES, pixels, batch_size), inverted, strict=True))
            for answer in answers:
                yield self._prediction(*next(rows), topk) if answer is None else answer

    def _prediction(self, probabilities: npt.NDArray[np.float32], inverted: bool, topk: int) -> Prediction:
        # Stable, so that a tie goes to the lower index, as with argmax.
        order = np.argsort(-probabilities, kind="stable")[:topk]
        return Prediction(
            tuple(Candidate(self.labels[i], i, float(probabilities[i])) for i in order.tolist()), inverted
        )

    def _run(self, output: str, pixels: npt.NDArray[np.uint8], batch_size: int) -> npt.NDArray[np.float32]:
        if self._session is None:
            raise FashionZooError(f"this classifier of {self.name!r} has been closed")
        _check_batch_size(batch_size)
        if len(pixels) <= batch_size:
            (result,) = self._session.run([output], {contract.INPUT: pixels})
            return result  # type: ignore[no-any-return]
        parts = [
            self._session.run([output], {contract.INPUT: pixels[start : start + batch_size]})[0]
            for start in range(0, len(pixels), batch_size)
        ]
        return np.concatenate(parts)


def _specs(arguments: Any) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(argument.name, _DATATYPES.get(argument.type, argument.type), tuple(argument.shape))
        for argument in arguments
    )


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise UsageError(f"the batch size must be at least 1, not {batch_size}")


def _checked(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    if not isinstance(pixels, np.ndarray):
        raise ImageError("array", f"expected a numpy array uint8 (N, 1, {SIDE}, {SIDE}), found {type(pixels).__name__}")
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != (1, SIDE, SIDE):
        raise ImageError("array", f"expected uint8 (N, 1, {SIDE}, {SIDE}), found {pixels.dtype} {pixels.shape}")
    return np.ascontiguousarray(pixels)
