"""From a PyTorch network to one self-contained ONNX file that is proved equal to it.

The names are loaded when first used, since they bring in PyTorch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from export.bundle.artifact import export_network
    from export.confidence import fit_confidence
    from export.description import Description
    from export.verification.report import Report, VerificationFailed
    from export.verification.runner import verify

__all__ = ["Description", "Report", "VerificationFailed", "export_network", "fit_confidence", "verify"]

_HOMES = {
    "Description": "export.description",
    "Report": "export.verification.report",
    "VerificationFailed": "export.verification.report",
    "export_network": "export.bundle.artifact",
    "fit_confidence": "export.confidence",
    "verify": "export.verification.runner",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
