"""From any picture to what the network sees: uint8 (28, 28), grey, a light garment on black.

The one way in, in this order:

1. **Read.** A regular file, bytes, a binary stream, a Pillow picture or a uint8 array; at most `MAX_FILE_BYTES`.
2. **Decode.** Pillow, one of `FORMATS` chosen by how the file begins (never by its name), at most `MAX_PIXELS`,
   counted from the header before a pixel is decoded. Of an animation, the first frame.
3. **Turn** upright, as EXIF says.
4. **Flatten.** Transparency becomes white, the page that Fashion-MNIST's own catalogue photographs were taken on.
5. **Grey**, by luma (ITU-R 601). 16-bit, 32-bit and float levels are scaled to 8 bits, not clipped.
6. **Survey.** The background is the commonest level along the picture's edge; the garment is what differs from it.
7. **Fit.** A picture of exactly 28x28 is passed through. A square one that the garment already fills, as an enlarged
   data set image does, is only reduced. Any other is cropped to the garment, its longest side becomes 28 pixels and it
   is centred: 98.3 % of Fashion-MNIST is framed so, to the pixel.
8. **Polarity.** Where the garment is darker than the background, the picture is inverted. Outside the pass-through the
   background then becomes black, whatever grey it was: Fashion-MNIST's backgrounds are exactly 0.

Every failure is an `ImageError` whose `kind` is one of: missing, not_a_file, unreadable, empty, not_an_image,
truncated, corrupt, too_large, array. This module knows nothing of models, labels or batches.
"""

import io
import math
import os
import re
import stat
import struct
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, BinaryIO, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from runtime.errors import ImageError

Source: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO | Image.Image | NDArray[Any]
Invert: TypeAlias = Literal["auto", "yes", "no"]
Fit: TypeAlias = Literal["auto", "exact", "catalogue"]

SIDE = 28  # pixels, the network's picture
MAX_PIXELS = 2**26  # 8192 x 8192; a decoded picture then takes at most 256 MiB
MAX_FILE_BYTES = 2**28  # 256 MiB, enough for MAX_PIXELS uncompressed in colour

# How a file begins, and the Pillow class that reads it. Loading that one class instead of calling `Image.open` spares
# the import of every other plugin, and a warning about large pictures that `MAX_PIXELS` has already settled.
FORMATS: dict[str, tuple[bytes, str]] = {
    "PNG": (rb"\x89PNG\r\n\x1a\n", "PngImagePlugin.PngImageFile"),
    "JPEG": (rb"\xff\xd8\xff", "JpegImagePlugin.JpegImageFile"),
    "WEBP": (rb"RIFF....WEBP", "WebPImagePlugin.WebPImageFile"),
    "GIF": (rb"GIF8[79]a", "GifImagePlugin.GifImageFile"),
    "BMP": (rb"BM", "BmpImagePlugin.BmpImageFile"),
    "TIFF": (rb"II[*+]\0|MM\0[*+]", "TiffImagePlugin.TiffImageFile"),
    "PPM": (rb"P[1-6]\s", "PpmImagePlugin.PpmImageFile"),
    "AVIF": (rb"....ftypavi[fs]", "AvifImagePlugin.AvifImageFile"),
}

# EXIF orientation to the turn that undoes it; 1 is upright.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Chosen by measurement on Fashion-MNIST images made into photographs; tests/test_images.py repeats it.
SURVEY_SIDE = 448  # pixels: larger pictures are surveyed reduced, which also averages their noise away
NOISE = 12  # grey levels that a flat background may stray
EDGE = 0.22  # share of the garment's contrast at which it begins: about where blurred edges lie
FILLED = 0.9  # share of a square picture that the garment of a data set image spans, faint rims not counted
"""


