"""The figures of `boxel evaluate` as PNG files."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from boxel.evaluation import evaluate
from boxel.reporting import write_figures
from boxel.reporting.charts import COLOURS, MAX_POINTS, froc_chart
from boxel.reporting.raster import SCALE, TITLE, draw_chart
from boxel.types import Detections, Instances


@pytest.fixture
def evaluation(rng, ndim):
    box = np.array([[[0.0] * ndim, [10.0] * ndim]])
    truths, predictions = {}, {}
    for case in range(30):
        truths[f"c{case}"] = Instances(box, np.array([case % 2]), np.ones(1, int), np.zeros(1, bool))
        boxes = np.concatenate([box, box + 50]) if case % 3 else box + 50
        predictions[f"c{case}"] = Detections(boxes, rng.random(len(boxes)), np.full(len(boxes), case % 2))
    return evaluate(predictions, truths, classes=["nodule", "mass"], num_resamples=20)


def test_every_figure_is_a_file_that_can_be_opened(evaluation, tmp_path):
    paths = write_figures(tmp_path, evaluation.metrics, evaluation.curves, evaluation.scores())
    assert {path.stem for path in paths} == {
        "precision_recall_0.10", "precision_recall_0.50", "froc_0.10", "froc_0.50",
        "calibration_0.10", "calibration_0.50", "scores_0", "scores_1", "confusion_0.10",
    }  # fmt: skip
    for path in paths:
        with Image.open(path) as picture:
            picture.load()
            assert picture.width > 600
            assert len(picture.convert("RGB").getcolors(1 << 24)) > 20  # not an empty sheet


def rgb(colour):
    return tuple(int(colour[k : k + 2], 16) for k in (1, 3, 5))


def test_lines_lie_where_the_page_has_them(evaluation):
    chart = froc_chart(evaluation.curves, 0.1)
    chart["lines"] = chart["lines"][:1]
    picture = np.asarray(draw_chart(chart)).astype(int)
    points = chart["lines"][0]["points"]
    (x, y, _), (x2, y2, _) = max(pairwise(points), key=lambda ends: ends[1][0] - ends[0][0])
    middle = picture[round((TITLE + (y + y2) / 2) * SCALE), round((x + x2) / 2 * SCALE)]
    assert np.abs(middle - rgb(COLOURS[0])).max() < 60
    assert (picture[2, 2] == 255).all()


def test_a_set_without_detections_has_figures_too(tmp_path, ndim):
    box = np.array([[[0.0] * ndim, [4.0] * ndim]])
    truths = {"a": Instances(box, np.zeros(1, int), np.ones(1, int), np.zeros(1, bool))}
    found = evaluate({"a": Detections.empty(ndim)}, truths, classes=["x"], num_resamples=5)
    stems = {path.stem for path in write_figures(tmp_path, found.metrics, found.curves, found.scores())}
    assert "confusion_0.10" in stems


@dataclass
class Curve:
    kind: str
    iou_threshold: float
    name: str
    x: np.ndarray
    y: np.ndarray
    scores: np.ndarray


def test_the_part_of_a_long_froc_curve_that_is_looked_at_keeps_its_points():
    """50,000 detections, of which 1 in 100 lies below one false positive per image."""
    x = np.arange(1, 50_001) / 500
    chart = froc_chart([Curve("froc", 1.0, "nodule", x, np.linspace(0, 1, len(x)), x[::-1])], 1.0)
    (line,) = chart["lines"]
    assert len(line["points"]) <= MAX_POINTS
    below_one = chart["x_ticks"][3][0]
    assert sum(point[0] < below_one for point in line["points"]) > 80


def test_a_curve_is_not_moved_to_the_ends_of_its_axis():
    x = np.array([0.0, 0.0, 0.01, 0.05, 0.5, 4.0, 20.0, 90.0])
    y = np.array([0.1, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
    (line,) = froc_chart([Curve("froc", 1.0, "nodule", x, y, 1 - y)], 1.0)["lines"]
    assert [point[2].partition(" ")[0] for point in line["points"]] == ["0.05,", "0.5,", "4,"]
    # Without a false positive there is nothing else to show.
    (line,) = froc_chart([Curve("froc", 1.0, "nodule", x[:2], y[:2], y[:2])], 1.0)["lines"]
    assert len(line["points"]) == 2


def test_a_distance_is_not_called_an_overlap(evaluation):
    metrics = {"settings": {"criterion": "centre_distance"}}
    assert "distance < 0.1 mm" in froc_chart(evaluation.curves, 0.1, metrics)["title"]
