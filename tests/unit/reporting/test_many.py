"""Pages and pictures of many classes, cases and boxes stay small, and say what they leave out."""

import numpy as np

from boxel.datasets.quality.near_duplicates import near_duplicates
from boxel.evaluation.evaluate import Curve
from boxel.reporting import Picture, pictures
from boxel.reporting.charts import (
    MAX_POINTS,
    MOST_CLASSES,
    MOST_MARKS,
    calibration_chart,
    dice_charts,
    froc_chart,
    precision_recall_chart,
    score_charts,
)
from boxel.reporting.overview import MOST_ROWS, OverviewContent, histogram_chart, ranked_chart, write_overview
from boxel.reporting.pictures import draw, draw_best_plane
from boxel.reporting.tables import size_table
from boxel.types import Detections, Instances

NAMES = [f"class {k}" for k in range(60)]
METRICS = {f"num_objects/{name}": k for k, name in enumerate(NAMES)}


def test_charts_show_the_classes_with_the_most_objects_and_say_so():
    ends = np.array([0.1, 0.9])
    curves = [Curve(kind, 0.1, name, ends, ends, ends) for kind in ("precision_recall", "froc") for name in NAMES]
    bins = {"mean_score": [0.5], "precision": [0.5], "num": [3]}
    metrics = METRICS | {"calibration@0.10": dict.fromkeys(NAMES, bins)}
    for chart in (
        precision_recall_chart(curves, 0.1, metrics),
        froc_chart(curves, 0.1, metrics),
        calibration_chart(metrics, 0.1),
    ):
        lines = [line.name for line in chart.lines if not line.is_reference]
        assert lines == NAMES[-MOST_CLASSES:]
        assert f"{MOST_CLASSES} of 60 classes (most objects)" in chart.title
    few = precision_recall_chart(curves[:5], 0.1, metrics)
    assert len(few.lines) == 5
    assert "classes" not in few.title
    scores = {name: (np.full(k, 0.5), np.zeros(0)) for k, name in enumerate(NAMES)}
    assert [chart.title for chart in score_charts(scores)] == [f"Scores of {name}" for name in NAMES[-MOST_CLASSES:]]
    of_sizes = METRICS | {f"AP@0.10/size=0..9{end}": 0.5 for end in ("", *(f"/{name}" for name in NAMES))}
    assert len(size_table(of_sizes, [0.1])["columns"]) == 2 + MOST_CLASSES


def test_clouds_and_ranks_are_thinned_but_their_statistics_are_of_all():
    dice = np.linspace(0, 1, 10_001)
    [strip] = dice_charts({"x": (np.arange(1.0, 10_002), dice)}, "mm3")["dsc_by_class"].lines
    assert len(strip.x) == MOST_MARKS
    assert strip.name == "x, median 0.50 of 10,001 (2,000 are drawn)"
    values = np.random.default_rng(0).permutation(10_000)
    [line] = ranked_chart("Objects", "Objects", {"cases": values}).lines
    assert len(line.x) == MAX_POINTS
    assert (line.x[0], line.y[0], line.x[-1], line.y[-1]) == (1, 0, 10_000, 9_999)
    assert np.array_equal(line.y, line.x - 1)
    assert (
        len(histogram_chart("Size", "mm", {name: np.arange(k) for k, name in enumerate(NAMES)}).lines) == MOST_CLASSES
    )


def test_a_picture_of_very_many_boxes_draws_the_errors_and_the_highest_scores(ndim, monkeypatch):
    monkeypatch.setattr(pictures, "MOST_BOXES", 40)
    rng, number = np.random.default_rng(0), 120
    lower = rng.uniform(0, 20, (number, ndim))
    boxes = np.stack([lower, lower + 8], axis=1).astype(np.float32)
    scores = rng.random(number).astype(np.float32)
    detections = Detections(boxes, scores, np.zeros(number, int))
    picture = Picture("a", np.zeros((32,) * ndim), Instances.empty(ndim), detections, ["x"],
                      true_positives=np.ones(number, bool))  # fmt: skip
    drawn = draw(picture)
    planes = [drawn["first"], *drawn["planes"]]
    assert all(len(plane["boxes"]) <= 40 for plane in planes)
    assert "40 of 120 boxes, errors and high scores first" in drawn["left_out"]
    hints = {box["hint"] for plane in planes for box in plane["boxes"]}
    assert f"detection: x, score {scores.max():.3f}" in hints
    assert drawn["hidden"] == 0
    assert len(draw_best_plane(picture)["plane"]["boxes"]) <= 40


def test_the_page_about_a_data_set_lists_so_many_cases(tmp_path):
    rows = [{"case": f"case_{k}"} for k in range(MOST_ROWS + 1)]
    write_overview(tmp_path / "index.html", OverviewContent("many", rows=rows))
    page = (tmp_path / "index.html").read_text()
    assert page.count("<td>case_") == MOST_ROWS
    assert "The first 5,000 of 5,001" in page


def test_images_that_are_all_alike_give_so_many_pairs(monkeypatch):
    bits = np.zeros(256, bool)
    bits[:50] = True
    other = ~bits
    assert near_duplicates([bits, None, other, bits, bits]) == [(0, 3), (0, 4), (3, 4)]
    monkeypatch.setattr("boxel.datasets.quality.near_duplicates.MOST_PAIRS", 5)
    monkeypatch.setattr("boxel.datasets.quality.near_duplicates.BLOCK", 2)
    assert near_duplicates([bits] * 10) == [(0, k) for k in range(1, 6)]
