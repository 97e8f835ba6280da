"""Planes of images with boxes on them, as numbers that the template turns into SVG.

A plane is spanned by the last two axes.
"""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

MAX_SIDE = 512
MAX_LABELS = 14
# Bytes of a PNG above which a JPEG is tried.
JPEG_FROM = 12_000

Region = tuple[np.ndarray, np.ndarray]
"""The first row and column, and those after the last."""


def draw_plane(
    image: np.ndarray,
    position: tuple[int, ...],
    boxes: Sequence[dict[str, Any]],
    window: tuple[float, float],
    spacing: Sequence[float] | None,
    region: Region,
    longest: int = MAX_SIDE,
    text_share: float = 0.03,
) -> dict[str, Any]:
    """The image of a plane as a data URI, with the rectangles on it.

    Args:
        image: `(*s)`.
        position: the plane, along the leading axes.
        boxes: all boxes of the image; those that cross the plane are drawn.
        window: the values drawn black and white.
        spacing: mm per voxel and axis, so that voxels are drawn in proportion.
        region: the part of the plane that is shown.
        longest: most pixels per side; larger images are scaled down.
        text_share: height of the text relative to the longer side.
    """
    plane = image[position]
    start, stop = region
    crop = plane[start[0] : stop[0], start[1] : stop[1]]
    inside = [box for box in boxes if _crosses(box["corners"], position, region)]
    # Drawn in units of the finer of the two in-plane spacings.
    scale = np.asarray(spacing[-2:] if spacing else (1.0, 1.0), float)
    scale = scale / scale.min()
    height, width = np.asarray(crop.shape) * scale
    crowded = len(inside) > MAX_LABELS
    text_size = max(width, height) * text_share
    rectangles = []
    # Errors are on top, and the dashes of an object lie on the line of its detection.
    for box in sorted(inside, key=lambda box: (box["error"], box["kind"] == "object")):
        (top, left), (bottom, right) = (box["corners"][:, -2:] - start) * scale
        text = "" if crowded and not box["error"] else box["text"]
        # Scores stand above their box, classes of objects below it, moved inwards at the border of the image.
        text_x = max(min(left, width - 0.62 * text_size * len(text)), 0.0)
        text_y = top - text_size / 3 if box["kind"] == "detection" else bottom + text_size
        place = {"x": left, "y": top, "width": right - left, "height": bottom - top, "text_x": text_x}
        place["text_y"] = min(max(text_y, text_size), height - text_size / 3)
        place = {key: round(float(value), 2) for key, value in place.items()}
        rectangles.append(place | {"kind": box["kind"], "hint": box["hint"], "text": text})
    places = [f"{index + 1} of {size}" for index, size in zip(position, image.shape, strict=False)]
    name = f"slice {', '.join(places)}" if places else ""
    if crop.shape != plane.shape:
        name += f" (rows {start[0]} to {stop[0]}, columns {start[1]} to {stop[1]})"
    return {
        "uri": _data_uri(crop, window, longest),
        "width": round(float(width), 2),
        "height": round(float(height), 2),
        "text_size": round(float(text_size), 2),
        "boxes": rectangles,
        "name": name,
    }


def visible_region(shape: tuple[int, ...], boxes: Sequence[dict[str, Any]]) -> Region:
    """At most MAX_SIDE rows and columns, around the first (most important) box."""
    centre = boxes[0]["corners"][:, -2:].mean(axis=0) if boxes else np.asarray(shape) / 2
    return region_around(centre, np.full(2, float(MAX_SIDE)), shape)


def region_around(centre: np.ndarray, size: np.ndarray, shape: tuple[int, ...]) -> Region:
    """A region of that size around a position, moved to lie within the plane."""
    size = np.minimum(np.ceil(size).astype(int), shape)
    start = np.clip((centre - size / 2).round().astype(int), 0, np.asarray(shape) - size)
    return start, start + size


def _crosses(corners: np.ndarray, position: tuple[int, ...], region: Region) -> bool:
    middle = np.array(position) + 0.5
    lower, upper = corners[:, : len(position)]
    seen = (corners[1, -2:] > region[0]) & (corners[0, -2:] < region[1])
    return bool(np.all((lower < middle) & (middle < upper)) and np.all(seen))


def _data_uri(plane: np.ndarray, window: tuple[float, float], longest: int) -> str:
    """PNG, or JPEG where that is much smaller."""
    from PIL import Image

    low, high = window
    grey = (np.nan_to_num(plane, nan=low) - low) / max(high - low, 1e-9)
    pixels = Image.fromarray((np.clip(grey, 0, 1) * 255).astype(np.uint8))
    pixels.thumbnail((longest, longest))
    content, kind = _encode(pixels, "PNG"), "png"
    if len(content) > JPEG_FROM:
        content, kind = _encode(pixels, "JPEG"), "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _encode(pixels: Any, kind: str) -> bytes:
    buffer = io.BytesIO()
    pixels.save(buffer, format=kind, quality=75, optimize=True)
    return buffer.getvalue()
