"""Pictures as people have them, each made of one data set image: photographs, screenshots, cut-outs, figures."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

Levels = npt.NDArray[Any]
Rng = np.random.Generator
Kind = Callable[[Levels, Rng], Any]
SIDE = 320  # pixels of a made photograph
SHAPE = (SIDE, SIDE)


def levels_of(values: Levels) -> Image.Image:
    return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))


def placed(image: Levels, rng: Rng, low: float = 0.55, high: float = 0.85) -> Levels:
    """Return the garment's share of the light, 0 to 1: SHAPE, enlarged and put anywhere on the page."""
    side, margin = int(rng.uniform(low, high) * SIDE), int(0.03 * SIDE)
    garment = Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)
    page = np.zeros(SHAPE)
    top, left = (int(rng.integers(margin, SIDE - side - margin + 1)) for _ in SHAPE)
    page[top : top + side, left : left + side] = np.asarray(garment) / 255
    return page


def photo(image: Levels, rng: Rng, light: Levels | float = 235.0) -> Levels:
    """A dark garment on a page that is lit so."""
    return np.asarray(light * (1 - placed(image, rng)))


def grid() -> tuple[Levels, Levels]:
    y, x = np.mgrid[:SIDE, :SIDE] / (SIDE - 1)
    return x, y


def falloff(levels: float) -> Kind:
    def make(image: Levels, rng: Rng) -> Image.Image:
        x, y = grid()
        angle = rng.uniform(0, 2 * np.pi)
        along = (x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle)
        along = (along - along.min()) / np.ptp(along)
        return levels_of(photo(image, rng, 235 - levels * along))

    return make


def vignette(levels: float, at: tuple[float, float] | None = None, dark: bool = False) -> Kind:
    def make(image: Levels, rng: Rng) -> Image.Image:
        x, y = grid()
        cx, cy = at or (0.5, 0.5)
        away = (x - cx) ** 2 + (y - cy) ** 2
        light = 240 - levels * away / away.max()
        if dark:
            return levels_of((255 - light) * 0.5 + placed(image, rng) * 150)
        return levels_of(photo(image, rng, light))

    return make


def two_lights(image: Levels, rng: Rng) -> Image.Image:
    x, _ = grid()
    return levels_of(photo(image, rng, 175 + 60 * (2 * np.abs(x - 0.5)) ** 1.5))


def lamp(image: Levels, rng: Rng) -> Image.Image:
    """A round light in a corner, falling off as 1 / (1 + r2): no polynomial."""
    x, y = grid()
    cx, cy = rng.integers(0, 2, 2)
    return levels_of(photo(image, rng, 120 + 120 / (1 + 1.5 * ((x - cx) ** 2 + (y - cy) ** 2))))


def noisy(sigma: float, slope: float = 0) -> Kind:
    def make(image: Levels, rng: Rng) -> Image.Image:
        x, _ = grid()
        return levels_of(photo(image, rng, 235 - slope * x) + rng.normal(0, sigma, SHAPE))

    return make


def textured(image: Levels, rng: Rng) -> Image.Image:
    """Paper: noise that is correlated over a few pixels."""
    grain = np.asarray(levels_of(128 + rng.normal(0, 60, SHAPE)).filter(ImageFilter.GaussianBlur(2)), np.float64)
    return levels_of(photo(image, rng, 220) + (grain - 128) * 0.7)


def page(low: int, high: int, side: int = 28, light: bool = False, jpeg: bool = False) -> Kind:
    """One's own picture, reduced to `side` pixels: dark on a page of these levels, or light."""

    def make(image: Levels, rng: Rng) -> Any:
        level = rng.uniform(low, high)
        as_it_is = side == 28 and rng.random() < 0.5  # a data set image on that page
        share = image / 255 if as_it_is else placed(image, rng, high=0.93, low=0.75)
        whole = level + (255 - level) * share if light else level * (1 - share)
        small = levels_of(whole).resize((side, side), Image.Resampling(int(rng.choice([1, 2, 3, 4]))))
        return encoded(small, "JPEG", quality=92) if jpeg else small

    return make


def bars(level: int, *, top: float = 0, left: float = 0, only_one: bool = False) -> Kind:
    def make(image: Levels, rng: Rng) -> Image.Image:
        levels = photo(image, rng, rng.uniform(190, 245))
        rows, columns = round(top * SIDE), round(left * SIDE)
        size = SIDE + (1 if only_one else 2) * rows, SIDE + (1 if only_one else 2) * columns
        whole = np.full(size, float(level))
        whole[rows : rows + SIDE, columns : columns + SIDE] = levels
        return levels_of(whole)

    return make


def framed(*borders: tuple[int, int]) -> Kind:
    """Frames of (pixels, level), from the inside out."""

    def make(image: Levels, rng: Rng) -> Image.Image:
        levels = photo(image, rng, rng.uniform(190, 245))
        for pixels, level in borders:
            levels = np.pad(levels, pixels, constant_values=level)
        return levels_of(levels)

    return make


def margin(level: int, factor: int = 8, share: float = 0.12, ticks: bool = False, even: bool = True) -> Kind:
    """A data set image enlarged, as `imshow` or a screenshot has it, with a margin round it."""

    def make(image: Levels, rng: Rng) -> Image.Image:
        big = np.repeat(np.repeat(image, factor, 0), factor, 1)
        base = max(2, round(share * len(big)))
        widths = [base] * 4 if even else rng.integers(2, 3 * base, 4).tolist()
        whole = np.pad(big, ((widths[0], widths[1]), (widths[2], widths[3])), constant_values=level)
        picture = Image.fromarray(whole)
        if ticks:
            draw = ImageDraw.Draw(picture)
            ends = widths[2], widths[0], widths[2] + len(big) - 1, widths[0] + len(big) - 1
            draw.rectangle(ends, outline=0)
            for tick in range(0, 28, 5):
                at = tick * factor + factor // 2
                draw.line((ends[0] - 4, ends[1] + at, ends[0], ends[1] + at), fill=0)
                draw.text((ends[0] - 18, ends[1] + at - 5), str(tick), fill=0)
                draw.line((ends[0] + at, ends[3], ends[0] + at, ends[3] + 4), fill=0)
                draw.text((ends[0] + at - 5, ends[3] + 6), str(tick), fill=0)
        return picture

    return make


def cut_out(colour: str, factor: int = 8, under: int | None = None, soft: bool = False) -> Kind:
    """A garment with an alpha channel: `colour` is what its opaque part shows."""

    def make(image: Levels, rng: Rng) -> bytes:
        big = Image.fromarray(image).resize((28 * factor,) * 2, Image.Resampling.BILINEAR)
        share = np.asarray(big) / 255
        alpha = Image.fromarray(np.where(np.asarray(big) > 8, 255, 0).astype(np.uint8))
        if soft:
            alpha = alpha.filter(ImageFilter.GaussianBlur(1.5))
        if colour == "strokes":
            levels, alpha = np.full(share.shape, 255.0), big
        else:
            light = {
                "data": 255 * share,
                "dark": 255 * (1 - share),
                "pale": 255 - 64 * share,
                "white": 255 - 14 * share,
            }
            levels = light[colour]
        hidden = int(rng.integers(0, 256)) if under is None else under
        grey = levels_of(np.where(np.asarray(alpha) > 0, levels, hidden))
        picture = Image.merge("LA", (grey, alpha)).convert("RGBA")
        whole = Image.new("RGBA", (picture.width + 60, picture.height + 40), (hidden, hidden, hidden, 0))
        whole.paste(picture, (int(rng.integers(0, 60)), int(rng.integers(0, 40))))
        return encoded(whole if rng.random() < 0.5 else picture, "PNG")

    return make


def captioned(*corners: int) -> Kind:
    def make(image: Levels, rng: Rng) -> Image.Image:
        picture = levels_of(photo(image, rng, rng.uniform(200, 245)))
        draw = ImageDraw.Draw(picture)
        for corner in corners or (int(rng.integers(0, 4)),):
            at = (6 if corner % 2 else SIDE - 62, 6 if corner // 2 else SIDE - 18)
            draw.text(at, "IMG 2041", fill=20)
        return picture

    return make


def screenshot(page: float, ink: float, *, side: int = 0) -> Kind:
    """A photograph on a page of another level, with long lines of text above, below and at `side` pixels of margin."""

    def make(image: Levels, rng: Rng) -> Image.Image:
        whole = Image.new("L", (SIDE + 2 * side, SIDE + 160), round(page))
        whole.paste(levels_of(photo(image, rng, rng.uniform(190, 245))), (side, 60))
        draw = ImageDraw.Draw(whole)
        draw.text((8, 8), "12:41   shop.example/item/4711", fill=round(ink), font_size=18)
        draw.text((8, SIDE + 80), "Add to basket", fill=round(ink), font_size=18)
        return whole

    return make


def translucent(alpha: int, corners: int = 0) -> Kind:
    """A photograph that is evenly transparent, or a window with round corners."""

    def make(image: Levels, rng: Rng) -> Image.Image:
        picture = levels_of(photo(image, rng)).convert("RGBA")
        mask = Image.new("L", picture.size, 0)
        ImageDraw.Draw(mask).rounded_rectangle((0, 0, SIDE - 1, SIDE - 1), corners, fill=alpha)
        picture.putalpha(mask)
        return picture

    return make


def small_margin(image: Levels, rng: Rng) -> Levels:
    """28x28 pixels, of which the outer two are a white margin."""
    return np.pad(np.asarray(Image.fromarray(image).resize((24, 24), Image.Resampling.LANCZOS)), 2, constant_values=255)


def dusty(image: Levels, rng: Rng) -> Image.Image:
    picture = levels_of(photo(image, rng, 230))
    draw = ImageDraw.Draw(picture)
    for _ in range(12):
        x, y = rng.integers(4, SIDE - 6, 2).tolist()
        draw.ellipse((x, y, x + 3, y + 3), fill=120)
    return picture


def shadowed(strength: float) -> Kind:
    def make(image: Levels, rng: Rng) -> Image.Image:
        share = placed(image, rng, high=0.75)
        shape = Image.fromarray(np.where(share > 0.04, 255, 0).astype(np.uint8))
        soft = np.asarray(shape.filter(ImageFilter.GaussianBlur(9))) / 255
        dx, dy = rng.integers(-14, 15, 2).tolist()
        soft = np.roll(soft, (dy, dx), (0, 1))
        return levels_of(235 * (1 - strength * soft) * (1 - share))

    return make


def pale(levels: float, light: float = 240, sigma: float = 0, jpeg: int = 0) -> Kind:
    def make(image: Levels, rng: Rng) -> Any:
        values = light - levels * placed(image, rng) + (rng.normal(0, sigma, SHAPE) if sigma else 0)
        picture = levels_of(values)
        return encoded(picture, "JPEG", quality=jpeg) if jpeg else picture

    return make


def coloured(image: Levels, rng: Rng) -> bytes:
    """Dark on a page of some colour, JPEG."""
    shade = photo(image, rng, 1.0)
    hue = rng.uniform(120, 255, 3)
    return encoded(Image.merge("RGB", [levels_of(shade * value) for value in hue]), "JPEG", quality=85)


def tiles(image: Levels, rng: Rng) -> Image.Image:
    y, x = np.mgrid[:SIDE, :SIDE]
    step = int(rng.integers(30, 70))
    light = np.where((x // step + y // step) % 2, 225.0, rng.uniform(120, 190))
    light[(x % step < 3) | (y % step < 3)] = 90
    return levels_of(photo(image, rng, light))


def planks(image: Levels, rng: Rng) -> Image.Image:
    step = int(rng.integers(24, 60))
    rows = np.repeat(rng.uniform(110, 220, SIDE // step + 1), step)[:SIDE, None]
    grain = np.repeat(rng.normal(0, 6, (SIDE, 1)), SIDE, 1)
    light = rows + grain
    light[::step] = 60
    return levels_of(photo(image, rng, light if rng.random() < 0.5 else light.T))


def clutter(image: Levels, rng: Rng) -> Image.Image:
    picture = Image.new("L", SHAPE, 200)
    draw = ImageDraw.Draw(picture)
    for _ in range(25):
        x, y = rng.integers(-30, SIDE, 2).tolist()
        w, h = rng.integers(20, 110, 2).tolist()
        (draw.ellipse if rng.random() < 0.5 else draw.rectangle)((x, y, x + w, y + h), fill=int(rng.integers(20, 250)))
    return levels_of(photo(image, rng, np.asarray(picture, np.float64)))


def mapped(name: str, factor: int = 1) -> Kind:
    def make(image: Levels, rng: Rng) -> Image.Image:
        from matplotlib import colormaps

        big = np.repeat(np.repeat(image, factor, 0), factor, 1)
        return Image.fromarray((colormaps[name](big) * 255).astype(np.uint8))

    return make


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    content = io.BytesIO()
    picture.save(content, kind, **options)
    return content.getvalue()


def turned(image: Levels, rng: Rng) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = levels_of(photo(image, rng)).transpose(Image.Transpose.ROTATE_90)
    return encoded(stored, "JPEG", quality=90, exif=exif)


def cmyk(image: Levels, rng: Rng) -> bytes:
    return encoded(Image.fromarray(image).convert("RGB").convert("CMYK"), "TIFF")


def sixteen_bit(image: Levels, rng: Rng) -> bytes:
    return encoded(Image.fromarray(image.astype(np.uint16) * 257), "PNG")


def resized(side: int, filter_: Image.Resampling, negative: bool = False) -> Kind:
    def make(image: Levels, rng: Rng) -> Image.Image:
        return Image.fromarray(255 - image if negative else image).resize((side, side), filter_)

    return make


# name: (how it is made, the accuracy that it must reach or None, whether a warning is as good as the right answer)
KINDS: dict[str, tuple[Kind, float | None, bool]] = {
    "plain": (lambda image, rng: encoded(Image.fromarray(image), "PNG"), None, False),
    "negative": (lambda image, rng: encoded(Image.fromarray(255 - image), "PNG"), None, False),
    "resized to 224, bicubic": (resized(224, Image.Resampling.BICUBIC), None, False),
    "resized to 280, nearest": (resized(280, Image.Resampling.NEAREST), None, False),
    "resized to 64, bilinear, negative": (resized(64, Image.Resampling.BILINEAR, True), None, False),
    "JPEG": (lambda image, rng: encoded(Image.fromarray(image), "JPEG", quality=90), None, False),
    "photograph": (lambda image, rng: encoded(levels_of(photo(image, rng)), "JPEG", quality=85), None, False),
    "turned": (turned, None, False),
    "CMYK": (cmyk, None, False),
    "16 bits": (sixteen_bit, None, False),
    "padded to 32": (lambda image, rng: np.pad(image, 2), None, False),
    "reduced to 28, dark on 190 to 250": (page(190, 250), 0.91, False),
    "reduced to 28, dark on 190 to 250, JPEG": (page(190, 250, jpeg=True), 0.88, False),
    "reduced to 28, light on 5 to 50": (page(5, 50, light=True), 0.91, False),
    "reduced to 32, dark on 190 to 250": (page(190, 250, 32), 0.90, False),
    "reduced to 64, light on 5 to 50": (page(5, 50, 64, light=True), 0.90, False),
    "falloff 40": (falloff(40), 0.90, False),
    "falloff 55": (falloff(55), 0.90, False),
    "falloff 70": (falloff(70), 0.90, False),
    "vignette 80": (vignette(80), 0.90, False),
    "vignette 110": (vignette(110), 0.90, False),
    "vignette of one corner, 110": (vignette(110, (0, 0)), 0.88, False),
    "vignette, light on dark": (vignette(110, dark=True), 0.88, False),
    "light from both sides": (two_lights, 0.88, False),
    "a lamp in a corner": (lamp, 0.88, False),
    "noise of 6": (noisy(6), 0.88, False),
    "noise of 5, falloff 55": (noisy(5, 55), 0.88, False),
    "textured paper": (textured, 0.88, False),
    "letterbox": (bars(0, top=0.1), 0.90, False),
    "letterbox, white": (bars(255, top=0.15), 0.88, False),
    "one bar": (bars(20, top=0.1, only_one=True), 0.88, False),
    "pillarbox": (bars(0, left=0.15), 0.90, False),
    "thin frame": (framed((3, 0)), 0.90, False),
    "thin frame of 1 pixel": (framed((1, 30)), 0.90, False),
    "two frames": (framed((4, 20), (8, 250)), 0.88, False),
    "polaroid": (framed((25, 255), (2, 90)), 0.88, False),
    "figure with axes off": (margin(255, 8, 0.15, even=False), 0.90, False),
    "figure with axes on": (margin(255, 8, 0.15, ticks=True), 0.88, False),
    "white margin": (margin(255, 1, 0.15), 0.89, False),
    "white margin inside 28x28": (small_margin, 0.88, False),
    "white margin, large": (margin(255, 10, 0.2), 0.89, False),
    "grey margin": (margin(128, 6, 0.1), 0.88, False),
    "cut-out, data set image": (cut_out("data"), 0.89, False),
    "cut-out, data set image, 28x28": (cut_out("data", 1), 0.89, False),
    "cut-out, dark": (cut_out("dark"), 0.89, False),
    "cut-out, dark, soft edge on black": (cut_out("dark", under=0, soft=True), 0.88, False),
    "cut-out, pale": (cut_out("pale"), 0.89, False),
    "cut-out, white": (cut_out("white", under=255), 0.89, False),
    "white strokes": (cut_out("strokes", under=255), 0.89, False),
    "caption in a corner": (captioned(), 0.90, False),
    "captions in all corners": (captioned(0, 1, 2, 3), 0.88, False),
    "screenshot of a phone, dark": (screenshot(0, 255), 0.88, False),
    "screenshot of a phone, white": (screenshot(255, 0), 0.88, False),
    "screenshot of a browser": (screenshot(30, 230, side=100), 0.88, False),
    "evenly transparent": (translucent(100), 0.90, False),
    "round corners": (translucent(255, 30), 0.90, False),
    "dust": (dusty, 0.88, False),
    "soft shadow": (shadowed(0.25), 0.87, False),
    "softer shadow": (shadowed(0.12), 0.88, False),
    "contrast 64": (pale(64), 0.88, False),
    "contrast 30": (pale(30), 0.88, False),
    "contrast 14": (pale(14), 0.70, False),
    "contrast 64, noise of 3, JPEG": (pale(64, 230, 3, 85), 0.86, False),
    "contrast 30, noise of 2, JPEG": (pale(30, 230, 2, 90), 0.80, False),
    "coloured page": (coloured, 0.90, False),
    "tiles": (tiles, 0.90, True),
    "planks": (planks, 0.90, True),
    "clutter": (clutter, 0.90, True),
    "viridis": (mapped("viridis"), 0.90, True),
    "viridis, 224": (mapped("viridis", 8), 0.90, True),
    "jet": (mapped("jet"), 0.90, True),
    "magma, 224": (mapped("magma", 8), 0.90, True),
    "turbo": (mapped("turbo"), 0.90, True),
    "Spectral": (mapped("Spectral"), 0.90, True),
    "Blues": (mapped("Blues"), 0.90, True),
}
