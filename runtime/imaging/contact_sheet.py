"""Write the preprocessed pictures as one PNG: one as it is, several side by side."""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from runtime.errors import ImageError
from runtime.imaging.load import Source
from runtime.imaging.preprocess import Pixels
from runtime.storage import atomic_write

COLUMNS, GAP, PAPER = 16, 2, 128  # pictures a row, pixels between them, and their level
MAX_PIXELS = 2**26  # of a sheet: 74,565 pictures of 28x28, or 1,313 of 224x224


def draw_sheet(pictures: Sequence[NDArray[np.uint8]]) -> Image.Image:
    """Return pictures of one size in reading order on a grey sheet, mode L or RGB; a single one without any.

    Args:
        pictures: uint8 (H, W) or (3, H, W) each, at least one.
    """
    images = [Image.fromarray(picture if picture.ndim == 2 else picture.transpose(1, 2, 0)) for picture in pictures]
    if len(images) == 1:
        return images[0]
    columns = min(COLUMNS, len(images))
    width, height = images[0].size
    rows = math.ceil(len(images) / columns)
    size = columns * (width + GAP) + GAP, rows * (height + GAP) + GAP
    mode = images[0].mode
    sheet = Image.new(mode, size, PAPER if mode == "L" else (PAPER,) * 3)
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        sheet.paste(image, (GAP + column * (width + GAP), GAP + row * (height + GAP)))
    return sheet


def recorded(
    sources: Iterable[Source], preprocess: Callable[[Source], Pixels], seen: list[NDArray[np.uint8]]
) -> Iterator[Source]:
    """Pass sources on, and add to `seen` what becomes of each that can be read, up to what a sheet has room for."""
    room = MAX_PIXELS
    for source in sources:
        with contextlib.suppress(ImageError):  # whoever asked for the sources is told
            if room > 0:
                array = preprocess(source).array
                room -= (array.shape[-2] + GAP) * (array.shape[-1] + GAP)
                seen.append(array)
        yield source


def write_sheet(pictures: Sequence[NDArray[np.uint8]], path: str) -> str:
    """Write the sheet as PNG; return what there is to say of that."""
    if not pictures:
        return f"no picture could be read: {path} was not written"
    with atomic_write(Path(path)) as file:
        draw_sheet(pictures).save(file, format="PNG")
    return f"wrote what the network saw of {len(pictures)} picture(s) to {path}"
