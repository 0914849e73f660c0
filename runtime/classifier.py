"""The class `Classifier`: a model file, opened on a device, that turns pictures into predictions."""

import operator
import os
from collections.abc import Iterable, Iterator
from typing import Any, Literal, Self, SupportsIndex, overload

import numpy as np
import numpy.typing as npt

from runtime.errors import ImageError, ModelInvalid, UsageError
from runtime.imaging.load import Source
from runtime.imaging.preprocess import Fit, Invert, Pixels
from runtime.model.metadata import LOGITS, PROBABILITIES, Metadata, checked_metadata, input_specs, output_specs
from runtime.model.registry import find_entry
from runtime.model.spec import INPUT, Array, InputSpec
from runtime.pipeline import decoded_batches, preprocess, require_options
from runtime.prediction import Candidate, Prediction, most_probable
from runtime.session.session import ReopenableSession, Tuning


class Classifier:
    """A model, ready to answer. May be used from several threads at once, and as a context manager.

    It may be sent to other processes: pickled, it is the request and the file's checksum, and opens again where it
    arrives. After a fork, the child opens a session of its own when it first asks; on CUDA only "spawn" works. (A
    child of a bare `os.fork` must end by `os._exit`, as multiprocessing's do: onnxruntime's own teardown hangs there.)

    Args:
        model: a name (`runtime list` shows them), a path to a contract-true .onnx file, or None for the most accurate
            model that ships with the package.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `tensorrt`. A device asked for by name is used or the constructor
            fails.
        threads: CPU threads; by default all that affinity and the container's quota allow.
        tf32: on a GPU, multiply in TF32, with 10 bits of mantissa; the CPU has no such thing.
        tuning: settings that change the speed alone; `runtime bench --sweep` finds the best ones for a machine.

    Attributes:
        name: the model's name.
        path: the file in use.
        origin: where it was found: "path", "user", "repository" or "wheel".
        sha256: the checksum of the file's content as it was opened.
        labels: the K class names, in the order of the outputs.
        input: what the network takes: shape, type, and how a picture becomes that.
        batch_size: images a run by default: 256, or fewer where they are large.
        metadata: the description inside the file.
        device: where every node runs: "cpu" or "cuda:N".
        device_reason: why `auto` did not choose CUDA, or None.
        tf32: whether it multiplies in TF32; never so on the CPU.
        placement: number of nodes by execution provider.
        providers: those execution providers.

    Raises:
        UsageError: an argument is of a type or a value that makes no sense.
        ModelNotFound: no such model.
        ModelInvalid: the file is damaged or breaks the contract.
        DeviceUnavailable: the device asked for cannot run the whole model.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        device: str = "auto",
        threads: int | None = None,
        tf32: bool = False,
        tuning: Tuning | None = None,
    ) -> None:
        if threads is not None:
            require_count("threads", threads)
        if tf32 and device == "cpu":
            raise UsageError("TF32 is a way in which GPUs multiply; the CPU has none: leave it, or ask for cuda")
        self._live = live = ReopenableSession(model, device, threads, tf32, tuning)
        self.metadata: Metadata = checked_metadata(live.session, str(live.stored.path))
        self.input: InputSpec = self.metadata.input
        live.bind(self.input, len(self.metadata.labels))
        self.batch_size = self.input.batch_size
        self.name = self.metadata.model
        self.labels = self.metadata.labels
        self.path = live.stored.path
        self.origin = live.stored.origin
        self.entry = live.stored.entry
        self.bytes, self.sha256 = live.bytes, live.sha256
        self.device = str(live.device)
        self.device_reason = live.reason
        self.tf32 = tf32 and live.device.kind != "cpu"
        self.placement = live.placement
        self.providers = list(live.placement)

    def __repr__(self) -> str:
        return f"Classifier({self.name!r}, device={self.device!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the session's memory back; the classifier cannot be used afterwards."""
        self._live.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the request and the file's checksum; whoever unpickles opens a session of its own."""
        return _reopened, (type(self), self.sha256, self._live.request())

    def info(self) -> dict[str, Any]:
        """Return everything known of the model: the file, its metadata, its place in the index, and its placement."""
        described = {name: value for name, value in self.metadata.fields.items() if name not in ("format", "model")}
        described["confidence"] = self.metadata.confidence and self.metadata.confidence.as_dict(table=False)
        entry = self.entry or find_entry(self.sha256) or {}
        bound = self._live.bound
        gpu = None
        if bound is not None:
            gpu = {"tf32": self.tf32} | self._live.tuning.as_dict() | {"graphs": bound.graphs}
            gpu |= {"batch_sizes": bound.captured, "notice": self._live.notice}
        return {
            "model": self.name,
            "file": str(self.path),
            "origin": self.origin,
            "bytes": self.bytes,
            "sha256": self.sha256,
            "parameters": entry.get("parameters"),
            "flops": entry.get("flops"),
            "inputs": [str(spec) for spec in input_specs(self.input)],
            "outputs": [str(spec) for spec in output_specs(len(self.labels))],
            **described,
            "verified": entry.get("verified"),
            "device": self.device,
            "device_reason": self.device_reason,
            "placement": self.placement,
            "gpu": gpu,
        }

    def logits(self, pixels: Array, batch_size: int | None = None) -> npt.NDArray[np.float32]:
        """Return the raw scores: pixels: (N, C, H, W), as `input` says -> float32 (N, K).

        Of a garment network: uint8 (N, 1, 28, 28), a light garment on black.

        Raises:
            ImageError: the array is of another type or shape; `.kind` is "array".
        """
        return self._run([LOGITS], self.input.checked(pixels), batch_size)[0]

    def probabilities(self, pixels: Array, batch_size: int | None = None) -> npt.NDArray[np.float32]:
        """Return the softmax of the logits, float32 (N, K). Takes and raises what `logits` does."""
        return self._run([PROBABILITIES], self.input.checked(pixels), batch_size)[0]

    def outputs(
        self, pixels: Array, batch_size: int | None = None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return logits and probabilities of one run, each float32 (N, K). Takes and raises what `logits` does."""
        logits, probabilities = self._run([LOGITS, PROBABILITIES], self.input.checked(pixels), batch_size)
        return logits, probabilities

    def in_distribution(self, logits: npt.NDArray[np.float32]) -> list[bool] | list[None]:
        """Return whether each picture is like those of the training; None where the file has no threshold.

        Args:
            logits: float32 (N, K), as `logits` returns them; see `runtime.model.confidence` for the score.
        """
        confidence = self.metadata.confidence
        return confidence.score.accepts(logits) if confidence and confidence.score else [None] * len(logits)

    def predict(
        self, source: Source, *, topk: int = 5, invert: Invert | None = None, fit: Fit | None = None
    ) -> Prediction:
        """Classify one picture: a path, bytes, a PIL image or an array.

        Args:
            source: the picture; see `runtime.imaging.preprocess` for how it becomes what a garment network takes, and
                `runtime.imaging.photo` for any other.
            topk: how many candidates to return; all of them if there are fewer.
            invert: of a garment: whether to invert light and dark; "auto", the default, does for a light background.
            fit: of a garment: how to bring it to the network's size; by default "auto".

        Raises:
            ImageError: it cannot be read; `.kind` says why.
            UsageError: `invert` or `fit` is given for a network that is no garment's.
        """
        return self.predict_batch([source], topk=topk, invert=invert, fit=fit)[0]

    def predict_batch(
        self,
        sources: Iterable[Source],
        batch_size: int | None = None,
        *,
        topk: int = 5,
        invert: Invert | None = None,
        fit: Fit | None = None,
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
        batch_size: int | None = ...,
        *,
        topk: int = ...,
        invert: Invert | None = ...,
        fit: Fit | None = ...,
        return_errors: Literal[False] = ...,
    ) -> Iterator[Prediction]: ...
    @overload
    def stream(
        self,
        sources: Iterable[Source],
        batch_size: int | None = ...,
        *,
        topk: int = ...,
        invert: Invert | None = ...,
        fit: Fit | None = ...,
        return_errors: Literal[True],
    ) -> Iterator[Prediction | ImageError]: ...
    def stream(
        self,
        sources: Iterable[Source],
        batch_size: int | None = None,
        *,
        topk: int = 5,
        invert: Invert | None = None,
        fit: Fit | None = None,
        return_errors: bool = False,
    ) -> Iterator[Prediction | ImageError]:
        """Classify pictures as they come, in order.

        Threads decode the next batch while the session runs this one. At most two batches are held; threads of a stream
        that is closed early may go on reading a few sources for a moment.
        With `return_errors`, a picture that cannot be read yields its ImageError in place of a prediction. Where
        `sources` itself raises, the pictures before are answered first.

        Raises:
            UsageError: at once, where `sources` is a single picture, a number makes no sense, or as `predict`.
        """
        require_count("topk", topk)
        size = self.batch_size if batch_size is None else batch_size
        require_count("the batch size", size)
        require_options(self.input, invert, fit)
        try:
            if isinstance(sources, str | bytes | bytearray):  # whose parts are no pictures
                raise TypeError
            waiting = iter(sources)
        except TypeError:
            found = type(sources).__name__
            raise UsageError(f"expected several pictures, found one {found}; use predict, or a list") from None
        return self._stream(waiting, size, topk, invert, fit, return_errors)

    def _stream(
        self, sources: Iterator[Source], size: int, topk: int, invert: Invert | None, fit: Fit | None, errors: bool
    ) -> Iterator[Prediction | ImageError]:
        """Yield one answer a source; with `errors` that of a picture that cannot be read, else raise it in its turn."""

        def decode(source: Source) -> Pixels | ImageError:
            try:
                return preprocess(source, self.input, invert=invert, fit=fit)
            except ImageError as error:
                return error

        batches = decoded_batches(sources, size, decode, self._live.decoders)
        for batch in batches:
            error = None if errors else next((answer for answer in batch if isinstance(answer, ImageError)), None)
            if error is not None:
                batch = batch[: batch.index(error)]
            arrays = [answer.array for answer in batch if not isinstance(answer, ImageError)]
            rows: Iterator[tuple[tuple[Candidate, ...], bool | None]] = iter(())
            if arrays:
                pixels = self.input.from_levels(np.stack(arrays).reshape(-1, *self.input.shape))
                logits, probabilities = self._run([LOGITS, PROBABILITIES], pixels, size)
                top = most_probable(self.labels, probabilities, topk)
                rows = zip(top, self.in_distribution(logits), strict=True)
            for answer in batch:
                if isinstance(answer, ImageError):
                    yield answer
                else:
                    candidates, known = next(rows)
                    yield Prediction(candidates, answer.inverted, answer.warnings, known)
            if error is not None:
                batches.throw(error)  # which raises it again, once no thread reads a source any more

    def _run(self, outputs: list[str], pixels: Array, batch_size: int | None) -> list[npt.NDArray[np.float32]]:
        if batch_size is None:
            batch_size = self.batch_size
        require_count("the batch size", batch_size)
        if self._live.bound is not None:
            return self._live.bound.run(outputs, pixels, batch_size)
        session = self._live.session or self._live.reopened()
        try:
            if len(pixels) <= batch_size:
                return session.run(outputs, {INPUT: pixels})  # type: ignore[no-any-return]
            parts = [
                session.run(outputs, {INPUT: pixels[start : start + batch_size]})
                for start in range(0, len(pixels), batch_size)
            ]
        except Exception as error:  # onnxruntime's errors share no base class
            reason = " ".join(str(error).split())
            raise ModelInvalid(f"{self.path} failed on {len(pixels)} images: {reason}") from error
        return [np.concatenate(part) for part in zip(*parts, strict=True)]


def require_count(name: str, value: SupportsIndex) -> None:
    """Raise UsageError, which calls it `name`, unless `value` is a whole number of at least 1, Python's or NumPy's."""
    try:
        number = operator.index(value)
    except TypeError:
        raise UsageError(f"{name} must be a whole number, not {value!r}") from None
    if number < 1:
        raise UsageError(f"{name} must be at least 1, not {number}")


def _reopened(kind: type[Classifier], sha256: str, request: dict[str, Any]) -> Classifier:
    """Unpickle. Raises ModelInvalid where the same request finds another file, since answers would differ unseen."""
    classifier = kind(**request)
    if classifier.sha256 != sha256:
        raise ModelInvalid(
            f"{classifier.path} is not the file this classifier was made from: its sha256 is {classifier.sha256}, "
            f"but was {sha256}; make the classifier again"
        )
    return classifier
