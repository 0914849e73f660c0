"""Engines other than onnxruntime that can run the file for the checks, by the same tolerances.

Each has onnxruntime's `run`, and computes on the CPU. `reference` is onnx's own definition of the operators in numpy:
slow, so give it few pictures.
"""

import importlib
import importlib.metadata
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.reference

from runtime.errors import FashionZooError, UsageError, install_line

Floats = npt.NDArray[Any]
Feeds = dict[str, npt.NDArray[np.uint8]]


class EngineMissing(FashionZooError):
    """The package of this engine is not installed."""


class OpenVINO:
    """Intel's engine, in float32 throughout: by itself it may choose bfloat16 on a processor that has it."""

    def __init__(self, content: bytes) -> None:
        core = _imported("openvino").Core()
        self._compiled = core.compile_model(core.read_model(content, b""), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(self, outputs: Sequence[str], feeds: Feeds) -> list[Floats]:
        found = self._compiled(feeds)
        return [np.array(found[name]) for name in outputs]


class Tract:
    """Sonos' engine, written in Rust."""

    def __init__(self, content: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            (file := Path(folder) / "model.onnx").write_bytes(content)
            model = _imported("tract").onnx().load(str(file)).into_model()
        # It may rename an output; their order it keeps.
        self._names = [output.name for output in onnx.load_from_string(content).graph.output]
        self._runnable = model.into_runnable()

    def run(self, outputs: Sequence[str], feeds: Feeds) -> list[Floats]:
        found = dict(zip(self._names, self._runnable.run(list(feeds.values())), strict=True))
        return [found[name].to_numpy() for name in outputs]


_ENGINES: dict[str, tuple[str, Callable[[bytes], Any]]] = {  # the package, and what opens a file
    "reference": ("onnx", lambda content: onnx.reference.ReferenceEvaluator(onnx.load_from_string(content))),
    "openvino": ("openvino", OpenVINO),
    "tract": ("tract", Tract),
}
OTHERS = tuple(_ENGINES)


def open_engine(name: str, content: bytes) -> Any:
    """Load a file into an engine.

    Raises:
        UsageError: there is no such engine.
        EngineMissing: its package is not installed.
    """
    version_of(name)
    return _ENGINES[name][1](content)


def version_of(name: str) -> dict[str, str]:
    """Return the package of an engine and its version, as a report states it; raises as `open_engine` does."""
    if name not in _ENGINES:
        raise UsageError(f"there is no engine {name!r} here; there are onnxruntime, {', '.join(OTHERS)}")
    package, _ = _ENGINES[name]
    _imported(package)
    return {package: importlib.metadata.version(package)}


def _imported(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError:
        raise EngineMissing(f"{package} is not installed: {install_line('engines')}") from None
