"""Preview: `CASE.png`, one tile per detection: the plane through its middle, with its box, class and score."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from boxel.config import write_bytes
from boxel.export.prediction import Prediction
from boxel.export.registry import register_export
from boxel.io import read_image
from boxel.output_folder import case_file

MAX_TILES = 24
COLUMNS = 6
TILE = 220
CAPTION = 30
# A tile is at least this many times as wide as the box, and at least this many pixels.
MARGIN = 2.5
LEAST = 32.0


def write(out: Path, predictions: Sequence[Prediction]) -> list[Path]:
    """Write `out/CASE.png` for each case: the detections with the highest scores, 24 at most.

    Raises:
        ValueError: the image of a case is not known, or does not have the shape that the predictions state.
    """
    return [_write_case(out, prediction) for prediction in predictions]


def _write_case(out: Path, prediction: Prediction) -> Path:
    from PIL import Image as Picture

    if not prediction.image_files or not all(file.exists() for file in prediction.image_files):
        raise ValueError(
            f"case {prediction.case!r}: a preview needs the image, but {_problem(prediction)}; name the folder of "
            "the images with --images"
        )
    source = prediction.image_files[0]
    image = read_image(source)
    geometry = prediction.detections.geometry
    if geometry is not None and image.geometry.shape != geometry.shape:
        raise ValueError(
            f"{source}: shape {image.geometry.shape}, but case {prediction.case!r} was predicted on "
            f"{geometry.shape}; name the images that were predicted with --images"
        )
    array = image.array[0].astype(np.float32)
    finite = array[np.isfinite(array)]
    low, high = np.percentile(finite, [0.5, 99.7]) if finite.size else (0.0, 1.0)
    grey = (np.nan_to_num(np.clip((array - low) / max(high - low, 1e-9), 0, 1)) * 255).astype(np.uint8)
    shown = list(prediction.ranking)[:MAX_TILES]
    tiles = [_tile(grey, box, image.geometry.spacing, f"{name} {score:.2f}") for _, box, score, name in shown]
    tiles = tiles or [_captioned(_plane_of(grey, np.array(grey.shape) / 2)[0], "no detections")]
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


def _plane_of(grey: np.ndarray, point: np.ndarray) -> tuple[np.ndarray, str]:
    """The plane of rows and columns through a position, and its place as text."""
    leading = np.clip(point[:-2].astype(int), 0, np.array(grey.shape[:-2], int) - 1).tolist()
    places = [f"{index + 1} of {size}" for index, size in zip(leading, grey.shape, strict=False)]
    return grey[tuple(leading)], f"slice {', '.join(places)}" if places else ""


def _tile(grey: np.ndarray, box: np.ndarray, spacing: Sequence[float], text: str) -> Any:
    """The neighbourhood of a box, square in mm."""
    from PIL import Image as Picture
    from PIL import ImageDraw

    plane, where = _plane_of(grey, box.mean(axis=0))
    steps, corners = np.asarray(spacing[-2:]), box[:, -2:]
    side = max(float(((corners[1] - corners[0]) * steps).max()) * MARGIN, LEAST * float(steps.min()))
    start = corners.mean(axis=0) - side / steps / 2
    scale = TILE / side * steps  # pixels of the tile per voxel
    picture = Picture.fromarray(plane).transform(
        (TILE, TILE),
        Picture.Transform.AFFINE,
        (1 / scale[1], 0, start[1], 0, 1 / scale[0], start[0]),
        Picture.Resampling.BILINEAR,
    )
    tile = picture.convert("RGB")
    (top, left), (bottom, right) = ((corners - start) * scale).tolist()
    draw = ImageDraw.Draw(tile)
    draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline="black", width=4)
    draw.rectangle((left, top, right, bottom), outline="#f0b000", width=2)
    return _captioned(tile, text, where)


def _captioned(tile: Any, text: str, where: str = "") -> Any:
    """A tile with two lines of text below; `tile` is a picture or an array of grey values."""
    from PIL import Image as Picture
    from PIL import ImageDraw

    if isinstance(tile, np.ndarray):
        tile = Picture.fromarray(tile)
        tile.thumbnail((TILE, TILE))
    whole = Picture.new("RGB", (TILE, TILE + CAPTION), "white")
    whole.paste(tile.convert("RGB"), (0, 0))
    draw = ImageDraw.Draw(whole)
    draw.text((2, TILE + 2), text, fill="black")
    draw.text((2, TILE + 15), where, fill="#5c6b7a")
    return whole


register_export("preview", write)
