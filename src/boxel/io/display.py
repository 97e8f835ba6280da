"""Images for people to look at: grey or colour in 8 bits, the colours of classes, and text."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from boxel.escaping import printable
from boxel.io import itk, split_suffix

__all__ = [
    "class_colour",
    "draw_box",
    "draw_text",
    "drawable",
    "fit_text",
    "get_font",
    "lacking",
    "outline_classes",
    "to_picture",
    "upright_fonts",
    "visible_channels",
    "window_of",
]

PLAIN = ("normal", 400)  # style and weight

# Bright on grey and on stained images, and distinct without colour vision (after Okabe and Ito).
_CLASS_COLOURS = ("#56b4e9", "#f0b000", "#35d69b", "#ff8fd0", "#ff6a3d", "#b9a6ff", "#f0e442", "#d0d0d0")


def class_colour(label: int) -> str:
    """The colour of a class; more than eight classes share colours."""
    return _CLASS_COLOURS[label % len(_CLASS_COLOURS)]


def visible_channels(array: np.ndarray, files: Sequence[Path]) -> np.ndarray:
    """Red, green and blue of an image `(c, *s)` that was read from a colour picture, otherwise its first channel.

    Three files, or the three channels of a file such as NIfTI, are measurements (such as MR sequences).
    """
    is_colour = len(array) == 3 and len(files) == 1 and split_suffix(files[0])[1] not in itk.SUFFIXES
    return array if is_colour else array[:1]


def window_of(channels: np.ndarray) -> tuple[float, float]:
    """The values that are drawn black and white: percentiles 0.5 and 99.7; 8-bit colours are shown as stored."""
    if len(channels) == 3 and channels.min() >= 0 and 1 < channels.max() <= 255:
        return 0.0, 255.0
    finite = channels[np.isfinite(channels)]
    low, high = np.percentile(finite, [0.5, 99.7]) if finite.size else (0.0, 1.0)
    return float(low), float(high)


def to_picture(plane: np.ndarray, window: tuple[float, float]) -> Any:
    """A pillow image of a plane `(c, h, w)` with one (grey) or three (colour) channels."""
    from PIL import Image as Picture

    low, high = window
    values = (np.nan_to_num(plane.astype(np.float32), nan=low) - low) / max(high - low, 1e-9)
    pixels = (np.clip(values, 0, 1) * 255).astype(np.uint8)
    return Picture.fromarray(np.ascontiguousarray(np.moveaxis(pixels, 0, -1)) if len(plane) == 3 else pixels[0])


def outline_classes(picture: Any, labels: Any, colours: Sequence[str]) -> Any:
    """A picture with a border, as wide as that of a box, around each class of a picture of labels of the same size."""
    from PIL import Image as Picture
    from PIL import ImageColor
    from scipy import ndimage

    pixels, values = np.array(picture.convert("RGB")), np.asarray(labels)
    masks = [(values == number, ImageColor.getrgb(colour)) for number, colour in enumerate(colours, start=1)]

    def inner(mask: np.ndarray, width: int) -> np.ndarray:
        return mask & ~ndimage.binary_erosion(mask, iterations=width, border_value=1)

    for mask, _ in masks:  # before all colours, which it would hide where classes touch
        pixels[(ndimage.binary_dilation(mask) & ~mask) | inner(mask, 3)] = 0
    for mask, colour in masks:
        pixels[inner(mask, 2)] = colour
    return Picture.fromarray(pixels)


def draw_box(picture: Any, corners: tuple[float, float, float, float], colour: str) -> None:
    """Draw a rectangle (left, top, right, bottom) with a dark border, which is seen on any image."""
    from PIL import ImageDraw

    left, top, right, bottom = corners
    draw = ImageDraw.Draw(picture)
    draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline="black", width=4)
    draw.rectangle(corners, outline=colour, width=2)


def draw_text(picture: Any, text: str, place: tuple[float, float], colour: str, size: float = 14) -> None:
    """Write a line with a dark border, moved from `place` (left, top) as far as it would leave the picture."""
    from PIL import ImageDraw

    draw, text = ImageDraw.Draw(picture), drawable(text)
    font = get_font(size, text)
    _, _, width, height = draw.textbbox((0, 0), text, font=font, stroke_width=2)
    left, top = (
        max(0.0, min(at, side - need)) for at, side, need in zip(place, picture.size, (width, height), strict=True)
    )
    draw.text((left, top), text, fill=colour, font=font, stroke_width=2, stroke_fill="black")


def get_font(size: float, text: str = "") -> Any:
    """A pillow font for a text: DejaVu Sans, which comes with matplotlib, or an installed font if that has more."""
    return _open_font(_font_file(frozenset(text)), size)


def drawable(text: str) -> str:
    r"""The text, with codes for the characters that no installed font has.

    Example:
        >>> drawable("a\U0010ffff")
        'a\\U0010ffff'
    """
    text = printable(text)
    lost = lacking(_font_file(frozenset(text)), {ord(char) for char in text})
    return "".join(char.encode("unicode_escape").decode() if ord(char) in lost else char for char in text)


def lacking(font_file: str, characters: set[int]) -> set[int]:
    """The characters (code points) that a font has no glyph for; all of them if it cannot be read."""
    from matplotlib.font_manager import get_font

    try:
        font = get_font(font_file)
    except (OSError, RuntimeError):  # removed or damaged since the list of fonts was made
        return characters
    return {code for code in characters if not font.get_char_index(code)}


def upright_fonts() -> list[tuple[str, str]]:
    """Name and file of each installed font of plain style; not Last Resort, which claims to have every character."""
    from matplotlib.font_manager import fontManager

    fonts = [(entry.name, entry.fname) for entry in fontManager.ttflist if (entry.style, entry.weight) == PLAIN]
    return sorted(font for font in fonts if not font[0].startswith("Last Resort"))


@cache
def _font_file(characters: frozenset[str]) -> str:
    import matplotlib

    default = str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))
    codes = {ord(char) for char in characters}
    if not lacking(default, codes):
        return default
    for _, file in upright_fonts():
        if not lacking(file, codes):
            try:
                _open_font(file, 12)
            except OSError:  # such as bitmaps of one size
                continue
            return file
    return default


@cache
def _open_font(file: str, size: float) -> Any:
    from PIL import ImageFont

    return ImageFont.truetype(file, size)


def fit_text(name: str, rest: str, size: float, width: float) -> str:
    """The text `name + rest`, `drawable`; if it is wider than `width` pixels, without the end of the name."""
    name, rest = drawable(name), drawable(rest)
    font, shortened = get_font(size, name + rest), name
    while shortened and font.getlength(f"{shortened}\N{HORIZONTAL ELLIPSIS}{rest}") > width:
        shortened = shortened[:-1]
    return name + rest if font.getlength(name + rest) <= width else f"{shortened}\N{HORIZONTAL ELLIPSIS}{rest}"
