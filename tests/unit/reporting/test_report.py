import json
from html.parser import HTMLParser

import numpy as np
import pytest

from boxel.evaluation import case_rows
from boxel.reporting import Picture, ReportContent, choose_pictures, write_report
from boxel.types import Detections, Instances
from tests.settings import evaluate

EVIL = '<script>alert("x")</script>'


class Page(HTMLParser):
    """Collects elements with their attributes, and the text outside of scripts and styles."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.text, self._within = [], "", ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._within = tag

    def handle_endtag(self, tag):
        self._within = ""

    def handle_data(self, data):
        if self._within not in ("script", "style"):
            self.text += data

    def of(self, tag, **attributes):
        chosen = [a for t, a in self.elements if t == tag]
        return [a for a in chosen if all(a.get(key) == value for key, value in attributes.items())]


def charts(page):
    """The lines of each chart, as pairs of a name and points `[x, y, text]`."""
    return [json.loads(box["data-lines"]) for box in page.of("div", **{"class": "box chart"})]


def content(ndim, title="Report", classes=("nodule", EVIL)):
    box = np.array([[[4] * ndim, [12] * ndim], [[20] * ndim, [28] * ndim]], np.float32)
    ground_truth = {
        "detected": Instances(box, np.array([0, 1]), np.array([1, 2]), np.zeros(2, bool)),
        "missed": Instances(box, np.array([0, 1]), np.array([1, 2]), np.zeros(2, bool)),
        "empty": Instances.empty(ndim),
    }
    predictions = {
        "detected": Detections(box, np.array([0.9, 0.8], np.float32), np.array([0, 1])),
        "missed": Detections(box[:1], np.array([0.7], np.float32), np.array([0])),
        "empty": Detections(box[1:], np.array([0.95], np.float32), np.array([0])),
    }
    evaluation = evaluate(predictions, ground_truth, classes=classes, num_resamples=20)
    pictures = []
    for case, reason in choose_pictures(case_rows(evaluation)):
        true_positives, detected = evaluation.outcome(case)
        image = np.random.default_rng(0).normal(size=(32,) * ndim)
        pictures.append(
            Picture(case, image, ground_truth[case], predictions[case], classes, reason, detected=detected,
                    true_positives=true_positives, score_thresholds=evaluation.score_thresholds)
        )  # fmt: skip
    history = [{"step": step, "loss": 1 / (step + 1), "loss/class": 0.1, "lr": 1e-4} for step in range(1000)]
    history += [{"step": 500, "val/AP@0.10": 0.5}, {"step": 999, "val/AP@0.10": 0.7, "loss": float("nan")}]
    return ReportContent(
        title,
        evaluation.metrics,
        evaluation.curves,
        history,
        plan={"spacing": f"Because {EVIL}."},
        recipe={"name": EVIL},
        environment={"python": "3.11"},
        pictures=pictures,
    )


@pytest.fixture
def page(tmp_path, ndim):
    write_report(tmp_path / "report.html", content(ndim))
    return Page((tmp_path / "report.html").read_text())


def test_the_page_shows_metrics_curves_pictures_plan_and_recipe(page):
    metrics = ("AP@0.10", "Precision and recall, IoU ≥ 0.10", "FROC, IoU ≥ 0.50", "95 % confidence intervals")
    learning = ("Training loss", "Validation", "Learning rate")
    rest = ("most missed objects", "most false positives", "Plan", "Because", "Recipe", "Environment")
    for words in metrics + learning + rest:
        assert words in page.text, words


def test_the_page_needs_no_network(page):
    loads = [value for _, attributes in page.elements for key, value in attributes.items()
             if key in ("src", "href", "srcset", "data", "action", "poster")]  # fmt: skip
    assert loads
    assert all(value.startswith(("data:", "#")) for value in loads)
    policy = page.of("meta", **{"http-equiv": "Content-Security-Policy"})
    assert "default-src 'none'" in policy[0]["content"]


def test_names_from_the_data_are_text_not_markup(page):
    assert len(page.of("script")) == 1
    assert EVIL in page.text
    assert any(name == EVIL for chart in charts(page) for name, _ in chart)


def test_objects_are_dashed_and_detections_are_solid_with_their_score(page, tmp_path):
    assert page.of("rect", **{"class": "object"})
    assert page.of("rect", **{"class": "detection"})
    assert "0.90" in page.text
    assert "missed" in page.text
    assert "false" in page.text
    html = (tmp_path / "report.html").read_text()
    assert "stroke-dasharray" in html.split(".object {")[1].split("}")[0]
    assert "stroke-dasharray" not in html.split(".detection {")[1].split("}")[0]


def test_the_points_under_the_pointer_are_valid_and_few(page):
    lines = [points for chart in charts(page) for _, points in chart]
    assert len(lines) >= 8
    assert all(1 <= len(points) <= 300 for points in lines)
    assert any("score ≥" in text for points in lines for _, _, text in points)


def test_a_volume_is_shown_by_the_slices_through_its_objects(page, ndim):
    pictures = [label for svg in page.of("svg", role="img") if (label := svg["aria-label"]).startswith("detected")]
    # Objects at 4..12 and 20..28 on every axis.
    # The page starts at the first of them; all 32 slices can be scrolled to.
    assert len(pictures) == 1
    leading = ndim - 2
    [case] = [a for a in page.of("section") if a.get("class") == "box planes case"][:1]
    planes = json.loads(case["data-planes"])
    assert [plane["name"] for plane in planes] == [f"slice {k + 1} of 32" for k in range(32)] * leading or [""]
    assert sum(bool(plane["boxes"]) for plane in planes) == (16 if leading else 1)
    assert len(page.of("input", type="range")) == 3 * leading


def report_of(tmp_path, shape, box):
    objects = Instances.from_boxes([box], labels=[0])
    picture = Picture("a", np.zeros(shape), objects, Detections.empty(2), ["cell"])
    write_report(tmp_path / "report.html", ReportContent("Report", pictures=[picture]))
    return Page((tmp_path / "report.html").read_text())


def test_a_photograph_is_shown_as_a_whole(tmp_path):
    page = report_of(tmp_path, (480, 640), [[10, 20], [60, 70]])
    [plane] = json.loads(page.of("section", **{"class": "box planes case"})[0]["data-planes"])
    assert (plane["width"], plane["height"], plane["name"]) == (640, 480, "")
    assert "Scroll" not in page.text


def test_of_a_large_image_a_part_is_shown_which_cuts_boxes_off(tmp_path):
    page = report_of(tmp_path, (3000, 2000), [[100, 0], [200, 2000]])
    [plane] = json.loads(page.of("section", **{"class": "box planes case"})[0]["data-planes"])
    assert plane["name"] == " (rows 0 to 1024, columns 488 to 1512)"
    [box] = plane["boxes"]
    assert (box["x"], box["width"]) == (-488, 2000)
    outer = page.elements.index(("image", page.of("image")[0]))
    assert page.elements[outer + 1] == ("svg", {"width": "1024.0", "height": "1024.0"})


def test_a_report_without_content_is_still_a_page(tmp_path):
    write_report(tmp_path / "report.html", ReportContent("Nothing yet"))
    page = Page((tmp_path / "report.html").read_text())
    assert "Nothing yet" in page.text
    assert "Pictures" not in page.text


def test_undefined_metrics_are_dashes(tmp_path, ndim):
    metrics = evaluate({"a": Detections.empty(ndim)}, {"a": Instances.empty(ndim)}, classes=["nodule"]).metrics
    write_report(tmp_path / "report.html", ReportContent("Empty", metrics))
    text = Page((tmp_path / "report.html").read_text()).text
    assert "No annotated objects of class nodule" in text
    assert "nan" not in text.lower()
    assert "None" not in text


def test_a_large_image_is_cropped_around_its_objects(tmp_path, ndim):
    shape = (3,) * (ndim - 2) + (2000, 1500)
    lower = np.array([0.0] * (ndim - 2) + [1800.0, 1300.0])
    box = np.stack([lower, lower + np.array([3.0] * (ndim - 2) + [50.0, 60.0])])[None].astype(np.float32)
    ground_truth = Instances(box, np.zeros(1, int), np.ones(1, int), np.zeros(1, bool))
    picture = Picture("big", np.random.default_rng(0).normal(size=shape), ground_truth, Detections.empty(ndim), ["x"])
    write_report(tmp_path / "report.html", ReportContent("Big", pictures=[picture]))
    page = Page((tmp_path / "report.html").read_text())
    rectangle = page.of("rect", **{"class": "object"})[0]
    extent = 1024 if ndim == 2 else 512
    assert 0 <= float(rectangle["x"]) <= extent - 60
    assert 0 <= float(rectangle["y"]) <= extent - 50
    assert (tmp_path / "report.html").stat().st_size < 500_000


def test_voxels_are_drawn_in_proportion_to_their_spacing(tmp_path, ndim):
    spacing = (3.0,) * (ndim - 2) + (2.0, 0.5)
    picture = Picture("a", np.zeros((4,) * ndim), Instances.empty(ndim), Detections.empty(ndim), ["x"], spacing=spacing)
    write_report(tmp_path / "report.html", ReportContent("A", pictures=[picture]))
    page = Page((tmp_path / "report.html").read_text())
    assert page.of("image")[0]["height"] == "16.0"
    assert page.of("image")[0]["width"] == "4.0"


def rows(**counts):
    keys = ("num_objects", "true_positives", "false_positives", "false_negatives")
    return [{"case": case, "class": "x", **dict(zip(keys, values, strict=True))} for case, values in counts.items()]


def test_the_choice_shows_errors_successes_and_ordinary_cases():
    cases = {"good": (3, 3, 0, 0), "bad": (4, 1, 0, 3), "noisy": (2, 2, 5, 0), "clean": (0, 0, 0, 0)}
    chosen = dict(choose_pictures(rows(**cases, usual=(4, 3, 1, 1), other=(5, 4, 1, 1)), limit=5))
    assert len(chosen) == 5
    assert chosen["bad"] == "most missed objects: 1 of 4 detected, 0 false positives"
    assert chosen["noisy"].startswith("most false positives: 2 of 2 detected, 5 false")
    assert chosen["good"].startswith("best")
    assert next(iter(chosen)) == "bad"


@pytest.mark.parametrize("limit", [1, 3, 8])
def test_the_choice_repeats_no_case_and_keeps_to_the_limit(limit):
    generator = np.random.default_rng(limit)
    counts = {f"c{i}": (5, 5 - m, f, m) for i, (m, f) in enumerate(generator.integers(0, 4, (20, 2)).tolist())}
    chosen = choose_pictures(rows(**counts), limit=limit)
    assert len(chosen) == len({case for case, _ in chosen}) == limit
    assert choose_pictures([], limit=limit) == []
