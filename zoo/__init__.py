"""The model zoo: networks of D2L, recipes that train them, and the `zoo` command.

The names are loaded when first used: `zoo --help` must answer without waiting for PyTorch, or without having it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.models import create_model, list_models

__all__ = ["create_model", "list_models"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from zoo import models

        return getattr(models, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
