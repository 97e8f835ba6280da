"""The charts of the page as PNG files, drawn with Pillow from the same positions."""

import math
from collections.abc import Mapping, Sequence
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from boxel.config import write_bytes
from boxel.reporting.charts import (
    CurveLike,
    calibration_chart,
    froc_chart,
    matched_at,
    precision_recall_chart,
    score_charts,
)
from boxel.reporting.tables import confusion_table

INK, SOFT, LINE = "#1d2733", "#5c6b7a", "#dde3e9"
TITLE, ROW = 30, 20  # heights above and below a chart, in its pixels
SCALE = 2  # of the file; drawn twice as large and shrunk, for smooth lines
NAME_WIDTH, CELL_WIDTH, CELL_HEIGHT = 140, 110, 44


def write_figures(
    out: Path,
    metrics: Mapping[str, Any],
    curves: Sequence[CurveLike],
    scores: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> list[Path]:
    """Write the curves, the histograms of scores, the calibration and the confusion into the folder `out`.

    Args:
        out: folder; "@" of the figures' names becomes "_": `froc_0.10.png`.
        metrics: as in `metrics.json`.
        curves: precision-recall and FROC.
        scores: for each class the scores of its hits and of its false positives.

    Returns:
        The files written, those that there is something to show for.
    """
    thresholds = sorted({curve.iou_threshold for curve in curves})
    charts = {}
    for threshold in thresholds:
        charts[f"precision_recall_{threshold:.2f}"] = precision_recall_chart(curves, threshold, metrics)
        charts[f"froc_{threshold:.2f}"] = froc_chart(curves, threshold, metrics)
        charts[f"calibration_{threshold:.2f}"] = calibration_chart(metrics, [threshold])
    for number, made in enumerate(score_charts(scores)):
        charts[f"scores_{number}"] = made
    pictures = {name: draw_chart(made) for name, made in charts.items() if made}
    if confusion := confusion_table(metrics, thresholds):
        pictures[f"confusion_{confusion['iou']}"] = _draw_confusion(confusion, matched_at(metrics, thresholds[0]))
    paths = []
    for name, picture in pictures.items():
        buffer = BytesIO()
        picture.save(buffer, "PNG")
        paths.append(Path(out) / f"{name}.png")
        write_bytes(paths[-1], buffer.getvalue())
    return paths


def draw_chart(chart: Mapping[str, Any]) -> Any:
    """A picture of what `boxel.reporting.charts.chart` placed, with title and legend."""
    canvas = _Canvas(chart["width"], TITLE + chart["height"] + ROW * len(chart["lines"]) + 8)
    left, right, top, bottom = (chart[key] for key in ("left", "right", "top", "bottom"))
    canvas.text((left, TITLE / 2), chart["title"], "lm", size=14, colour=INK)
    canvas.down = TITLE
    for y, label in chart["y_ticks"]:
        canvas.line([(left, y), (right, y)], LINE, 1)
        canvas.text((left - 6, y), label, "rm")
    for x, label in chart["x_ticks"]:
        canvas.line([(x, top), (x, bottom)], LINE, 1)
        canvas.text((x, bottom + 12), label, "mm")
    canvas.text(((left + right) / 2, chart["height"] - 10), chart["x_label"], "mm")
    canvas.text((13, (top + bottom) / 2), chart["y_label"], "mm", upright=True)
    for row, line in enumerate(chart["lines"]):
        points = [(x, y) for x, y, _ in line["points"]]
        dashes = [float(part) for part in line["dash"].split()]
        for x, low, high in line["bars"]:
            canvas.line([(x, low), (x, high)], line["colour"], 1)
            canvas.line([(x - 3, low), (x + 3, low)], line["colour"], 1)
            canvas.line([(x - 3, high), (x + 3, high)], line["colour"], 1)
        canvas.line(points, line["colour"], 2, dashes)
        if len(points) == 1:
            canvas.dot(points[0], line["colour"])
        y = chart["height"] + ROW * (row + 0.5)
        canvas.line([(left, y), (left + 30, y)], line["colour"], 3, dashes)
        canvas.text((left + 38, y), line["name"], "lm")
    return canvas.finish()


def _draw_confusion(table: Mapping[str, Any], matched: str) -> Any:
    names = ["annotated \\ detected", *table["columns"]]
    width = NAME_WIDTH + CELL_WIDTH * len(table["columns"])
    canvas = _Canvas(width + 20, TITLE + CELL_HEIGHT * (len(table["rows"]) + 1) + 10)
    canvas.text((10, TITLE / 2), f"Confusion of classes, {matched}", "lm", size=14, colour=INK)
    canvas.down = TITLE
    rows = [(names[0], [(name, 0.0) for name in names[1:]]), *table["rows"]]
    for i, (name, cells) in enumerate(rows):
        y = CELL_HEIGHT * (i + 0.5)
        canvas.text((10, y), _short(name), "lm", colour=SOFT if i == 0 else INK)
        for j, (count, share) in enumerate(cells):
            x = 10 + NAME_WIDTH + CELL_WIDTH * (j + 0.5)
            shade = tuple(round(255 + (part - 255) * share * 0.45) for part in (0, 114, 178))
            if i:
                canvas.box((x - CELL_WIDTH / 2, y - CELL_HEIGHT / 2), (CELL_WIDTH, CELL_HEIGHT), shade)
            canvas.text((x, y - (6 if share else 0)), _short(count), "mm", colour=INK)
            if share:
                canvas.text((x, y + 9), f"{share:.0%}", "mm", size=10)
        canvas.line([(10, y + CELL_HEIGHT / 2), (10 + width, y + CELL_HEIGHT / 2)], LINE, 1)
    return canvas.finish()


def _short(text: str) -> str:
    return text if len(text) <= 20 else text[:17] + "..."


class _Canvas:
    """A white picture in the pixels of a chart, drawn larger than it will be."""

    def __init__(self, width: float, height: float) -> None:
        from PIL import Image, ImageDraw

        self.down = 0.0
        self._zoom = 2 * SCALE
        self._picture = Image.new("RGB", (round(width * self._zoom), round(height * self._zoom)), "white")
        self._draw = ImageDraw.Draw(self._picture)

    def _at(self, point: Sequence[float]) -> tuple[float, float]:
        return point[0] * self._zoom, (point[1] + self.down) * self._zoom

    def line(self, points: Sequence[Sequence[float]], colour: str, width: float, dashes: Sequence[float] = ()) -> None:
        for part in _dashed([(float(x), float(y)) for x, y in points], dashes):
            self._draw.line([self._at(point) for point in part], colour, round(width * self._zoom), joint="curve")

    def dot(self, point: Sequence[float], colour: str) -> None:
        (x, y), radius = self._at(point), 4 * self._zoom
        self._draw.ellipse([x - radius, y - radius, x + radius, y + radius], colour)

    def box(self, corner: Sequence[float], size: Sequence[float], colour: tuple[int, ...]) -> None:
        far = (corner[0] + size[0], corner[1] + size[1])
        self._draw.rectangle([self._at(corner), self._at(far)], colour)

    def text(
        self, point: Sequence[float], text: str, anchor: str, *, size: float = 12, colour: str = SOFT,
        upright: bool = False,
    ) -> None:  # fmt: skip
        from PIL import Image, ImageDraw, ImageFont

        text = text.replace("≥", ">=")  # not in Pillow's font
        font, (x, y) = ImageFont.load_default(size * self._zoom), self._at(point)
        if not upright:
            self._draw.text((x, y), text, colour, font, anchor)
            return
        left, top, right, bottom = font.getbbox(text)
        label = Image.new("RGB", (math.ceil(right - left), math.ceil(bottom - top)), "white")
        ImageDraw.Draw(label).text((-left, -top), text, colour, font)
        label = label.rotate(90, expand=True)
        self._picture.paste(label, (round(x - label.width / 2), round(y - label.height / 2)))

    def finish(self) -> Any:
        from PIL import Image

        small = (self._picture.width // 2, self._picture.height // 2)
        return self._picture.resize(small, Image.Resampling.LANCZOS)


def _dashed(points: list[tuple[float, float]], dashes: Sequence[float]) -> list[list[tuple[float, float]]]:
    """The parts of a line that are drawn; lengths of strokes and gaps take turns, as in SVG."""
    if not dashes:
        return [points]
    parts: list[list[tuple[float, float]]] = [points[:1]]
    stroke, left = 0, dashes[0]
    for (x, y), (x2, y2) in pairwise(points):
        length = math.hypot(x2 - x, y2 - y)
        done = 0.0
        while length - done > left:
            done += left
            place = (x + (x2 - x) * done / length, y + (y2 - y) * done / length)
            if stroke % 2 == 0:
                parts[-1].append(place)
            else:
                parts.append([place])
            stroke += 1
            left = dashes[stroke % len(dashes)]
        left -= length - done
        if stroke % 2 == 0:
            parts[-1].append((x2, y2))
    return [part for part in parts if len(part) > 1]
