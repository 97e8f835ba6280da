"""The charts of `boxel evaluate` as PNG files, and the same charts on the page."""

import sys
import warnings
import xml.etree.ElementTree as xml
from dataclasses import dataclass, replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from boxel.reporting import drawing, write_figures
from boxel.reporting.charts import MAX_POINTS, Axis, Chart, Line, froc_chart, learning_charts, score_charts
from boxel.reporting.drawing import COLOURS, PNG_DPI, chart_png, chart_svg
from boxel.types import Detections, Instances
from tests.settings import evaluate


@pytest.fixture
def evaluation(rng, ndim):
    box = np.array([[[0.0] * ndim, [10.0] * ndim]])
    ground_truth, predictions = {}, {}
    for case in range(30):
        ground_truth[f"c{case}"] = Instances(box, np.array([case % 2]), np.ones(1, int), np.zeros(1, bool))
        boxes = np.concatenate([box, box + 50]) if case % 3 else box + 50
        predictions[f"c{case}"] = Detections(boxes, rng.random(len(boxes)), np.full(len(boxes), case % 2))
    return evaluate(predictions, ground_truth, classes=["nodule", "mass"], num_resamples=20)


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


def test_a_data_set_without_detections_has_figures_too(tmp_path, ndim):
    box = np.array([[[0.0] * ndim, [4.0] * ndim]])
    ground_truth = {"a": Instances(box, np.zeros(1, int), np.ones(1, int), np.zeros(1, bool))}
    evaluation = evaluate({"a": Detections.empty(ndim)}, ground_truth, classes=["x"], num_resamples=5)
    paths = write_figures(tmp_path, evaluation.metrics, evaluation.curves, evaluation.scores())
    assert "confusion_0.10" in {path.stem for path in paths}


def chart(*names, x=(0.0, 0.25, 0.75, 1.0), y=(0.2, 0.4, 0.6, 0.8), **axis):
    lines = [Line(name, np.array(x), np.array(y)) for name in names]
    return Chart("A chart", Axis("x", 0, 1, (0.0, 1.0)), Axis("y", 0, 1, (0.0, 1.0), **axis), lines)


def pixels(png):
    with Image.open(BytesIO(png)) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def texts(svg):
    content = xml.fromstring(f"<svg>{svg['content']}</svg>")
    return ["".join(element.itertext()) for element in content.iter("text")]


def rgb(colour):
    return np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)])


def test_the_points_under_the_pointer_lie_on_the_line_in_the_file_as_well():
    drawn = chart("nodule")
    (_, points), *_ = chart_svg(drawn)["lines"]
    picture = pixels(chart_png(drawn))
    for x, y, _ in points[1:-1]:
        column, row = (round(value * PNG_DPI / 72) for value in (x, y))
        assert np.abs(picture[row, column] - rgb(COLOURS[0])).max() < 60
    assert (picture[2, 2] == 255).all()


def test_a_chart_is_the_same_every_time():
    assert chart_png(chart("a", "b")) == chart_png(chart("a", "b"))
    assert chart_svg(chart("a", "b")) == chart_svg(chart("a", "b"))


def test_settings_of_the_user_do_not_change_a_chart():
    import matplotlib

    before = chart_png(chart("a")), chart_svg(chart("a"))
    with matplotlib.rc_context({"lines.linewidth": 9, "axes.grid": False, "font.size": 30, "svg.fonttype": "path"}):
        assert (chart_png(chart("a")), chart_svg(chart("a"))) == before
        assert matplotlib.rcParams["font.size"] == 30


NAMES = ["Läsion", "<b>x</b>", "腫瘤", "$x_1$ & $\\frac{", "_hidden", "ورم", "\U0001fac1 \ue000", "tab\tand\x00", ""]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_in_any_script_is_drawn_and_stays_text(name):
    svg = chart_svg(chart(name, "other"))
    shown = " ".join("".join(char if char.isprintable() else " " for char in name).split())
    assert shown in texts(svg)
    assert svg["lines"][0][0] == name
    assert chart_png(chart(name, "other")) != chart_png(chart("other", "other"))


def test_letters_outside_ascii_are_not_all_the_same_box():
    assert chart_png(chart("Läsion")) != chart_png(chart("Lôsion"))


def test_a_character_that_the_default_font_lacks_is_drawn_with_an_installed_font():
    """Two mathematical symbols, of which matplotlib's DejaVu Sans has none and its STIX fonts have both."""
    assert chart_png(chart("\u27c8")) != chart_png(chart("\u27c9"))
    assert drawing._fallback_fonts(frozenset("Läsion αβγ")) == ()
    assert any(name.startswith("STIX") for name in drawing._fallback_fonts(frozenset("\u27c8")))


@pytest.mark.parametrize("names", [["word " * 40], ["x" * 200], ["腫" * 120], [f"class {k}" for k in range(40)]])
def test_nothing_of_a_long_legend_is_cut_off(names):
    svg = chart_svg(chart(*names))
    shown, wanted = ("".join("".join(words).split()) for words in (texts(svg), names))
    assert wanted in shown
    picture = pixels(chart_png(chart(*names)))
    edges = np.concatenate([picture[:3], picture[-3:]]), np.concatenate([picture[:, :3], picture[:, -3:]], axis=1)
    assert all((edge == 255).all() for edge in edges)


def test_intervals_are_drawn():
    plain = chart("nodule")
    barred = replace(plain, lines=[replace(plain.lines[0], bars=[(0.5, 0.1, 0.9)])])
    difference = (pixels(chart_png(plain)) != pixels(chart_png(barred))).any(axis=2)
    assert difference.sum(axis=0).max() > 0.5 * 0.8 * len(difference) / 2


def test_training_curves_of_a_constant_and_of_one_step_are_drawn():
    history = [{"step": 0, "loss": 0.0, "lr": 1e-4}, {"step": 10, "loss": 0.0}, {"step": 10, "val/AP@0.10": 0.5}]
    for drawn in learning_charts(history):
        assert len(chart_png(drawn)) > 1000
        assert "Step" in texts(chart_svg(drawn))


def test_counts_have_whole_ticks_and_large_ones_a_logarithmic_axis():
    few, many = score_charts({"few": (np.full(3, 0.9), np.zeros(0)), "many": (np.full(3, 0.9), np.full(5000, 0.1))})
    assert {"0", "1", "2", "3"} <= set(texts(chart_svg(few)))
    assert "0.5" not in texts(chart_svg(few))
    assert {"0", "1", "10", "100", "1000"} <= set(texts(chart_svg(many)))


def test_drawing_needs_no_pyplot_and_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chart_png(chart("腫瘤"))
    assert "matplotlib.pyplot" not in sys.modules


@dataclass
class Curve:
    kind: str
    iou_threshold: float
    name: str
    x: np.ndarray
    y: np.ndarray
    scores: np.ndarray


def test_the_visible_part_of_a_long_froc_curve_keeps_its_points():
    """50,000 detections, of which 1 in 100 lies below one false positive per image."""
    x = np.arange(1, 50_001) / 500
    drawn = froc_chart([Curve("froc", 1.0, "nodule", x, np.linspace(0, 1, len(x)), x[::-1])], 1.0)
    (line,) = drawn.lines
    assert len(line.x) <= MAX_POINTS
    assert (line.x < 1).sum() > 80


def test_a_curve_is_not_moved_to_the_ends_of_its_axis():
    x = np.array([0.0, 0.0, 0.01, 0.05, 0.5, 4.0, 20.0, 90.0])
    y = np.array([0.1, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
    (line,) = froc_chart([Curve("froc", 1.0, "nodule", x, y, 1 - y)], 1.0).lines
    assert line.x.tolist() == [0.05, 0.5, 4.0]
    # Without a false positive there is nothing else to show.
    drawn = froc_chart([Curve("froc", 1.0, "nodule", x[:2], y[:2], y[:2])], 1.0)
    assert len(drawn.lines[0].x) == 2
    assert len(chart_svg(drawn)["lines"][0][1]) == 2  # no false positives: at the start of the logarithmic axis


def test_a_distance_is_not_called_an_overlap(evaluation):
    metrics = {"settings": {"criterion": "centre_distance"}}
    assert "distance < 0.1 mm" in froc_chart(evaluation.curves, 0.1, metrics).title
