"""Run ONNX image classifiers without PyTorch.

The names are loaded when first used, so that a command that needs no session does not wait for onnxruntime.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtime.classifier import Classifier
    from runtime.errors import (
        DatasetError,
        DeviceUnavailable,
        FashionZooError,
        ImageError,
        ModelInvalid,
        ModelNotFound,
        UsageError,
    )
    from runtime.model.registry import list_models
    from runtime.model.spec import InputSpec
    from runtime.prediction import Candidate, Prediction

__version__ = "0.2.0"  # of the whole project: pyproject.toml reads it, and so it is known where nothing is installed
__all__ = [
    "Candidate",
    "Classifier",
    "DatasetError",
    "DeviceUnavailable",
    "FashionZooError",
    "ImageError",
    "InputSpec",
    "ModelInvalid",
    "ModelNotFound",
    "Prediction",
    "UsageError",
    "list_models",
]

_HOMES = {
    "Candidate": "prediction",
    "Classifier": "classifier",
    "InputSpec": "model.spec",
    "Prediction": "prediction",
    "list_models": "model.registry",
}


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module(f"runtime.{_HOMES.get(name, 'errors')}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
