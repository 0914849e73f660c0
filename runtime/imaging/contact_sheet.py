"""Write the preprocessed pictures as one PNG: one as it is, several side by side."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from runtime.errors import ImageError
from runtime.imaging.load import Source
from runtime.imaging.preprocess import Fit, Invert, to_pixels
from runtime.storage import write_bytes

COLUMNS, GAP, PAPER = 16, 2, 128  # pictures a row, pixels between them, and their level


def draw_sheet(pictures: Sequence[NDArray[np.uint8]]) -> Image.Image:
    """Return pictures: uint8 (28, 28) each, in reading order, on a grey sheet; a single one without any."""
    if len(pictures) == 1:
        return Image.fromarray(pictures[0])
    columns = min(COLUMNS, max(1, len(pictures)))
    height, width = pictures[0].shape if pictures else (0, 0)
    rows = math.ceil(len(pictures) / columns)
    size = columns * (width + GAP) + GAP, rows * (height + GAP) + GAP
    sheet = Image.new("L", size, PAPER)
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        sheet.paste(Image.fromarray(picture), (GAP + column * (width + GAP), GAP + row * (height + GAP)))
    return sheet


def recorded(sources: Iterable[Source], seen: list[NDArray[np.uint8]], invert: Invert, fit: Fit) -> Iterator[Source]:
    """Pass sources on, and add to `seen` what becomes of each that can be read."""
    for source in sources:
        with contextlib.suppress(ImageError):  # whoever asked for the sources is told
            seen.append(to_pixels(source, invert=invert, fit=fit).array)
        yield source


def write_sheet(pictures: Sequence[NDArray[np.uint8]], path: str) -> str:
    """Write the sheet as PNG; return what there is to say of that.

    Raises:
        OSError: it cannot be written.
    """
    if not pictures:
        return f"no picture could be read: {path} was not written"
    content = io.BytesIO()
    draw_sheet(pictures).save(content, format="PNG")
    write_bytes(Path(path), content.getvalue())
    return f"wrote what the network saw of {len(pictures)} picture(s) to {path}"
