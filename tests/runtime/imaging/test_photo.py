"""Pictures for classifiers of photographs: the pixels of torchvision's `ImageClassification` preset, by Pillow alone.

Lost otherwise: accuracy, silently, by a resize or a crop that is not the one of the training.
"""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms._presets import ImageClassification
from torchvision.transforms.functional import resize

from runtime import ImageError, InputSpec
from runtime.imaging.photo import MAX_RESIZED, to_levels

Levels = npt.NDArray[np.uint8]
SPECS = (
    InputSpec.photo(224),
    InputSpec.photo(96, resize=97, interpolation="bicubic"),
    InputSpec.photo(65, resize=65),
    InputSpec.photo(64, resize=81, channels=1),
    InputSpec.photo((48, 96), resize=111),
    InputSpec.photo(64, resize="stretch"),
    InputSpec.photo((90, 31), resize="stretch", interpolation="bicubic", channels=1),
)


def preset(picture: Image.Image, spec: InputSpec) -> Levels:
    """Return what torchvision makes of the picture, before it normalises: uint8 (C, H, W)."""
    mode = InterpolationMode.BICUBIC if spec.interpolation == "bicubic" else InterpolationMode.BILINEAR
    colours = picture.convert("L" if spec.channels == 1 else "RGB")
    if spec.resize == "stretch":
        levels = np.asarray(resize(colours, [spec.height, spec.width], mode))
        return levels[None] if spec.channels == 1 else levels.transpose(2, 0, 1)
    made = ImageClassification(crop_size=0, resize_size=spec.resize or 0, interpolation=mode)
    made.crop_size, made.mean, made.std = [spec.height, spec.width], [0.0] * spec.channels, [1.0] * spec.channels
    pixels: torch.Tensor = made(colours)
    return (pixels * 255).round().to(torch.uint8).numpy()


def photographs(images: Levels, count: int) -> Iterator[Image.Image]:
    """Yield pictures of many sizes, in colour, with edges and noise: test images side by side, enlarged and tinted."""
    rng = np.random.default_rng(17)
    for _ in range(count):
        columns, rows = rng.integers(1, 6, 2)
        chosen = images[rng.integers(0, len(images), (3, rows, columns))]
        sheet = chosen.transpose(1, 3, 2, 4, 0).reshape(28 * rows, 28 * columns, 3)
        noisy = np.clip(sheet.astype(np.int16) + rng.integers(-20, 21, sheet.shape), 0, 255).astype(np.uint8)
        # From a few pixels to about a thousand, and of all shapes.
        size = tuple((2 ** rng.uniform(2.5, 10, 2)).astype(int).tolist())
        yield Image.fromarray(noisy).resize(size, Image.Resampling.BICUBIC)


def channels_first(levels: Levels) -> Levels:
    return levels if levels.ndim == 3 else levels[None]


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_the_pixels_are_those_of_torchvisions_preset(test_images, spec):
    for picture in photographs(test_images, 12):
        file = io.BytesIO()
        picture.save(file, "PNG")

        np.testing.assert_array_equal(channels_first(to_levels(file.getvalue(), spec)), preset(picture, spec))


@pytest.mark.parametrize("size", [(224, 224), (256, 256), (256, 400), (257, 256), (1, 1), (3, 200), (333, 2000)])
def test_sizes_at_which_nothing_is_resized_or_halves_are_rounded(rng, size):
    picture = Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8))
    for spec in (InputSpec.photo(224), InputSpec.photo(223, resize=256)):
        np.testing.assert_array_equal(to_levels(picture, spec), preset(picture, spec))


def files(picture: Image.Image) -> dict[str, tuple[bytes, Image.Image]]:
    """One picture as files of many kinds, each with the picture that it shows."""
    palette, grey, cmyk = picture.quantize(200), picture.convert("L"), picture.convert("CMYK")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    turned = Image.Exif()
    turned[0x0112] = 6
    kinds: dict[str, tuple[Image.Image, dict[str, Any], Image.Image | None]] = {
        "colour JPEG": (picture, {"format": "JPEG", "quality": 90}, None),
        "grey JPEG": (grey, {"format": "JPEG"}, None),
        "CMYK JPEG": (cmyk, {"format": "JPEG"}, None),
        "CMYK TIFF": (cmyk, {"format": "TIFF"}, cmyk.convert("RGB")),
        "palette": (palette, {"format": "PNG"}, palette.convert("RGB")),
        "grey": (grey, {"format": "PNG"}, grey),
        "1-bit": (picture.convert("1"), {"format": "PNG"}, picture.convert("1").convert("RGB")),
        "16-bit": (deep, {"format": "PNG"}, grey),
        "animation": (palette, {"format": "GIF", "save_all": True, "append_images": [palette.rotate(90)]}, None),
        "upright by EXIF": (
            picture.transpose(Image.Transpose.ROTATE_90),
            {"format": "PNG", "exif": turned},
            picture,
        ),
        "lossless WebP": (picture, {"format": "WEBP", "lossless": True}, picture),
    }
    found = {}
    for kind, (image, how, shown) in kinds.items():
        file = io.BytesIO()
        image.save(file, **how)
        found[kind] = file.getvalue(), shown or Image.open(io.BytesIO(file.getvalue()))
    return found


def test_files_of_every_kind_give_the_pixels_that_people_train_on(test_images):
    (picture,) = photographs(test_images, 1)
    for kind, (file, shown) in files(picture).items():
        for spec in (SPECS[1], SPECS[3]):
            found = channels_first(to_levels(file, spec))

            np.testing.assert_array_equal(found, preset(shown, spec), err_msg=f"{kind}, {spec}")


def test_what_is_transparent_is_white_in_every_mode(test_images):
    spec = InputSpec.photo(28, resize=28)
    alpha = np.full((28, 28), 255, np.uint8)
    alpha[:14] = 0
    colour = Image.fromarray(np.stack([test_images[1], 255 - test_images[1], test_images[2], alpha], axis=2))
    key = Image.new("RGB", (28, 28), (7, 7, 7))
    key.paste((200, 30, 40), (0, 14, 28, 28))
    file = io.BytesIO()
    key.save(file, "PNG", transparency=(7, 7, 7))
    for source in (colour, colour.convert("LA"), np.asarray(colour), file.getvalue()):
        levels = to_levels(source, spec)

        assert (levels[:, :14] == 255).all()
        assert (levels[:, 14:] != 255).any()
    np.testing.assert_array_equal(to_levels(colour, spec)[:, 14:], np.asarray(colour).transpose(2, 0, 1)[:3, 14:])


def test_arrays_are_pictures_and_the_answer_is_the_callers_own(rng):
    spec = InputSpec.photo(28, resize=28)
    array = rng.integers(0, 256, (28, 28, 3), np.uint8)
    levels = to_levels(array, spec)

    np.testing.assert_array_equal(levels, array.transpose(2, 0, 1))
    levels[:] = 0
    assert array.any()
    assert to_levels(array[..., 0], spec).shape == (3, 28, 28)
    with pytest.raises(ImageError, match="expected an array of uint8"):
        to_levels(array.astype(np.float32), spec)


@pytest.mark.parametrize("size", [(20, 6000), (6000, 20)])
def test_a_long_strip_is_cropped_before_it_is_enlarged_and_at_most_a_level_off(rng, size):
    """Lost otherwise: gigabytes for one small file."""
    spec = InputSpec.photo(224)
    strip = Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8))
    assert isinstance(spec.resize, int)
    assert spec.resize**2 * 300 > MAX_RESIZED
    difference = np.abs(to_levels(strip, spec).astype(int) - preset(strip, spec))

    assert difference.max() <= 1
    assert to_levels(Image.new("RGB", (1, 100_000)), spec).shape == spec.shape
