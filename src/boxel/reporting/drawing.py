"""Charts drawn with matplotlib: one figure per chart gives the SVG of the page and the PNG file.

Text stays text in the SVG, so that it can be selected and the browser finds a font for every script. matplotlib is
imported when the first chart is drawn.
"""

import re
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any
from unicodedata import east_asian_width

import numpy as np

from boxel.escaping import printable
from boxel.io.display import lacking, upright_fonts
from boxel.reporting.charts import Axis, Chart, Line, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 440, 310  # points, without the legend
TEXT, ROW = 13, 19  # size of the text and height of a row of the legend, points
LEGEND_WIDTH = 56  # characters
PNG_DPI = 160
INK, SOFT, LINE = "#1d2733", "#5c6b7a", "#dde3e9"
# The palette of Okabe and Ito, legible without colour vision; dashes separate the lines as well.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b07c00", "#3f8fc0", "#444444")
CROWD = 200  # boxes on an image above which their lines are thin
DRAWN_BOX: Any = {"edgecolor": "#ffb000"}  # on images, which are dark or bright
DRAWN_REFERENCE: Any = {"edgecolor": "#56b4e9", "linestyle": (0, (4, 2))}
DASHES = ((), (7, 3), (2, 3), (9, 3, 2, 3), (4, 2), (12, 4), (1, 2))
MARKERS = "os^Dv<>"
STYLE = {
    "figure.constrained_layout.h_pad": 6 / 72,
    "figure.constrained_layout.w_pad": 6 / 72,
    "figure.dpi": 72,  # pixels of the figure are points, the unit of the SVG
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": TEXT,
    "text.color": INK,
    "text.parse_math": False,  # a "$" in a class name is a dollar sign
    "axes.titlesize": TEXT + 2,
    "axes.titlelocation": "left",
    "axes.titlepad": 12,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.autolimit_mode": "round_numbers",
    "axes.xmargin": 0,
    "axes.ymargin": 0,
    "grid.color": LINE,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "xtick.bottom": False,
    "ytick.left": False,
    "legend.frameon": False,
    "lines.scale_dashes": False,
    "lines.solid_capstyle": "butt",
    "svg.fonttype": "none",
    "svg.hashsalt": "boxel",
}


def chart_png(chart: Chart) -> bytes:
    """The chart as a PNG file."""
    with _style(chart.title, *(line.name for line in chart.lines)):
        return _png(_draw(chart))


def chart_svg(chart: Chart) -> dict[str, Any]:
    """The chart for the page.

    Returns:
        "title", "width" and "height"; "content", the markup inside the `<svg>` element; and "lines", for each
        its name and its points `[x, y, text]` in the units of the SVG.
    """
    with _style(chart.title, *(line.name for line in chart.lines)):
        figure = _draw(chart)
        buffer = BytesIO()
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
        (axes,) = figure.axes
        width, height = figure.bbox.size
    lines = []
    for line in chart.lines:
        pixels = axes.transData.transform(np.stack([_on(chart.x_axis, line.x), _on(chart.y_axis, line.y)], axis=1))
        points = [
            [round(float(px), 1), round(float(height - py), 1), f"{number(x)}, {number(y)}{note}"]
            for (px, py), x, y, note in zip(pixels, line.x, line.y, line.notes or [""] * len(line.x), strict=True)
        ]
        lines.append((line.name, points))
    content = _page_markup(buffer.getvalue().decode())
    return {"title": chart.title, "width": width, "height": height, "content": content, "lines": lines}


def confusion_png(table: Mapping[str, Any], title: str) -> bytes:
    """The table of `boxel.reporting.tables.confusion_table` as a PNG file, cells shaded by their share of the row."""
    rows, columns = [_wrap(name, 14) for name, _ in table["rows"]], [_wrap(name, 12) for name in table["columns"]]
    shares = np.array([[share for _, share in cells] for _, cells in table["rows"]])
    with _style(title, *rows, *columns):
        from matplotlib.colors import LinearSegmentedColormap

        figure, axes = _figure(140 + 100 * len(columns), 90 + 46 * len(rows), title)
        blues = LinearSegmentedColormap.from_list("blues", ["white", COLOURS[0]])
        axes.imshow(shares * 0.45, cmap=blues, vmin=0, vmax=1, aspect="auto")
        for i, (_, cells) in enumerate(table["rows"]):
            for j, (count, share) in enumerate(cells):
                axes.text(j, i, f"{count}\n{share:.0%}" if share else count, ha="center", va="center")
        axes.grid(visible=False)
        axes.set_xticks(range(len(columns)), columns)
        axes.set_yticks(range(len(rows)), rows)
        axes.set(xlabel="Detected class", ylabel="Annotated class")
        return _png(figure)


@dataclass(frozen=True)
class BoxPanel:
    """Boxes of one kind on an image.

    Attributes:
        title: what they are.
        boxes: `(n, 2, 2)`, in voxels of the image.
        opacities: `(n,)` in 0..1; None: 1.
        reference: `(m, 2, 2)` boxes that are drawn dashed below them.
    """

    title: str
    boxes: np.ndarray
    opacities: np.ndarray | None = None
    reference: np.ndarray | None = None


def boxes_png(image: np.ndarray, panels: Sequence[BoxPanel], title: str, spacing: Sequence[float] = (1, 1)) -> bytes:
    """The image `(h, w)` with the boxes of each panel, side by side, as a PNG file; `spacing` is that of its axes."""
    from matplotlib.patches import Rectangle

    finite = image[np.isfinite(image)]
    low, high = np.percentile(finite, [0.5, 99.7]) if finite.size else (0.0, 1.0)
    with _style(title, *(panel.title for panel in panels)):
        from matplotlib.figure import Figure

        height = min(2 * WIDTH, WIDTH * image.shape[0] * spacing[0] / (image.shape[1] * spacing[1]))
        figure = Figure((len(panels) * WIDTH / 72, (height + 80) / 72), layout="constrained")
        lines = [_wrap(line, 60 * len(panels)) for line in title.split("\n")]
        figure.suptitle("\n".join(lines), x=0.005, ha="left", size=TEXT)
        for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            axes.imshow(image, cmap="gray", vmin=low, vmax=high, aspect=spacing[0] / spacing[1])
            axes.set_title(_wrap(panel.title, 48), size=TEXT)
            axes.axis("off")
            width = 1.2 if len(panel.boxes) <= CROWD else 0.6
            opacities = np.ones(len(panel.boxes)) if panel.opacities is None else panel.opacities
            reference = () if panel.reference is None else panel.reference
            drawn = [(box, 1.0, DRAWN_REFERENCE) for box in reference]
            drawn += [(box, float(opacity), DRAWN_BOX) for box, opacity in zip(panel.boxes, opacities, strict=True)]
            for ((top, left), (bottom, right)), opacity, look in drawn:
                corner = (left - 0.5, top - 0.5)  # the middle of the first pixel is at 0
                axes.add_patch(
                    Rectangle(corner, right - left, bottom - top, fill=False, alpha=opacity, linewidth=width, **look)
                )
        return _png(figure)


def _draw(chart: Chart) -> "Figure":
    names = [_wrap(line.name) for line in chart.lines]
    longest = max(len(row) for name in names for row in name.split("\n"))
    columns = max(1, min(len(names), LEGEND_WIDTH // (longest + 7)))
    rows = -(-sum(name.count("\n") + 1 for name in names) // columns)
    figure, axes = _figure(WIDTH, HEIGHT + ROW * rows, chart.title)
    colours, handles = iter(COLOURS * len(names)), []
    for index, line in enumerate(chart.lines):
        colour = SOFT if line.is_reference else next(colours)
        # Not clipped and above the frame, so that a line along an end of the axes keeps its width.
        handles += axes.plot(
            _on(chart.x_axis, line.x), _on(chart.y_axis, line.y), color=colour, zorder=3, clip_on=False,
            **_look(line, index),
        )  # fmt: skip
        for x, low, high in line.bars:
            middle, half = (low + high) / 2, (high - low) / 2
            axes.errorbar(x, middle, half, color=colour, fmt="none", linewidth=1, capsize=3, clip_on=False)
    _set_axis(axes, "x", chart.x_axis, [line.x for line in chart.lines])
    _set_axis(axes, "y", chart.y_axis, [line.y for line in chart.lines])
    figure.legend(handles, names, loc="outside lower left", ncols=columns, handlelength=2.4, labelcolor=SOFT)
    return figure


def _look(line: Line, index: int) -> dict[str, Any]:
    if line.is_cloud:
        marker = MARKERS[index % len(MARKERS)]
        return {"linewidth": 0, "marker": marker, "markersize": 4.5, "markeredgewidth": 0, "alpha": 0.6}
    dashes = DASHES[index % len(DASHES)] or (None, None)
    return {"linewidth": 1.8, "dashes": dashes, "marker": "o" if len(line.x) == 1 else ""}


def _set_axis(axes: "Axes", place: str, axis: Axis, values: list[np.ndarray]) -> None:
    from matplotlib.ticker import MaxNLocator

    set_scale = axes.set_xscale if place == "x" else axes.set_yscale
    set_scale(axis.scale, **({"linthresh": 1, "linscale": 0.5} if axis.scale == "symlog" else {}))
    of_axes = axes.xaxis if place == "x" else axes.yaxis
    of_axes.set_label_text(axis.label)
    of_axes.minorticks_off()
    if axis.ticks:
        of_axes.set_ticks(list(axis.ticks))
    else:
        is_whole = all(np.array_equal(v, np.round(v)) for v in values)
        of_axes.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10], integer=is_whole))
    of_axes.set_major_formatter(lambda value, _: number(round(value, 12)))
    if axis.names:
        of_axes.set_ticks(list(axis.ticks), [_wrap(name, 48 // len(axis.names)) for name in axis.names])
    if np.isfinite(axis.upper):
        axes.set(**{f"{place}lim": (axis.lower, axis.upper)})
    else:
        top = max((float(v.max()) for v in values if place == "y" and len(v)), default=0.0)
        # A peak stays below the frame.
        axes.update_datalim([(0, 0), (0, 1.04 * top)], updatex=place == "x", updatey=place == "y")
        axes.autoscale_view(scalex=place == "x", scaley=place == "y")


def _figure(width: float, height: float, title: str) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure((width / 72, height / 72), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(_wrap(title, 48))
    axes.grid(clip_on=False)
    return figure, axes


def _png(figure: "Figure") -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=PNG_DPI, metadata={"Software": None})
    return buffer.getvalue()


def _on(axis: Axis, values: np.ndarray) -> np.ndarray:
    """The values, those beyond an end of the axis moved to it."""
    return np.clip(values, axis.lower, axis.upper)


def _wrap(text: str, width: int = LEGEND_WIDTH - 9) -> str:
    """The text without control characters, broken into lines that fit."""
    text = "".join(char if char.isprintable() else " " for char in text)
    is_wide = any(east_asian_width(char) in "WF" for char in text)
    return "\n".join(textwrap.wrap(text, width // 2 if is_wide else width)) or " "


@contextmanager
def _style(*texts: str) -> Iterator[None]:
    """Boxel's style in place of the user's, with fonts for the characters of the texts if they are installed."""
    from matplotlib import style

    families = {"font.family": ["sans-serif", *_fallback_fonts(frozenset("".join(texts)))]}
    with style.context(["default", STYLE | families]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+")  # no installed font has the character: a placeholder is drawn
        yield


@cache
def _fallback_fonts(characters: frozenset[str]) -> tuple[str, ...]:
    """Names of installed fonts that have the characters which DejaVu Sans lacks."""
    from matplotlib.font_manager import findfont

    missing = lacking(findfont("DejaVu Sans"), {ord(char) for char in characters if char.isprintable()})
    names: list[str] = []
    for name, file in upright_fonts():
        if missing:
            left = lacking(file, missing)
            names += [name] if left < missing else []
            missing = left
    return tuple(names)


def _page_markup(svg: str) -> str:
    """What matplotlib wrote inside `<svg>`, for use in an HTML page.

    Its style sheet would apply to the whole page, its ids repeat in every chart, and the page sets the font. Only tags
    are changed: a "<" in a name is escaped.
    """

    def shorten(tag: re.Match[str]) -> str:
        text = re.sub(r'^<g id="[^"]*"', "<g", tag[0]).replace("xlink:href", "href")
        text = re.sub(r"font-family: [^;\"]*;? ?|stroke-dashoffset: 0; | transform=\"rotate\(-0 [^\"]*\"", "", text)
        return re.sub(r"\s+", " ", re.sub(r"(\.\d)\d+", r"\1", text))

    svg = printable(svg, lines=True)
    content = svg[svg.index(">", svg.index("<svg")) + 1 : svg.rindex("</svg>")]
    content = re.sub(r"<style.*?</style>|<!--.*?-->", "", content, flags=re.DOTALL)
    return re.sub(r">\s+<", "><", re.sub(r"<[^>]+>", shorten, content))
