"""From any picture to the pixels of an image classifier, as torchvision's `ImageClassification` preset makes them.

The picture is decoded (`runtime.imaging.load.decode_on_white`), resized so that its shorter side is `InputSpec.resize`
pixels, and its centre is cropped; where `resize` is "stretch", it is resized to H x W alone. Pillow resizes in both
libraries, and the sizes are rounded as torchvision rounds them, so the pixels are equal, bit by bit
(tests/runtime/imaging/test_photo.py), but in two cases:

- `Image.open(path).convert("RGB")`, which people write in front of the preset, leaves a photograph lying on its side
  where EXIF says so, shows the colours below transparent pixels, and cuts off levels of 16 bits. Here the picture is
  upright, on white, and scaled to 8 bits.
- Of a resized picture that would have more than `MAX_RESIZED` pixels, such as a strip of 1 x 100,000, only the crop is
  computed. Pillow takes its edges as float32, so that a pixel may be one level off.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from runtime.imaging.load import Source, decode_on_white
from runtime.model.spec import InputSpec

MAX_RESIZED = 2**24  # 64 MiB
_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def to_levels(source: Source, spec: InputSpec, max_pixels: int | None = None) -> NDArray[np.uint8]:
    """Turn any picture, as `runtime.imaging.preprocess.to_pixels` takes it, into levels for an input of photos.

    Returns:
        uint8 (H, W) of one channel, or (C, H, W); the caller's own copy. `InputSpec.from_levels` makes floats of it.

    Raises:
        ImageError: the picture cannot be read; its kinds are those of `to_pixels`.
    """
    picture = decode_on_white(source, "L" if spec.channels == 1 else "RGB", max_pixels)
    levels = np.asarray(_resized_centre(picture, spec))
    return levels.copy() if spec.channels == 1 else np.ascontiguousarray(levels.transpose(2, 0, 1))


def _resized_centre(picture: Image.Image, spec: InputSpec) -> Image.Image:
    """Resize the shorter side and crop the centre, `InputSpec.height` x `width`; or stretch to that."""
    assert spec.resize is not None  # the preprocess "photo" has one
    how = _FILTERS[spec.interpolation]
    if spec.resize == "stretch":
        return picture.resize((spec.width, spec.height), how)
    shorter, longer = sorted(picture.size)
    scaled = int(spec.resize * longer / shorter)  # rounded down, in float64
    width, height = (spec.resize, scaled) if picture.width <= picture.height else (scaled, spec.resize)
    # Halves go to the even number. The crop is never larger than the resized picture: the spec sees to that.
    left, top = round((width - spec.width) / 2), round((height - spec.height) / 2)
    right, bottom = left + spec.width, top + spec.height
    if width * height > max(MAX_RESIZED, spec.width * spec.height):
        across, down = picture.width / width, picture.height / height
        box = left * across, top * down, min(right * across, picture.width), min(bottom * down, picture.height)
        return picture.resize((spec.width, spec.height), how, box=box)
    if picture.size != (width, height):
        picture = picture.resize((width, height), how)
    return picture.crop((left, top, right, bottom))
