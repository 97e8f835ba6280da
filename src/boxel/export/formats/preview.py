"""Preview: `CASE.png`, one tile per detection: the plane through its middle, with its box, class and score.

If there is a segmentation, its classes are outlined.
"""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from boxel.export.prediction import Prediction
from boxel.export.registry import register_export
from boxel.files import write_bytes
from boxel.io import read_image
from boxel.io.display import (
    class_colour,
    draw_box,
    fit_text,
    get_font,
    outline_classes,
    to_picture,
    visible_channels,
    window_of,
)
from boxel.output_folder import case_file

MAX_TILES = 24
COLUMNS = 6
TILE = 220
CAPTION, TEXT = 34, 12
# A tile is at least this many times as wide as the box, and at least this many pixels.
MARGIN = 2.5
LEAST = 32.0


def write(out: Path, predictions: Sequence[Prediction]) -> list[Path]:
    """Write `out/CASE.png` for each case: the detections with the highest scores, 24 at most.

    Raises:
        ValueError: the image of a case is not known, or does not have the shape that the predictions state;
            see `Prediction.read_label_map`.
    """
    return [_write_case(out, prediction) for prediction in predictions]


def _write_case(out: Path, prediction: Prediction) -> Path:
    from PIL import Image as Picture

    if not prediction.image_files or not all(file.exists() for file in prediction.image_files):
        raise ValueError(
            f"{prediction.file or prediction.case}: case {prediction.case!r}: a preview needs the image, but "
            f"{_problem(prediction)}; name the folder of the images with --images"
        )
    source = prediction.image_files[0]
    image = read_image(source)
    geometry = prediction.detections.geometry
    if geometry is not None and image.geometry.shape != geometry.shape:
        raise ValueError(
            f"{source}: shape {image.geometry.shape}, but case {prediction.case!r} was predicted on "
            f"{geometry.shape}; name the images that were predicted with --images"
        )
    channels = visible_channels(image.array, prediction.image_files)
    window, spacing = window_of(channels), image.geometry.spacing
    labels = prediction.read_label_map()
    labels = np.zeros(channels.shape[1:], np.int32) if labels is None else labels

    def show(point: np.ndarray) -> tuple[Any, Any, str]:
        (plane, where), (segmented, _) = _plane_of(channels, point), _plane_of(labels[None], point)
        return to_picture(plane, window), Picture.fromarray(segmented[0]), where

    classes = prediction.classes
    colours = [
        class_colour(classes.index(name) if name in classes else k) for k, name in enumerate(prediction.label_names)
    ]
    tiles = []
    for row, box, score, name in list(prediction.ranking)[:MAX_TILES]:
        plane, segmented, where = show(box.mean(axis=0))
        colour = class_colour(int(prediction.detections.labels[row]))
        tile = _tile(plane, segmented, colours, box, spacing, colour)
        tiles.append(_captioned(tile, fit_text(name, f" {score:.2f}", TEXT, TILE - 4), where))
    if not tiles:
        voxels = np.argwhere(labels)  # plane by plane: the one in the middle lies in a plane that has some
        tile, segmented, where = show(voxels[len(voxels) // 2] if len(voxels) else np.array(labels.shape) / 2)
        tile.thumbnail((TILE, TILE))
        tile = outline_classes(tile, segmented.resize(tile.size, Picture.Resampling.NEAREST), colours)
        tiles = [_captioned(tile, "no detections", where)]
    columns = min(COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    sheet = Picture.new("RGB", (columns * (TILE + 6) - 6, rows * (TILE + CAPTION + 6) - 6), "white")
    for position, tile in enumerate(tiles):
        sheet.paste(tile, (position % columns * (TILE + 6), position // columns * (TILE + CAPTION + 6)))
    buffer = BytesIO()
    sheet.save(buffer, format="PNG", optimize=True)
    path = case_file(out, prediction.case, ".png")
    write_bytes(path, buffer.getvalue())
    return path


def _problem(prediction: Prediction) -> str:
    if not prediction.image_files:
        return "the predictions name none"
    return f"{prediction.image_files[0]} does not exist"


def _plane_of(channels: np.ndarray, point: np.ndarray) -> tuple[np.ndarray, str]:
    """The plane `(c, h, w)` through a position in `channels (c, *s)`, and its place as text."""
    leading = np.clip(point[:-2].astype(int), 0, np.array(channels.shape[1:-2], int) - 1).tolist()
    places = [f"{index + 1} of {size}" for index, size in zip(leading, channels.shape[1:], strict=False)]
    return channels[(slice(None), *leading)], f"slice {', '.join(places)}" if places else ""


def _tile(
    plane: Any, segmented: Any, colours: Sequence[str], box: np.ndarray, spacing: Sequence[float], colour: str
) -> Any:
    """The neighbourhood of a box in the pictures of its plane and of its label map, square in mm."""
    from PIL import Image as Picture

    steps, corners = np.asarray(spacing[-2:]), box[:, -2:]
    side = max(float(((corners[1] - corners[0]) * steps).max()) * MARGIN, LEAST * float(steps.min()))
    start = corners.mean(axis=0) - side / steps / 2
    scale = TILE / side * steps  # pixels of the tile per voxel
    affine = (1 / scale[1], 0, start[1], 0, 1 / scale[0], start[0])
    tile, labels = (
        picture.transform((TILE, TILE), Picture.Transform.AFFINE, affine, resampling)
        for picture, resampling in ((plane, Picture.Resampling.BILINEAR), (segmented, Picture.Resampling.NEAREST))
    )
    tile = outline_classes(tile, labels, colours)
    (top, left), (bottom, right) = ((corners - start) * scale).tolist()
    draw_box(tile, (left, top, right, bottom), colour)
    return tile


def _captioned(tile: Any, text: str, where: str) -> Any:
    """A tile with two lines of text below."""
    from PIL import Image as Picture
    from PIL import ImageDraw

    whole = Picture.new("RGB", (TILE, TILE + CAPTION), "white")
    whole.paste(tile.convert("RGB"), (0, 0))
    draw = ImageDraw.Draw(whole)
    draw.text((2, TILE + 2), text, fill="black", font=get_font(TEXT, text))
    draw.text((2, TILE + 18), where, fill="#5c6b7a", font=get_font(TEXT))
    return whole


register_export("preview", write, for_viewers=True)
