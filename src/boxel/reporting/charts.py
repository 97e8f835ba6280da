"""Line charts as plain numbers in pixels; the page's template turns them into SVG.

Inline SVG with 40 lines of script replaces a plotting library in the page: a report weighs tens of kilobytes
instead of five megabytes, prints, and still tells the values under the pointer.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

WIDTH, HEIGHT = 460, 320
LEFT, RIGHT, TOP, BOTTOM = 64, 22, 12, 42

# Okabe and Ito's colours, told apart without colour vision by the dashes as well.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b07c00", "#3f8fc0", "#444444")
DASHES = ("", "7 3", "2 3", "9 3 2 3", "4 2", "12 4", "1 2")
MAX_POINTS = 300
SCORE_BINS = 20
# Counts above which a linear axis hides the small ones.
MANY = 50


class CurveLike(Protocol):
    """What the page reads of an evaluation curve."""

    @property
    def kind(self) -> Any: ...
    @property
    def iou_threshold(self) -> float: ...
    @property
    def name(self) -> str: ...
    @property
    def x(self) -> np.ndarray: ...
    @property
    def y(self) -> np.ndarray: ...
    @property
    def scores(self) -> np.ndarray: ...


@dataclass(frozen=True)
class Line:
    """A named line: `x (t,)`, `y (t,)`, per point a note shown under the pointer (or none), and intervals of y at
    some x as `(x, low, high)`.
    """  # noqa: D205

    name: str
    x: np.ndarray
    y: np.ndarray
    notes: Sequence[str] = ()
    bars: Sequence[tuple[float, float, float]] = ()


@dataclass(frozen=True)
class Axis:
    """A range of values with its tick values; logarithmic if `log`."""

    label: str
    lower: float
    upper: float
    ticks: tuple[float, ...]
    log: bool = False

    def fraction(self, values: np.ndarray | float) -> np.ndarray:
        """0..1 along the axis; values beyond its ends are moved to them."""
        clipped = np.clip(np.asarray(values, dtype=float), self.lower, self.upper)
        scale: Callable = np.log if self.log else np.asarray
        lower, upper = scale(self.lower), scale(self.upper)
        return (scale(clipped) - lower) / (upper - lower)


def matched_at(metrics: Mapping[str, Any] | None, threshold: float) -> str:
    """When a detection is a hit, in a few words; `metrics` as in `metrics.json`."""
    words = {
        "mask_iou": f"mask IoU ≥ {threshold:.2f}", "mask_dice": f"Dice ≥ {threshold:.2f}",
        "centre_distance": f"distance < {threshold:g} mm", "relative_distance": f"distance < {threshold:g} radii",
    }  # fmt: skip
    return words.get((metrics or {}).get("settings", {}).get("criterion", ""), f"IoU ≥ {threshold:.2f}")


def precision_recall_chart(
    curves: Sequence[CurveLike], iou_threshold: float, metrics: Mapping[str, Any] | None = None
) -> dict[str, Any] | None:
    """Precision against recall, a line per class; None without such curves."""
    ticks = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    axes = (Axis("Recall", 0, 1, ticks), Axis("Precision", 0, 1, ticks))
    lines = _curve_lines(curves, "precision_recall", iou_threshold, axes)
    return chart(f"Precision and recall, {matched_at(metrics, iou_threshold)}", *axes, lines)


def froc_chart(
    curves: Sequence[CurveLike], iou_threshold: float, metrics: Mapping[str, Any] | None = None
) -> dict[str, Any] | None:
    """Sensitivity against false positives per image on a logarithmic axis; None without such curves.

    With the figures of `metrics.json` a single line gets their intervals.
    """
    rates = (0.125, 0.25, 0.5, 1, 2, 4, 8)
    axes = (Axis("False positives per image", 1 / 16, 16, rates, log=True),
            Axis("Sensitivity", 0, 1, (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)))  # fmt: skip
    lines = _curve_lines(curves, "froc", iou_threshold, axes)
    if len(lines) == 1:
        ends = [(rate, end) for rate in rates for at in (f"@{iou_threshold:.2f}", "")
                if (end := (metrics or {}).get(f"sensitivity{at}/fp={rate:g}/ci95"))]  # fmt: skip
        lines = [replace(lines[0], bars=[(rate, *end) for rate, end in ends])]
    return chart(f"FROC, {matched_at(metrics, iou_threshold)}", *axes, lines)


def learning_charts(history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Charts of the training log: losses, validation figures, learning rate, as far as they were logged."""
    series: dict[str, list[tuple[float, float]]] = {}
    for row in history:
        for key, value in row.items():
            if key != "step" and _is_finite(value) and _is_finite(row.get("step")):
                series.setdefault(key, []).append((float(row["step"]), float(value)))
    groups = (
        ("Training loss", "Loss", lambda key: key == "loss" or key.startswith("loss/")),
        ("Validation", "Value", lambda key: key.startswith("val/")),
        ("Learning rate", "Learning rate", lambda key: key == "lr"),
    )
    charts = []
    for title, label, belongs in groups:
        chosen = {key: np.array(points).T for key, points in series.items() if belongs(key)}
        lines = [Line(key.removeprefix("val/"), *_thin(*points)) for key, points in chosen.items()]
        if lines:
            steps = _round_axis("Step", [line.x for line in lines])
            charts.append(chart(title, steps, _round_axis(label, [line.y for line in lines]), lines))
    return [made for made in charts if made]


def score_charts(scores: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> list[dict[str, Any]]:
    """Histograms of the scores of hits and of false positives, a chart per class; logarithmic if counts are large."""
    edges, charts = np.linspace(0, 1, SCORE_BINS + 1), []
    for name, groups in scores.items():
        lines, highest = [], 1
        for title, values in zip(("true positives", "false positives"), groups, strict=True):
            counts = np.histogram(np.asarray(values, float), edges)[0]
            highest = max(highest, int(counts.max()))
            notes = [f" at scores {a:.2f} to {b:.2f}" for a, b in pairwise(edges) for _ in range(2)]
            x, y = np.repeat(edges, 2)[1:-1], np.repeat(counts, 2)
            lines.append(Line(f"{title} ({len(values):,})", x, y.astype(float), notes))
        axis = _round_axis("Detections", [line.y for line in lines])
        if highest > MANY:
            decades = [10.0**k for k in range(math.ceil(math.log10(highest)) + 1)]
            axis = Axis("Detections", 0.5, decades[-1], tuple(decades), log=True)
        steps = Axis("Score", 0, 1, (0.0, 0.2, 0.4, 0.6, 0.8, 1.0))
        charts.append(chart(f"Scores of {name}", steps, axis, lines))
    return [made for made in charts if made]


def calibration_chart(metrics: Mapping[str, Any], ends: Sequence[float]) -> dict[str, Any] | None:
    """The share of hits among detections of similar scores, of `calibration@...`; None without it."""
    lines = []
    for name, bins in (metrics.get(f"calibration@{ends[0]:.2f}", {}) if ends else {}).items():
        rows = [row for row in zip(bins["mean_score"], bins["precision"], bins["num"], strict=True) if row[2]]
        if rows:
            x, y, counts = np.array(rows, float).T
            intervals = bins.get("precision/ci95", [None] * len(bins["num"]))
            bars = [(at, *end) for at, end in zip(bins["mean_score"], intervals, strict=True) if end]
            lines.append(Line(name, x, y, [f" ({count:.0f} detections)" for count in counts], bars))
    if not lines:
        return None
    lines.append(Line("perfectly calibrated", np.array([0.0, 1.0]), np.array([0.0, 1.0])))
    ticks = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    title = f"Calibration, {matched_at(metrics, ends[0])}"
    return chart(title, Axis("Mean score", 0, 1, ticks), Axis("Share of hits", 0, 1, ticks), lines)


def chart(title: str, x_axis: Axis, y_axis: Axis, lines: Sequence[Line]) -> dict[str, Any] | None:
    """Pixel positions of everything the template draws; None if there is no line."""
    if not lines:
        return None
    drawn = []
    for index, line in enumerate(lines):
        x = LEFT + x_axis.fraction(line.x) * (WIDTH - LEFT - RIGHT)
        y = HEIGHT - BOTTOM - y_axis.fraction(line.y) * (HEIGHT - TOP - BOTTOM)
        notes = line.notes or [""] * len(x)
        points = [
            [round(float(px), 1), round(float(py), 1), f"{number(vx)}, {number(vy)}{note}"]
            for px, py, vx, vy, note in zip(x, y, line.x, line.y, notes, strict=True)
        ]
        bars = [(x_axis.fraction(x), y_axis.fraction(low), y_axis.fraction(high)) for x, low, high in line.bars]
        drawn.append({
            "name": line.name,
            "bars": [
                (round(float(LEFT + at * (WIDTH - LEFT - RIGHT)), 1),
                 *(round(float(HEIGHT - BOTTOM - y * (HEIGHT - TOP - BOTTOM)), 1) for y in ends))
                for at, *ends in bars
            ],
            "path": "M" + "L".join(f"{px},{py}" for px, py, _ in points),
            "colour": COLOURS[index % len(COLOURS)],
            "dash": DASHES[index % len(DASHES)],
            "points": points,
        })  # fmt: skip

    def ticks(axis: Axis, start: int, length: int) -> list[tuple[float, str]]:
        return [(start + float(axis.fraction(tick)) * length, number(tick)) for tick in axis.ticks]

    return {
        "title": title,
        "x_label": x_axis.label,
        "y_label": y_axis.label,
        "x_ticks": ticks(x_axis, LEFT, WIDTH - LEFT - RIGHT),
        "y_ticks": ticks(y_axis, HEIGHT - BOTTOM, TOP + BOTTOM - HEIGHT),
        "lines": drawn,
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "right": WIDTH - RIGHT,
        "top": TOP,
        "bottom": HEIGHT - BOTTOM,
    }


def number(value: float) -> str:
    """Three significant digits, whole numbers in full."""
    if value == round(value) and abs(value) < 1e6:
        return f"{value:.0f}"
    return f"{value:.3g}"


def _curve_lines(curves: Sequence[CurveLike], kind: str, iou_threshold: float, axes: tuple[Axis, Axis]) -> list[Line]:
    lines = []
    for curve in curves:
        if curve.kind == kind and math.isclose(curve.iou_threshold, iou_threshold) and len(curve.x):
            keep = _seen(curve, axes)
            notes = [f" (score ≥ {score:.3f})" for score in curve.scores[keep]]
            lines.append(Line(curve.name, curve.x[keep], curve.y[keep], notes))
    return lines


def _seen(curve: CurveLike, axes: tuple[Axis, Axis]) -> np.ndarray:
    """The first and the last point of a curve in each of MAX_POINTS / 2 equal stretches of the horizontal axis.

    Of 50,000 detections a few hundred make the part of a FROC curve that is looked at. It comes in at the point before
    the axis begins, and leaves at the last one on it: points moved to an end of the axis would draw a wall there.
    """
    start = max(int(np.searchsorted(curve.x, axes[0].lower, "right")) - 1, 0)
    stop = int(np.searchsorted(curve.x, axes[0].upper, "right"))
    if start + 1 >= stop:  # a detector without, or with nothing but, false positives
        start, stop = 0, len(curve.x)
    place = (axes[0].fraction(curve.x[start:stop]) * (MAX_POINTS // 2 - 2)).astype(int)
    first = np.flatnonzero(np.diff(place, prepend=-1))
    return start + np.unique([*first, *(first[1:] - 1), len(place) - 1])


def _thin(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Long logs averaged over equal stretches, so that a trend is seen and the page stays small."""
    starts = np.arange(0, len(x), math.ceil(len(x) / MAX_POINTS))
    counts = np.diff(starts, append=len(x))
    return np.add.reduceat(x, starts) / counts, np.add.reduceat(y, starts) / counts


def _round_axis(label: str, values: Sequence[np.ndarray]) -> Axis:
    """An axis from 0 (or the lowest value below it) to just above the highest, with round ticks."""
    lower = min(0.0, *(float(v.min()) for v in values))
    upper = max(float(v.max()) for v in values)
    if upper <= lower:
        upper = lower + 1.0
    raw = (upper - lower) / 5
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= raw * 0.999)
    first, last = math.floor(lower / step), math.ceil(upper / step - 1e-9)
    return Axis(label, first * step, last * step, tuple(k * step for k in range(first, last + 1)))


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
