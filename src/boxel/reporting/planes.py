"""Planes of images with boxes on them, as numbers that the template turns into SVG.

A plane is spanned by the last two axes.
"""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from boxel.io.display import class_colour, outline_classes, to_picture

MAX_SIDE = 512
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
    label_map: np.ndarray | None = None,
) -> dict[str, Any]:
    """The image of a plane as a data URI, with the rectangles on it.

    Args:
        image: `(c, *s)`, one channel or red, green and blue.
        position: the plane, along the leading axes.
        boxes: all boxes of the image, the most important first; those that cross the plane are drawn. A text that
            would cover the text of an earlier box is left out, except on errors.
        window: the values drawn black and white.
        spacing: mm per voxel and axis, so that voxels are drawn in proportion.
        region: the part of the plane that is shown.
        longest: most pixels per side; larger images are scaled down.
        text_share: height of the text relative to the longer side.
        label_map: `(*s)`, 1 + k for class k; classes are outlined.
    """
    place_of_plane: tuple[Any, ...] = (slice(None), *position)
    plane = image[place_of_plane]
    start, stop = region
    crop = plane[:, start[0] : stop[0], start[1] : stop[1]]
    labels = None if label_map is None else label_map[position][start[0] : stop[0], start[1] : stop[1]]
    inside = [box for box in boxes if _crosses(box["corners"], position, region)]
    # Drawn in units of the finer of the two in-plane spacings.
    scale = np.asarray(spacing[-2:] if spacing else (1.0, 1.0), float)
    scale = scale / scale.min()
    height, width = np.asarray(crop.shape[1:]) * scale
    text_size = max(width, height) * text_share
    rectangles = []
    taken: list[tuple[float, float, float]] = []  # left, right and baseline of the texts so far
    for box in inside:
        (top, left), (bottom, right) = (box["corners"][:, -2:] - start) * scale
        text, text_width = box["text"], 0.62 * text_size * len(box["text"])
        # Scores stand above their box, classes of objects below it, moved inwards at the border of the image.
        text_x = max(min(left, width - text_width), 0.0)
        sides = (top - text_size / 3, bottom + text_size)
        baselines = [min(max(y, text_size), height - text_size / 3)
                     for y in (sides if box["kind"] == "detection" else sides[::-1])]  # fmt: skip
        free = [y for y in baselines if not any(text_x < b and a < text_x + text_width and abs(y - other) < text_size
                                                for a, b, other in taken)]  # fmt: skip
        text_y = (free or baselines)[0]
        text = text if free or box["error"] else ""
        taken += [(text_x, text_x + text_width, text_y)] if text else []
        place = {"x": left, "y": top, "width": right - left, "height": bottom - top, "text_x": text_x, "text_y": text_y}
        place = {key: round(float(value), 2) for key, value in place.items()}
        look = {key: box[key] for key in ("kind", "hint", "colour") if key in box}
        rectangles.append((box, place | look | {"text": text}))
    # Errors are on top, and the dashes of an object lie on the line of its detection.
    rectangles.sort(key=lambda pair: (pair[0]["error"], pair[0]["kind"] == "object"))
    places = [f"{index + 1} of {size}" for index, size in zip(position, image.shape[1:], strict=False)]
    name = f"slice {', '.join(places)}" if places else ""
    if crop.shape != plane.shape:
        name += f" (rows {start[0]} to {stop[0]}, columns {start[1]} to {stop[1]})"
    return {
        "uri": _data_uri(crop, window, longest, labels),
        "width": round(float(width), 2),
        "height": round(float(height), 2),
        "text_size": round(float(text_size), 2),
        "boxes": [drawn for _, drawn in rectangles],
        "name": name,
    }


def visible_region(shape: tuple[int, ...], boxes: Sequence[dict[str, Any]], extent: int) -> Region:
    """At most `extent` rows and columns, around the first (most important) box."""
    centre = boxes[0]["corners"][:, -2:].mean(axis=0) if boxes else np.asarray(shape) / 2
    return region_around(centre, np.full(2, float(extent)), shape)


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


def _data_uri(plane: np.ndarray, window: tuple[float, float], longest: int, labels: np.ndarray | None) -> str:
    """PNG, or JPEG where that is much smaller."""
    from PIL import Image as Picture

    pixels = to_picture(plane, window)
    outlined = labels if labels is not None and labels.any() else None
    if outlined is not None:
        # Small images are enlarged, so that outlines are thin.
        zoom = max(1, longest // max(pixels.size))
        pixels = pixels.resize((pixels.width * zoom, pixels.height * zoom), Picture.Resampling.NEAREST)
    pixels.thumbnail((longest, longest))
    if outlined is not None:
        regions = Picture.fromarray(outlined.astype(np.int32)).resize(pixels.size, Picture.Resampling.NEAREST)
        # From the second colour on: the first is close to that of annotated objects.
        pixels = outline_classes(pixels, regions, [class_colour(k + 1) for k in range(int(outlined.max()))])
    content, kind = _encode(pixels, "PNG"), "png"
    if len(content) > JPEG_FROM:
        content, kind = _encode(pixels, "JPEG"), "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _encode(pixels: Any, kind: str) -> bytes:
    buffer = io.BytesIO()
    pixels.save(buffer, format=kind, quality=75, optimize=True)
    return buffer.getvalue()
