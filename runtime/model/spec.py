"""`InputSpec`: the input of a network, and how a picture becomes it."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeAlias, TypeGuard, get_args

import numpy as np
import numpy.typing as npt

from runtime.errors import ImageError, UsageError

INPUT = "image"  # the input's name in every file
BATCH = "batch"  # the name of its first axis

Array: TypeAlias = npt.NDArray[Any]
Interpolation: TypeAlias = Literal["bilinear", "bicubic"]
Resize: TypeAlias = int | Literal["stretch"]

BATCH_SIZE = 256  # images in a batch by default; fewer where they are large: a batch has at most so many values
_BATCH_VALUES = 2**23  # 55 images of 3 x 224 x 224
MAX_SIDE = 4096  # pixels; an input beyond it is a mistake or an attack
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_POLARITY = "light garment on black background"
_CHANNELS = {"Gray8": 1, "Rgb8": 3}
_DTYPES: dict[str, np.dtype[Any]] = {"UINT8": np.dtype(np.uint8), "FP32": np.dtype(np.float32)}


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """The input of a network: `[batch, C, H, W]` of one type, and the named preprocess that makes it of a picture.

    Use `InputSpec.fashion_mnist()` or `InputSpec.photo(size, ...)`.

    Attributes:
        height, width: H and W, in pixels.
        pixel_format: "Gray8" (C = 1) or "Rgb8" (C = 3).
        datatype: "UINT8", or "FP32" where the file takes floats.
        range: the least and the greatest value: (0, 255) of UINT8.
        preprocess: "garment" (find the garment, bring it to 28x28 on black, see `runtime.imaging.preprocess`) or
            "photo" (resize, crop the centre, see `runtime.imaging.photo`).
        resize: of "photo", the length of the shorter side before the crop, in pixels; or "stretch": the whole picture
            becomes `height` x `width`, whatever its shape.
        interpolation: of "photo": "bilinear" or "bicubic", both with antialias.
        mean, std: one number a channel. The graph divides the pixels' range away and normalises: the network gets
            `((x - low) / (high - low) - mean) / std` in float32. Both None: it gets the pixels as they are.
    """

    height: int
    width: int
    pixel_format: Literal["Gray8", "Rgb8"]
    datatype: Literal["UINT8", "FP32"] = "UINT8"
    range: tuple[float, float] = (0, 255)
    preprocess: Literal["garment", "photo"] = "photo"
    resize: Resize | None = None
    interpolation: Interpolation = "bilinear"
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if (fault := self._fault()) is not None:
            raise UsageError(f"an InputSpec {fault}")

    def _fault(self) -> str | None:
        if self.pixel_format not in _CHANNELS or self.datatype not in _DTYPES:
            return (
                f"has a pixel format of {', '.join(_CHANNELS)} and a datatype of {', '.join(_DTYPES)}, "
                f"not {self.pixel_format!r} and {self.datatype!r}"
            )
        if not all(_is_whole(side) and 1 <= side <= MAX_SIDE for side in (self.height, self.width)):
            return f"has a height and a width from 1 to {MAX_SIDE} pixels, not {self.height!r} and {self.width!r}"
        if len(self.range) != 2 or not all(map(_is_number, self.range)) or not self.range[0] < self.range[1]:
            return f"has a range of two numbers, the lower one first, not {self.range!r}"
        if self.datatype == "UINT8" and tuple(self.range) != (0, 255):
            return f"of UINT8 has the range (0, 255), not {self.range!r}"
        if self.preprocess == "garment":
            if (self.pixel_format, self.height, self.width, self.resize) != ("Gray8", 28, 28, None):
                return "with the preprocess 'garment' is Gray8 of 28x28 pixels, without a resize"
        elif self.preprocess != "photo":
            return f"has the preprocess 'garment' or 'photo', not {self.preprocess!r}"
        elif self.resize != "stretch" and not (
            _is_whole(self.resize) and max(self.height, self.width) <= self.resize <= 2 * MAX_SIDE
        ):
            return (
                f"crops {self.height}x{self.width}, so its resize should be at least that, or 'stretch', "
                f"not {self.resize!r}"
            )
        if self.interpolation not in get_args(Interpolation):
            return f"has an interpolation of {', '.join(get_args(Interpolation))}, not {self.interpolation!r}"
        if (self.mean is None) != (self.std is None):
            return "has both a mean and a std, or neither"
        if self.mean is not None and self.std is not None:
            numbers = [*self.mean, *self.std]
            if not len(self.mean) == len(self.std) == self.channels or not all(map(_is_number, numbers)):
                return f"has {self.channels} numbers as its mean and as its std, not {self.mean!r} and {self.std!r}"
            if min(self.std) <= 0:
                return f"has a std above 0, not {self.std!r}"
        return None

    @classmethod
    def fashion_mnist(cls, mean: Sequence[float] | None = None, std: Sequence[float] | None = None) -> Self:
        """Return the input of Fashion-MNIST's classifiers: uint8 [batch, 1, 28, 28], a light garment on black.

        Args:
            mean: one number, where the network takes normalised floats: it gets `(x / 255 - mean) / std`.
            std: the same.
        """
        return cls(
            height=28, width=28, pixel_format="Gray8", preprocess="garment", mean=_numbers(mean), std=_numbers(std)
        )

    @classmethod
    def photo(
        cls,
        size: int | tuple[int, int] = 224,
        *,
        resize: Resize | None = None,
        mean: Sequence[float] | None = IMAGENET_MEAN,
        std: Sequence[float] | None = IMAGENET_STD,
        interpolation: Interpolation = "bilinear",
        channels: Literal[1, 3] = 3,
        datatype: Literal["UINT8", "FP32"] = "UINT8",
        range: tuple[float, float] | None = None,
    ) -> Self:
        """Return the input of an image classifier: a picture is resized and its centre cropped, as by torchvision's
        `ImageClassification` preset; the graph normalises.

        Args:
            size: side of the crop in pixels, or (height, width).
            resize: length of the shorter side before the crop; by default 8/7 of the crop, as 256 is of 224. "stretch"
                resizes to `size` without a crop, as torchvision's `Resize((height, width))` does.
            mean: one number a channel, ImageNet's by default; zeros, and ones as `std`, for a network that takes 0..1;
                None, as `std` too, for one that takes the pixels as they are.
            std: one number a channel, ImageNet's by default.
            interpolation: of the resize, with antialias.
            channels: 3 for RGB, 1 for grey.
            datatype: of the file's input.
            range: of the file's input; of FP32 0..1 by default.

        Raises:
            UsageError: a number makes no sense.
        """
        height, width = size if isinstance(size, tuple) else (size, size)
        if resize is None and _is_whole(height) and _is_whole(width):
            resize = round(max(height, width) * 8 / 7)
        if channels == 1 and mean is IMAGENET_MEAN and std is IMAGENET_STD:
            mean, std = (0.0,), (1.0,)
        return cls(
            height=height,
            width=width,
            pixel_format="Gray8" if channels == 1 else "Rgb8",
            datatype=datatype,
            range=(0.0, 1.0) if range is None and datatype == "FP32" else range or (0, 255),
            preprocess="photo",
            resize=resize,
            interpolation=interpolation,
            mean=_numbers(mean),
            std=_numbers(std),
        )

    @property
    def channels(self) -> int:
        return _CHANNELS[self.pixel_format]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.channels, self.height, self.width

    @property
    def dtype(self) -> np.dtype[Any]:
        return _DTYPES[self.datatype]

    @property
    def framing(self) -> str:
        """How a picture of any shape comes to H x W, as in a sentence."""
        size = f"{self.height}x{self.width}"
        if self.preprocess == "garment":
            return f"the garment found and brought to {size} pixels"
        if self.resize == "stretch":
            return f"stretched to {size} pixels"
        return f"shorter side resized to {self.resize} pixels, centre of {size} cropped"

    @property
    def batch_size(self) -> int:
        """How many images are run at once unless somebody says otherwise: fewer of large ones, which need memory."""
        return max(1, min(BATCH_SIZE, _BATCH_VALUES // math.prod(self.shape)))

    def __str__(self) -> str:
        """As in a sentence: `uint8 (N, 3, 224, 224)`."""
        return f"{self.dtype} (N, {', '.join(map(str, self.shape))})"

    def as_dict(self) -> dict[str, Any]:
        """Return the metadata `input` of a file of format 2."""
        how: dict[str, Any] = {"name": self.preprocess}
        if self.preprocess == "garment":
            how |= {"polarity": _POLARITY}
        else:
            how |= {"resize": self.resize, "crop": [self.height, self.width], "interpolation": self.interpolation}
        normalization = None
        if self.mean is not None and self.std is not None:
            normalization = {"mean": list(self.mean), "std": list(self.std), "inside_graph": True}
        return {
            "name": INPUT,
            "datatype": self.datatype,
            "shape": [BATCH, *self.shape],
            "pixel_format": self.pixel_format,
            "range": [0, 255] if self.datatype == "UINT8" else list(map(float, self.range)),
            "preprocess": how,
            "normalization": normalization,
        }

    @classmethod
    def from_dict(cls, stored: Any) -> Self:
        """Read what `as_dict` wrote.

        Raises:
            ValueError: it is something else; the sentence says what.
        """
        try:
            how, normalization = stored["preprocess"], stored["normalization"] or {}
            read = cls(
                height=stored["shape"][2],
                width=stored["shape"][3],
                pixel_format=stored["pixel_format"],
                datatype=stored["datatype"],
                range=tuple(stored["range"]),
                preprocess=how["name"],
                resize=how.get("resize"),
                interpolation=how.get("interpolation", "bilinear"),
                mean=_numbers(normalization.get("mean")),
                std=_numbers(normalization.get("std")),
            )
            same = is_same_json(read.as_dict(), stored)
        except UsageError as error:
            raise ValueError(str(error)) from error
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"lacks a part or has one of another type ({type(error).__name__}: {error})") from error
        if not same:
            raise ValueError(f"should read {read.as_dict()}")
        return read

    def zeros(self, count: int) -> Array:
        """Return black images: (N, C, H, W)."""
        return self.from_levels(np.zeros((count, *self.shape), np.uint8))

    def random(self, count: int, seed: int = 0) -> Array:
        """Return images of random pixels, the same ones for the same seed: (N, C, H, W)."""
        return self.from_levels(np.random.default_rng(seed).integers(0, 256, (count, *self.shape), dtype=np.uint8))

    def structured(self) -> Array:
        """Return images in which a wrong axis, stride, padding or channel shows: flat ones, one for each channel alone,
        single pixels in corners and elsewhere, checkerboards and ramps: (N, C, H, W)."""
        height, width = self.height, self.width
        rows, columns = np.indices((height, width))
        flat = [np.full((height, width), level) for level in (0, 255, 127)]
        points = [(0, 0), (0, width - 1), (height - 1, 0), (height - 1, width - 1)]
        points += [(height // 2 - 1, width // 2), (height // 2, width // 2 - 1), (1, width - 2), (5 * height // 7, 1)]
        single = [np.where((rows == y) & (columns == x), 255, 0) for y, x in points]
        boards = [np.where((rows // size + columns // size) % 2, 255, 0) for size in (1, 2, 4, 7)]
        ramps = [along * 255 // max(1, length - 1) for along, length in ((rows, height), (columns, width))]
        grey = np.stack([*flat, *single, *boards, *ramps]).astype(np.uint8)
        images = np.repeat(grey[:, None], self.channels, axis=1)
        if self.channels > 1:
            alone = np.zeros((self.channels, *self.shape), np.uint8)
            alone[np.arange(self.channels), np.arange(self.channels)] = 255
            images = np.concatenate([images, alone])
        return self.from_levels(images)

    def from_levels(self, levels: npt.NDArray[np.uint8]) -> Array:
        """Return levels of 0 to 255 in the input's type and range; of UINT8, the same array."""
        if self.datatype == "UINT8":
            return levels
        low, high = self.range
        return (levels.astype(np.float32) * np.float32((high - low) / 255) + np.float32(low)).astype(np.float32)

    def checked(self, pixels: Any) -> Array:
        """Return the array itself, contiguous.

        Raises:
            ImageError: it is of another type or shape, or a float is out of range; `.kind` is "array".
        """
        if not isinstance(pixels, np.ndarray):
            raise ImageError("array", f"expected a numpy array {self}, found {type(pixels).__name__}")
        if pixels.dtype != self.dtype or pixels.ndim != 4 or pixels.shape[1:] != self.shape:
            raise ImageError("array", f"expected {self}, found {pixels.dtype} {pixels.shape}")
        if self.datatype != "UINT8" and pixels.size:
            low, high = float(pixels.min()), float(pixels.max())
            if not self.range[0] <= low <= high <= self.range[1]:  # NaN included
                raise ImageError(
                    "array", f"expected values from {self.range[0]} to {self.range[1]}, found {low} to {high}"
                )
        return np.ascontiguousarray(pixels)


def _is_whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))


def _numbers(values: Sequence[float] | None) -> tuple[float, ...] | None:
    return None if values is None else tuple(float(value) for value in values)


def is_same_json(one: Any, other: Any) -> bool:
    """Whether two values are one as JSON, where 1, 1.0 and true differ, and the order of keys says nothing."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


FASHION_MNIST = InputSpec.fashion_mnist()
