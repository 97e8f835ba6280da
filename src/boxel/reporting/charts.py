"""What the charts show: curves, histograms and logs as named lines on two axes.

`boxel.reporting.drawing` draws them with matplotlib, for the page and for the PNG files.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal, Protocol

import numpy as np

MAX_POINTS = 300
SCORE_BINS = 20
# Counts above which a linear axis hides the small ones.
MANY = 50
MOST_NAMES = 5  # names of classes that fit an axis
MOST_CLASSES = 20  # that one page shows; `metrics.json` and the tables have all
MOST_MARKS = 2000  # points of a cloud


class CurveLike(Protocol):
    """The part of `boxel.evaluation.Curve` that a chart reads."""

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
    """A named line.

    Attributes:
        name: shown in the legend.
        x: `(t,)`.
        y: `(t,)`.
        notes: a text for each point, shown under the pointer after its values.
        bars: intervals of y at some x, as `(x, low, high)`.
        is_reference: a line to compare with, drawn in grey.
        is_cloud: points, not joined by a line.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    notes: Sequence[str] = ()
    bars: Sequence[tuple[float, float, float]] = ()
    is_reference: bool = False
    is_cloud: bool = False


@dataclass(frozen=True)
class Axis:
    """The range, scale and ticks of an axis; those left out follow from the lines.

    Attributes:
        label: name and unit.
        lower: lower end; smaller values are drawn there.
        upper: upper end; larger values are drawn there.
        ticks: values with a label.
        scale: "symlog" is linear from 0 to 1 and logarithmic above.
        names: labels of the ticks in place of their values.
    """

    label: str
    lower: float = -math.inf
    upper: float = math.inf
    ticks: Sequence[float] = ()
    scale: Literal["linear", "log", "symlog"] = "linear"
    names: Sequence[str] = ()


@dataclass(frozen=True)
class Chart:
    """One or more lines on two axes."""

    title: str
    x_axis: Axis
    y_axis: Axis
    lines: Sequence[Line]


def largest(numbers: Mapping[str, float]) -> list[str]:
    """The MOST_CLASSES names with the largest numbers, in their own order."""
    chosen = set(sorted(numbers, key=lambda name: -numbers[name])[:MOST_CLASSES])
    return [name for name in numbers if name in chosen]


def shown_classes(metrics: Mapping[str, Any]) -> list[str]:
    """The classes that a page shows: all or, of many, those with the most objects; `metrics` as in `metrics.json`."""
    counts = {name: number for key, number in metrics.items() if (name := key.removeprefix("num_objects/")) != key}
    return largest(counts)


def share_axis(label: str) -> Axis:
    """An axis from 0 to 1."""
    return Axis(label, 0, 1, (0.0, 0.2, 0.4, 0.6, 0.8, 1.0))


def match_rule(metrics: Mapping[str, Any] | None, threshold: float) -> str:
    """When a detection matches an object, in a few words; `metrics` as in `metrics.json`."""
    words = {
        "mask_iou": f"mask IoU ≥ {threshold:.2f}", "mask_dice": f"Dice ≥ {threshold:.2f}",
        "centre_distance": f"distance < {threshold:g} mm", "relative_distance": f"distance < {threshold:g} radii",
    }  # fmt: skip
    return words.get((metrics or {}).get("settings", {}).get("criterion", ""), f"IoU ≥ {threshold:.2f}")


def precision_recall_chart(
    curves: Sequence[CurveLike], iou_threshold: float, metrics: Mapping[str, Any] | None = None
) -> Chart | None:
    """Precision against recall, one line per class; None without such curves."""
    axes = (share_axis("Recall"), share_axis("Precision"))
    lines, left_out = _curve_lines(curves, "precision_recall", iou_threshold, axes[0], metrics)
    title = f"Precision and recall, {match_rule(metrics, iou_threshold)}{left_out}"
    return Chart(title, *axes, lines) if lines else None


def froc_chart(
    curves: Sequence[CurveLike], iou_threshold: float, metrics: Mapping[str, Any] | None = None
) -> Chart | None:
    """Sensitivity against false positives per image on a logarithmic axis; None without such curves.

    A single line gets the confidence intervals in `metrics`.
    """
    rates = (0.125, 0.25, 0.5, 1, 2, 4, 8)
    axes = (Axis("False positives per image", 1 / 16, 16, rates, "log"), share_axis("Sensitivity"))
    lines, left_out = _curve_lines(curves, "froc", iou_threshold, axes[0], metrics)
    if len(lines) == 1:
        intervals = [(rate, interval) for rate in rates for at in (f"@{iou_threshold:.2f}", "")
                     if (interval := (metrics or {}).get(f"sensitivity{at}/fp={rate:g}/ci95"))]  # fmt: skip
        lines = [replace(lines[0], bars=[(rate, *interval) for rate, interval in intervals])]
    return Chart(f"FROC, {match_rule(metrics, iou_threshold)}{left_out}", *axes, lines) if lines else None


def learning_charts(history: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """Losses, validation metrics and the learning rate of the training log, if they were logged."""
    series: dict[str, list[tuple[float, float]]] = {}
    for row in history:
        for key, value in row.items():
            if key != "step" and _is_finite(value) and _is_finite(row.get("step")):
                series.setdefault(key, []).append((float(row["step"]), float(value)))
    groups = (
        ("Training loss", "Loss", lambda key: key == "loss" or key.startswith("loss/")),
        ("Validation", "Metric", lambda key: key.startswith("val/")),
        ("Learning rate", "Learning rate", lambda key: key == "lr"),
    )
    charts = []
    for title, label, belongs in groups:
        chosen = {key: np.array(points).T for key, points in series.items() if belongs(key)}
        lines = [Line(key.removeprefix("val/"), *_thin(*points)) for key, points in list(chosen.items())[:MOST_CLASSES]]
        if lines:
            title += f", the first {len(lines)} of {len(chosen)}" if len(lines) < len(chosen) else ""
            charts.append(Chart(title, Axis("Step"), Axis(label), lines))
    return charts


def score_charts(scores: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> list[Chart]:
    """Histograms of the scores of true and of false positives, logarithmic for large counts.

    There is one chart per class, or per class with the most detections if there are many.
    """
    edges, charts = np.linspace(0, 1, SCORE_BINS + 1), []
    notes = [f" at scores {a:.2f} to {b:.2f}" for a, b in pairwise(edges) for _ in range(2)]
    for name, groups in ((name, scores[name]) for name in largest({n: sum(map(len, of)) for n, of in scores.items()})):
        lines, highest = [], 1
        for title, values in zip(("true positives", "false positives"), groups, strict=True):
            counts = np.histogram(np.asarray(values, float), edges)[0]
            highest = max(highest, int(counts.max()))
            x, y = np.repeat(edges, 2)[1:-1], np.repeat(counts, 2).astype(float)
            lines.append(Line(f"{title} ({len(values):,})", x, y, notes))
        counts_axis = Axis("Detections", 0, 1.05 * highest)
        if highest > MANY:
            decades = [10.0**k for k in range(math.ceil(math.log10(highest)) + 1)]
            counts_axis = Axis("Detections", 0, decades[-1], (0.0, *decades), "symlog")
        charts.append(Chart(f"Scores of {name}", share_axis("Score"), counts_axis, lines))
    return charts


def calibration_chart(metrics: Mapping[str, Any], iou_threshold: float) -> Chart | None:
    """Precision among detections of similar scores, from `calibration@...` of the metrics; None without it."""
    lines, calibration = [], metrics.get(f"calibration@{iou_threshold:.2f}", {})
    shown = largest({name: metrics.get(f"num_objects/{name}", 0) for name in calibration})
    for name, bins in ((name, calibration[name]) for name in shown):
        rows = [row for row in zip(bins["mean_score"], bins["precision"], bins["num"], strict=True) if row[2]]
        if rows:
            x, y, counts = np.array(rows, float).T
            intervals = bins.get("precision/ci95", [None] * len(bins["num"]))
            bars = [(at, *ends) for at, ends in zip(bins["mean_score"], intervals, strict=True) if ends]
            lines.append(Line(name, x, y, [f" ({count:.0f} detections)" for count in counts], bars))
    if not lines:
        return None
    lines.append(Line("perfect calibration", np.array([0.0, 1.0]), np.array([0.0, 1.0]), is_reference=True))
    title = f"Calibration, {match_rule(metrics, iou_threshold)}{of_classes(len(shown), len(calibration))}"
    return Chart(title, share_axis("Mean score"), share_axis("Precision"), lines)


def dice_charts(sizes: Mapping[str, tuple[np.ndarray, np.ndarray]], unit: str) -> dict[str, Chart]:
    """DSC of every case by class, with quartiles, and against the size of the object; empty without cases.

    Args:
        sizes: for each class the size of the annotated objects and the DSC of each case with such objects.
        unit: of the sizes.
    """
    shown = largest({name: len(each[0]) for name, each in sizes.items() if len(each[0])})
    present = {name: np.array(sizes[name], float) for name in shown}
    if not present:
        return {}
    clouds, strips, most = [], [], MOST_MARKS // len(present)
    for position, (name, (size, dice)) in enumerate(present.items()):
        low, middle, high = np.quantile(dice, [0.25, 0.5, 0.75])
        title = f"{name}, median {middle:.2f} of {len(dice):,}"
        if len(dice) > most:
            title += f" ({most:,} are drawn)"
            drawn = np.linspace(0, len(dice) - 1, most).astype(int)
            size, dice = size[drawn], dice[drawn]
        # Beside each other in a fixed order, so that the picture is the same each time.
        beside = position + 0.5 * ((np.arange(len(dice)) * 0.618) % 1) - 0.3
        bars = [(position + 0.35, low, high), (position + 0.35, middle, middle)]
        strips.append(Line(title, beside, dice, bars=bars, is_cloud=True))
        clouds.append(Line(name, size, dice, is_cloud=True))
    every = np.concatenate([size for size, _ in present.values()])
    lowest, highest = math.floor(math.log10(every.min())), math.floor(math.log10(every.max())) + 1
    decades = 10.0 ** np.arange(lowest, highest + 1)
    size_axis = Axis(f"Size of the annotated objects ({unit})", decades[0], decades[-1], decades.tolist(), "log")
    names = tuple(present) if len(present) <= MOST_NAMES else ()
    class_axis = Axis("Class", -0.5, len(present) - 0.5, tuple(range(len(present))), names=names)
    return {
        "dsc_by_class": Chart("DSC of each case, with quartiles", class_axis, share_axis("DSC"), strips),
        "dsc_by_size": Chart("DSC by size of the objects", size_axis, share_axis("DSC"), clouds),
    }


def number(value: float) -> str:
    """Three significant digits, whole numbers in full."""
    if value == round(value) and abs(value) < 1e6:
        return f"{value:.0f}"
    return f"{value:.3g}"


def _curve_lines(
    curves: Sequence[CurveLike], kind: str, iou_threshold: float, x_axis: Axis, metrics: Mapping[str, Any] | None
) -> tuple[list[Line], str]:
    """The lines of one kind, and the end of a title that says which classes they are of, if not of all."""
    lines = []
    alike = (c for c in curves if c.kind == kind and math.isclose(c.iou_threshold, iou_threshold))
    present = [curve for curve in alike if len(curve.x)]
    shown = set(largest({curve.name: (metrics or {}).get(f"num_objects/{curve.name}", 0) for curve in present}))
    for curve in (curve for curve in present if curve.name in shown):
        keep = _visible_points(curve.x, x_axis)
        notes = [f" (score ≥ {score:.3f})" for score in curve.scores[keep]]
        lines.append(Line(curve.name, curve.x[keep], curve.y[keep], notes))
    return lines, of_classes(len(lines), len(present))


def of_classes(shown: int, total: int) -> str:
    """The end of a title that says that not all classes are shown; empty if they are."""
    return f", {shown} of {total:,} classes (most objects)" if shown < total else ""


def _visible_points(x: np.ndarray, axis: Axis) -> np.ndarray:
    """Indices of the first and the last of the ascending `x` in each of MAX_POINTS / 2 equal stretches of the axis.

    Of 50,000 detections a few hundred make up the part of a FROC curve that is seen. The curve starts at the last
    point before the axis and ends at the last point on it: points moved to an end of the axis would form a wall.
    """
    start = max(int(np.searchsorted(x, axis.lower, "right")) - 1, 0)
    stop = int(np.searchsorted(x, axis.upper, "right"))
    if start + 1 >= stop:  # a detector with no false positives, or with nothing else
        start, stop = 0, len(x)
    scale = np.log if axis.scale == "log" else np.asarray
    lower, upper = scale(axis.lower), scale(axis.upper)
    along = (scale(np.clip(x[start:stop], axis.lower, axis.upper)) - lower) / (upper - lower)
    stretch = (along * (MAX_POINTS // 2 - 2)).astype(int)
    first = np.flatnonzero(np.diff(stretch, prepend=-1))
    return start + np.unique([*first, *(first[1:] - 1), len(stretch) - 1])


def _thin(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Long logs averaged over equal stretches, so that the trend shows and the page stays small."""
    starts = np.arange(0, len(x), math.ceil(len(x) / MAX_POINTS))
    counts = np.diff(starts, append=len(x))
    return np.add.reduceat(x, starts) / counts, np.add.reduceat(y, starts) / counts


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
