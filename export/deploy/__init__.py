"""A verified model in the layout of a deployment target: a static web folder, a Triton model repository.

One file a layout; each takes a stored model and a folder. None changes the ONNX file: it is copied byte by byte.
"""

from runtime.errors import FashionZooError


class LayoutRefused(FashionZooError):
    """The layout cannot be written here: something it needs is missing, or something else is in its place."""
