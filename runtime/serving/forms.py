"""The one file of a form, as `curl -F file=@shoe.png` and browsers send it."""

from __future__ import annotations

from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from runtime.errors import quoted
from runtime.serving.refusal import Refusal

FORM = "multipart/form-data"
MAX_PARTS = 64  # each costs more than its bytes; of one file and some fields that people add, there are fewer


def uploaded_file(content_type: str, body: bytes) -> tuple[bytes, str]:
    """Return the content of the form's only file, and its name; other fields are passed over.

    Raises:
        Refusal: 400, the form is damaged, or holds no file or several, or too many parts.
    """
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise Refusal(400, f"the form states no boundary: its content type is {quoted(content_type)}")
    if body.count(b"\r\n--" + boundary) > MAX_PARTS:
        raise Refusal(400, f"the form has more than {MAX_PARTS} parts, expected 1 file: `curl -F file=@shoe.png`")
    reader = _Reader()
    try:
        parser = MultipartParser(boundary, reader.callbacks())
        parser.write(body)
        parser.finalize()
    except (FormParserError, ValueError) as error:
        raise Refusal(400, f"the form cannot be read: {error}") from error
    if not reader.ended:
        raise Refusal(400, "the form cannot be read: it ends before its last boundary")
    if len(reader.files) != 1:
        raise Refusal(400, f"the form holds {len(reader.files)} files, expected 1: `curl -F file=@shoe.png`")
    name, content = reader.files[0]
    return bytes(content), name


class _Reader:
    """What the parser calls as it goes through the form."""

    def __init__(self) -> None:
        self.files: list[tuple[str, bytearray]] = []
        self.ended = False
        self._header, self._value, self._disposition = b"", b"", b""
        self._is_file = False

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self.on_part_begin,
            "on_header_field": self.on_header_field,
            "on_header_value": self.on_header_value,
            "on_header_end": self.on_header_end,
            "on_headers_finished": self.on_headers_finished,
            "on_part_data": self.on_part_data,
            "on_end": self.on_end,
        }

    def on_part_begin(self) -> None:
        self._disposition, self._is_file = b"", False

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header, self._value = b"", b""

    def on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._is_file = b"filename" in options
        if self._is_file:
            self.files.append((options[b"filename"].decode("utf-8", "replace"), bytearray()))

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self.files[-1][1].extend(memoryview(data)[start:end])

    def on_end(self) -> None:
        self.ended = True
