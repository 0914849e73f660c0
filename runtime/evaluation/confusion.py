"""Draw a confusion matrix as a PNG, with Pillow alone."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from runtime.errors import UsageError
from runtime.evaluation.accuracy import AccuracyReport
from runtime.storage import atomic_write

CELL, GAP, TEXT = 56, 2, 15  # pixels
MOST_CLASSES = 100  # of more, the picture would take a gigabyte
_INK, _PAPER, _RIGHT, _WRONG = (32, 32, 32), (255, 255, 255), (24, 100, 171), (201, 42, 42)


def draw_confusion(report: AccuracyReport) -> Image.Image:
    """Return the matrix, RGB: a row a true class, a column a predicted one; darker is a larger share of its row.

    What is right is blue, what is mistaken red; a mistake's shade is drawn four times as strong, so that 5 % is seen.
    There must be no more than MOST_CLASSES, see `require_drawable`.
    """
    font, large = ImageFont.load_default(TEXT), ImageFont.load_default(TEXT + 3)
    names = report.labels
    margin = int(max(font.getlength(name) for name in names)) + 20
    top = margin + 64
    side = CELL * len(names)
    title = f"{report.model}: {report.correct:,} of {report.n:,} right, {report.top1:.2%}, on {report.device}"
    width = max(margin + side, 20 + int(large.getlength(title))) + 20
    picture = Image.new("RGB", (width, top + side + 20), _PAPER)
    draw = ImageDraw.Draw(picture)
    draw.text((20, 14), title, _INK, large)
    draw.text((20, 40), "rows: true class; columns: predicted", _INK, font)
    for index, name in enumerate(names):
        middle = index * CELL + CELL // 2
        draw.text((margin - 10, top + middle), name, _INK, font, anchor="rm")
        upright = Image.new("RGB", (margin - 20, TEXT + 8), _PAPER)
        ImageDraw.Draw(upright).text((0, upright.height // 2), name, _INK, font, anchor="lm")
        upright = upright.transpose(Image.Transpose.ROTATE_90)
        picture.paste(upright, (margin + middle - upright.width // 2, top - 8 - upright.height))
    totals = report.confusion.sum(axis=1).tolist()
    for row, counts in enumerate(report.confusion.tolist()):
        for column, count in enumerate(counts):
            share = count / max(1, totals[row])
            colour, strength = (_RIGHT, share) if row == column else (_WRONG, min(1.0, 4 * share))
            fill = tuple(round(paper + (ink - paper) * strength) for paper, ink in zip(_PAPER, colour, strict=True))
            left, upper = margin + column * CELL, top + row * CELL
            draw.rectangle((left + GAP, upper + GAP, left + CELL - GAP, upper + CELL - GAP), fill, (222, 226, 230))
            if count:
                ink = _PAPER if strength > 0.5 else _INK
                draw.text((left + CELL // 2, upper + CELL // 2), f"{count}", ink, font, anchor="mm")
    return picture


def require_drawable(labels: Sequence[str]) -> None:
    """Raise UsageError where there are more classes than can be drawn."""
    if len(labels) > MOST_CLASSES:
        raise UsageError(
            f"a confusion matrix of {len(labels)} classes is not drawn, only of up to {MOST_CLASSES}; leave out -o "
            "and take its numbers from --json"
        )


def write_confusion(report: AccuracyReport, path: Path) -> None:
    """Write the picture as PNG, whole or not at all."""
    with atomic_write(path) as file:
        draw_confusion(report).save(file, format="PNG")
