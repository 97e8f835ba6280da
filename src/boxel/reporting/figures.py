"""The charts of an evaluation as PNG files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from boxel.files import write_bytes
from boxel.reporting.charts import (
    Chart,
    CurveLike,
    calibration_chart,
    dice_charts,
    froc_chart,
    match_rule,
    precision_recall_chart,
    score_charts,
)
from boxel.reporting.drawing import chart_png, confusion_png
from boxel.reporting.tables import confusion_table


def write_figures(
    out: Path,
    metrics: Mapping[str, Any],
    curves: Sequence[CurveLike],
    scores: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> list[Path]:
    """Write the curves, score histograms, calibration and class confusion as PNG files.

    Args:
        out: folder for files such as `froc_0.10.png`.
        metrics: as in `metrics.json`.
        curves: precision-recall and FROC curves.
        scores: for each class the scores of its true and of its false positives.

    Returns:
        The files written; a chart without data has none.
    """
    return _write(out, _box_figures(metrics, curves, scores))


def write_segmentation_figures(out: Path, sizes: Mapping[str, tuple[np.ndarray, np.ndarray]], unit: str) -> list[Path]:
    """Write the DSC of each case by class and by size as PNG files, see `dice_charts`."""
    return _write(out, {name: chart_png(chart) for name, chart in dice_charts(sizes, unit).items()})


def _box_figures(
    metrics: Mapping[str, Any],
    curves: Sequence[CurveLike],
    scores: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> dict[str, bytes]:
    thresholds = sorted({curve.iou_threshold for curve in curves})
    charts: dict[str, Chart | None] = {}
    for threshold in thresholds:
        charts[f"precision_recall_{threshold:.2f}"] = precision_recall_chart(curves, threshold, metrics)
        charts[f"froc_{threshold:.2f}"] = froc_chart(curves, threshold, metrics)
        charts[f"calibration_{threshold:.2f}"] = calibration_chart(metrics, threshold)
    charts |= {f"scores_{index}": chart for index, chart in enumerate(score_charts(scores))}
    files = {name: chart_png(chart) for name, chart in charts.items() if chart}
    if confusion := confusion_table(metrics, thresholds):
        title = f"Class confusion, {match_rule(metrics, thresholds[0])}"
        files[f"confusion_{confusion['iou']}"] = confusion_png(confusion, title)
    return files


def _write(out: Path, files: Mapping[str, bytes]) -> list[Path]:
    paths = {Path(out) / f"{name}.png": content for name, content in files.items()}
    for path, content in paths.items():
        write_bytes(path, content)
    return list(paths)
