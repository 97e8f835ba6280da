"""Images for people to look at: grey or colour in 8 bits, the colours of classes, and text in any European script."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from boxel.io import itk, split_suffix

__all__ = ["class_colour", "fit_text", "get_font", "to_picture", "visible_channels", "window_of"]

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


@cache
def get_font(size: float) -> Any:
    """DejaVu Sans, which comes with matplotlib, as a pillow font: Latin, Greek, Cyrillic, Arabic and symbols."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), size)


def fit_text(name: str, rest: str, size: float, width: float) -> str:
    """The text `name + rest`, with the end of the name left out if the text is wider than `width` pixels."""
    font, shortened = get_font(size), name
    while shortened and font.getlength(f"{shortened}\N{HORIZONTAL ELLIPSIS}{rest}") > width:
        shortened = shortened[:-1]
    return name + rest if font.getlength(name + rest) <= width else f"{shortened}\N{HORIZONTAL ELLIPSIS}{rest}"
