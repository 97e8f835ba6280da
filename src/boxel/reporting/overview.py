"""The page about a data set: findings, a contact sheet, distributions, and a table of the cases."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from boxel.files import write_bytes, write_text
from boxel.io.display import class_colour, drawable, fit_text, get_font
from boxel.reporting.charts import MAX_POINTS, MOST_CLASSES, Axis, Chart, Line, largest
from boxel.reporting.drawing import chart_svg
from boxel.reporting.page import get_template
from boxel.reporting.pictures import Picture, draw_best_plane

__all__ = ["OverviewContent", "histogram_chart", "ranked_chart", "write_overview", "write_picture"]

NUM_BINS = 30
MOST_ROWS = 5000  # of a table on a page, which browsers still scroll well
PICTURE_SIDE = 512  # least pixels of the longer side of a PNG
TEXT, ROW = 13, 20  # size of the text and height of a row below a PNG of at most PICTURE_SIDE pixels


@dataclass(frozen=True)
class OverviewContent:
    """What the page shows.

    Attributes:
        title: the heading.
        numbers: headline values by their names.
        findings: each with severity, case, problem and suggested_fix.
        pictures: the contact sheet.
        charts: the distributions.
        rows: the cases, each a value per column.
    """

    title: str
    numbers: Mapping[str, str] = field(default_factory=dict)
    findings: Sequence[Any] = ()
    pictures: Sequence[Picture] = ()
    charts: Sequence[Chart | None] = ()
    rows: Sequence[Mapping[str, str]] = ()


def write_overview(out: Path, content: OverviewContent) -> None:
    """Write the page to the file `out`, which appears complete or not at all."""
    text = get_template("overview.html.j2").render(
        title=content.title,
        cards=[{"name": k, "value": v, "interval": "", "meaning": ""} for k, v in content.numbers.items()],
        findings=content.findings[:MOST_ROWS],
        num_findings=len(content.findings),
        legend=_legend(*content.pictures),
        tiles=[draw_best_plane(picture) for picture in content.pictures],
        charts=[chart_svg(chart) for chart in content.charts if chart],
        columns=list(content.rows[0]) if content.rows else [],
        rows=content.rows[:MOST_ROWS],
        num_rows=len(content.rows),
    )
    write_text(out, text)


def write_picture(out: Path, picture: Picture) -> None:
    """Write the plane that shows most of the boxes as the PNG file `out`."""
    from PIL import Image, ImageDraw

    plane = draw_best_plane(picture)["plane"]
    content = base64.b64decode(plane["uri"].partition(",")[2])
    drawn = Image.open(io.BytesIO(content)).convert("RGB")
    scale = max(PICTURE_SIDE / max(plane["width"], plane["height"]), 1.0)
    drawn = drawn.resize((round(plane["width"] * scale), round(plane["height"] * scale)), Image.Resampling.NEAREST)
    canvas = ImageDraw.Draw(drawn)
    line = round(2 * _enlarged(drawn))
    for box in plane["boxes"]:
        x0, y0 = box["x"] * scale, box["y"] * scale
        x1, y1 = x0 + box["width"] * scale, y0 + box["height"] * scale
        canvas.rectangle((x0 - 1, y0 - 1, x1 + 1, y1 + 1), outline="black", width=2 * line)
        canvas.rectangle((x0, y0, x1, y1), outline=box["colour"], width=line)
    for box in plane["boxes"]:
        place = (box["text_x"] * scale, box["text_y"] * scale)
        text = drawable(box["text"])
        canvas.text(place, text, fill=box["colour"], font=get_font(round(plane["text_size"] * scale), text),
                    stroke_width=2, stroke_fill="black", anchor="ls")  # fmt: skip
    buffer = io.BytesIO()
    text = ", ".join(filter(None, (picture.case, plane["name"], picture.caption)))
    _with_legend(drawn, text, _legend(picture)).save(buffer, format="PNG", optimize=True)
    write_bytes(out, buffer.getvalue())


def _legend(*pictures: Picture) -> list[tuple[str, str]]:
    """Name and colour of each class that occurs, if the data set has more than one class."""
    labels = sorted({int(label) for picture in pictures for label in picture.ground_truth.labels})
    classes = pictures[0].classes if pictures else ()
    entries = [(classes[label], class_colour(label)) for label in labels[:MOST_CLASSES]] if len(classes) > 1 else []
    return entries + [(f"and {len(labels) - len(entries)} more", "white")] * (0 < len(entries) < len(labels))


def _with_legend(drawn: Any, text: str, legend: Sequence[tuple[str, str]]) -> Any:
    """A picture with a line of text and the colours of the classes below it."""
    from PIL import Image, ImageDraw

    scale = _enlarged(drawn)
    size, row, gap = round(TEXT * scale), round(ROW * scale), round(4 * scale)
    rows, left = 0, float(gap)
    entries: list[tuple[float, int, str, str]] = []
    for name, colour in legend:
        name = fit_text(name, "", size, drawn.width - 6 * gap)
        width = get_font(size, name).getlength(name) + 8 * gap
        if left + width > drawn.width and entries:
            rows, left = rows + 1, float(gap)
        entries.append((left, row * (rows + 1), name, colour))
        left += width
    height = row * (rows + 1 + bool(entries)) + 2 * gap
    sheet = Image.new("RGB", (drawn.width, drawn.height + height), "white")
    sheet.paste(drawn)
    canvas = ImageDraw.Draw(sheet)
    text = fit_text(text, "", size, drawn.width - 2 * gap)
    canvas.text((gap, drawn.height + gap), text, fill="black", font=get_font(size, text))
    for x, y, name, colour in entries:
        y += drawn.height + gap
        canvas.rectangle((x, y + gap // 2, x + 3 * gap, y + gap // 2 + 3 * gap), fill=colour, outline="black")
        canvas.text((x + 4.5 * gap, y), name, fill="black", font=get_font(size, name))
    return sheet


def _enlarged(drawn: Any) -> float:
    """How much larger than in the smallest PNG lines and text are, so that they can be seen in a large one."""
    return max(drawn.width / PICTURE_SIDE, 1.0)


def histogram_chart(title: str, label: str, groups: Mapping[str, np.ndarray], *, log: bool = False) -> Chart | None:
    """Counts of values in equal (on a logarithmic axis: equal in ratio) bins; None without values.

    There is a line per group, or per group with the most values if there are many.
    """
    shown = largest({name: len(values) for name, values in groups.items() if len(values)})
    groups = {name: np.asarray(groups[name], float) for name in shown}
    if not groups:
        return None
    every = np.concatenate(list(groups.values()))
    low, high = float(every.min()), float(every.max())
    low, high = (low / 1.1, high * 1.1) if log else (low - 0.5, high + 0.5) if low == high else (low, high)
    edges = np.geomspace(low, high, NUM_BINS + 1) if log else np.linspace(low, high, NUM_BINS + 1)
    lines = []
    for name, values in groups.items():
        counts = np.histogram(values, edges)[0]
        lines.append(Line(f"{name} ({len(values):,})", np.repeat(edges, 2)[1:-1], np.repeat(counts, 2).astype(float)))
    ticks = tuple(t for k in range(-3, 6) for t in (10.0**k, 3 * 10.0**k) if low <= t <= high) if log else ()
    return Chart(title, Axis(label, low, high, ticks, "log" if log else "linear"), Axis("Count", 0), lines)


def ranked_chart(title: str, label: str, groups: Mapping[str, np.ndarray]) -> Chart | None:
    """The values of all cases in ascending order, a line per group; None where no value differs from another."""
    if not any(len(np.unique(values)) > 1 for values in groups.values()):
        return None
    lines = []
    for name, values in groups.items():
        ranks = np.unique(np.linspace(0, len(values) - 1, min(len(values), MAX_POINTS)).round().astype(int))
        lines.append(Line(name, ranks + 1.0, np.sort(np.asarray(values, float))[ranks]))
    return Chart(title, Axis("Cases, in ascending order", 1), Axis(label), lines)
