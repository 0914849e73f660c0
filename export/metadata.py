"""Read the metadata of a file from its bytes."""

import onnx

from runtime.errors import ModelInvalid
from runtime.model.metadata import Metadata, parse_metadata


def metadata_of(content: bytes, what: str) -> Metadata:
    """Return the checked metadata of a model's bytes; `what` names the file in messages.

    Raises:
        ModelInvalid: it is absent, malformed or of another format.
    """
    try:
        model = onnx.load_from_string(content)
    except Exception as error:  # protobuf's own kind, which it keeps in a private module
        raise ModelInvalid(f"{what} is no ONNX file, or a damaged one: {error}") from error
    return parse_metadata({prop.key: prop.value for prop in model.metadata_props}, what)
