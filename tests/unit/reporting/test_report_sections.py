"""Scores, sizes, confusion, the worst errors and the case browser of the report."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from boxel.api.reporting import rank_false_positives, rank_missed
from boxel.cli.console import print_points
from boxel.evaluation import evaluate_segmentation
from boxel.evaluation.case_segmentation import score_case
from boxel.operating_points import Calibration, OperatingPoint, OperatingPoints
from boxel.reporting import Detail, Picture, ReportContent, write_report
from boxel.reporting.charts import Axis, Chart, Line
from boxel.reporting.drawing import chart_svg
from boxel.reporting.tables import ABSENT, class_table, notes
from boxel.types import Detections, Instances
from unit.reporting.test_report import EVIL, Page, charts, content


def case(ndim, shape, image=None):
    """An object at 4..8 on each axis; a true positive on it and a false positive at 10..14 of low score."""
    boxes = np.array([[[4] * ndim, [8] * ndim], [[10] * ndim, [14] * ndim]], np.float32)
    ground_truth = Instances(boxes[:1], np.array([1]), np.array([5]), np.zeros(1, bool))
    detections = Detections(boxes, np.array([0.9, 0.2], np.float32), np.array([1, 0]))
    image = np.random.default_rng(0).normal(size=shape) if image is None else image
    return Picture("one", image, ground_truth, detections, ["nodule", "mass"], score_thresholds=[0.5, 0.5],
                   true_positives=np.array([True, False]), detected=np.array([True]))  # fmt: skip


def page_of(tmp_path, page):
    write_report(tmp_path / "report.html", page)
    return Page((tmp_path / "report.html").read_text())


def full_content(ndim):
    """Every section."""
    base, picture = content(ndim, classes=("nodule", EVIL)), case(ndim, (32,) * ndim)
    names = ["nodule", EVIL]
    metrics = dict(base.metrics) | {
        "confusion@0.10": {
            "rows": [*names, "background"],
            "columns": [*names, "missed"],
            "counts": [[17, 1, 2], [0, 20, 3], [4, 12, 0]],
        },
        "AP@0.10/size=0..64": 0.25,
        "AP@0.10/size=0..64/ci95": [0.125, 0.375],
        "AP@0.10/size=64..inf": 0.75,
        "AR@0.10/size=64..inf": 0.875,
        "calibration@0.10": {
            "nodule": {"mean_score": [0.25, None, 0.75], "precision": [0.5, None, 1.0], "num": [4, 0, 8]}
        },
    }
    boxes = picture.detections.boxes.astype(float)
    return replace(
        base,
        metrics=metrics,
        scores={"nodule": (np.array([0.97, 0.98, 0.62]), np.full(200, 0.03)), EVIL: (np.zeros(0), np.zeros(0))},
        missed=[Detail(replace(picture, caption="nodule, 64 voxels"), boxes[0])],
        false_positives=[Detail(replace(picture, caption="score 0.20"), boxes[1])],
    )


def test_histograms_count_true_and_false_positives_of_each_class(tmp_path, ndim):
    page = page_of(tmp_path, full_content(ndim))
    assert "Scores of nodule" in page.text
    assert "true positives (3)" in page.text
    assert "false positives (200)" in page.text
    [points] = [points for chart in charts(page) for name, points in chart if name == "true positives (3)"]
    notes = [text for _, _, text in points]
    assert "0.95, 2 at scores 0.95 to 1.00" in notes
    assert "0.6, 1 at scores 0.60 to 0.65" in notes


@pytest.mark.parametrize(("num_groups", "unit"), [(12, "12 images"), (7, "7 patients")])
def test_what_was_resampled_is_called_by_its_name(num_groups, unit):
    settings = {"rule": "greedy", "interpolation": "101", "num_resamples": 1000, "seed": 0}
    [*_, note] = notes({"settings": settings, "num_images": 12, "num_groups": num_groups})
    assert f"1000 bootstrap resamples of {unit} (seed 0)" in note


def test_a_peak_stays_below_the_frame():
    chart = Chart("x", Axis("a"), Axis("b", 0), [Line("peak", np.arange(3.0), np.array([0.0, 30.0, 0.0]))])
    drawn = chart_svg(chart)
    [(_, [(_, bottom, _), (_, top, _), _])] = drawn["lines"]
    ys = {float(y) for y in re.findall(r"M [\d.]+ ([\d.]+) L", drawn["content"])}  # grid lines, from 0 upwards
    assert min(ys) < top - 5
    assert max(ys) >= bottom - 1


def test_sizes_confusion_and_calibration_are_shown_where_they_were_measured(tmp_path, ndim):
    page = page_of(tmp_path, full_content(ndim))
    for words in ("Object size", "0 to 64", "[0.125, 0.375]", "from 64", "0.875"):
        assert words in page.text, words
    for words in ("Class confusion", "annotated \\ detected", "85 %", "Calibration, IoU ≥ 0.10"):
        assert words in page.text, words
    assert "confusion" not in page_of(tmp_path, ReportContent("x")).text


def test_a_class_has_the_columns_of_what_was_measured():
    metrics = {
        "num_objects/a": 3,
        "num_objects/b": 0,
        "patient_AP/a": 0.625,
        "patient_AP/b": None,
        "patient_AUROC/a": None,
    }
    table = class_table(metrics, [0.1])
    assert table["columns"] == ["objects", "patient AP"]
    assert [[text for text, _ in cells] for _, cells in table["rows"]] == [["3", "0.625"], ["0", ABSENT]]


@pytest.mark.parametrize("calibrated", [{}, {"a": Calibration(slope=1, offset=0, ece_before=0.25, ece_after=0.125)}])
def test_scores_are_said_to_be_calibrated_where_they_are(tmp_path, capsys, calibrated):
    of_class = {"f1": OperatingPoint(score=0.6, sensitivity=1, fp_per_image=0)}
    points = OperatingPoints(applied={"a": of_class["f1"], "b": of_class["f1"]}, iou_threshold=0.1, num_images=3,
                             points={"a": of_class, "b": of_class}, calibration=calibrated)  # fmt: skip
    text = page_of(tmp_path, ReportContent("x", points=points)).text
    assert ("0.250 before, 0.125 after" in text) == ("calibration error" in text) == bool(calibrated)
    assert ("Scores are not calibrated." in text) == (not calibrated)
    print_points(points)
    said = capsys.readouterr().out
    assert "sensitivity" in said
    assert max(map(len, said.splitlines())) <= 80
    assert ("0.250 before," in said) == bool(calibrated)


def test_segmentations_have_a_card_a_table_charts_and_outlines(tmp_path, ndim):
    expected = np.zeros((2, *(32,) * ndim), np.uint8)
    expected[:, ..., 4:8, 4:8], expected[1, ..., 10:20, 10:20] = 1, 2
    found = [score_case(one, two, 2, [0.5] * ndim) for one, two in zip(expected, expected[::-1], strict=True)]
    evaluation = evaluate_segmentation(dict(zip("ab", found, strict=True)), classes=["nodule", EVIL])
    picture = replace(case(ndim, (32,) * ndim, np.zeros((32,) * ndim)), label_map=lambda: expected[1])
    page = page_of(tmp_path, ReportContent("x", segmentation=evaluation, pictures=[picture]))
    for words in ("DSC", "0.500", "HD95 (mm)", EVIL, "predicted segmentation", "DSC by size of the objects"):
        assert words in page.text, words
    assert ("DSC of slices with it" in page.text) == (ndim > 2)
    plain = page_of(tmp_path, ReportContent("x", pictures=[replace(picture, label_map=None)]))
    assert "egmentation" not in plain.text
    assert page.of("image")[0]["href"] != plain.of("image")[0]["href"]
    page = page_of(tmp_path, ReportContent("x", no_segmentation="case 'a' is data without masks"))
    assert "The segmentations are not evaluated: case 'a' is data without masks" in page.text


def test_an_error_is_shown_in_the_slice_through_its_middle_with_its_own_box_named(tmp_path, ndim):
    page = page_of(tmp_path, ReportContent("x", false_positives=full_content(ndim).false_positives))
    assert "Highest false positives" in page.text
    assert "score 0.20" in page.text
    assert "false 0.20" in page.text  # below the threshold, drawn because it is looked at
    assert ("slice 13 of 32" in page.text) == (ndim > 2)


def test_images_are_loaded_when_they_are_drawn_and_not_before(tmp_path, ndim):
    calls = []

    def load():
        calls.append(1)
        return np.zeros((16,) * ndim, np.float32)

    content = ReportContent("x", pictures=[case(ndim, (), image=load)])
    assert not calls
    write_report(tmp_path / "report.html", content)
    assert calls == [1]


def test_the_browser_of_a_long_volume_keeps_to_a_number_of_slices_and_says_so(tmp_path):
    picture = case(3, (200, 40, 40))
    page = page_of(tmp_path, ReportContent("x", {"num_images": 12}, pictures=[picture]))
    [section] = [a for a in page.of("section") if "data-planes" in a]
    planes = json.loads(section["data-planes"])
    assert 48 <= len(planes) <= 54
    assert "slice 7 of 200" in [plane["name"] for plane in planes]  # through the middle of the object
    assert f"{len(planes)} of 200 slices" in page.text
    assert "1 of 12 cases" in page.text


def rows():
    values = [
        ("fn", "", 10.0, 1), ("fn", "", 30.0, 2), ("tp", 0.3, 20.0, 3), ("tp", 0.1, 20.0, 4), ("tp", 0.9, 20.0, 5),
        ("fp", 0.4, "", ""), ("fp", 0.8, "", ""),
    ]  # fmt: skip
    keys = ("outcome", "score", "object_size", "object_id")
    return [{"case": "a", "class": "nodule", **dict(zip(keys, row, strict=True))} for row in values]


def test_missed_objects_are_ranked_by_size_then_by_the_score_below_the_threshold():
    ranked = rank_missed(rows(), {"nodule": 0.5})
    assert [row["object_id"] for row, _ in ranked] == [2, 1, 4, 3]
    assert ranked[0][1] == "nodule, 30 voxels"
    assert ranked[2][1] == "nodule, detected at 0.10, below the 0.50 threshold"
    assert len(rank_missed(rows(), {"nodule": None})) == 2
    assert len(rank_missed(rows(), {"nodule": 0.1000000015})) == 2  # 0.1 as float32: exactly the threshold


def test_false_positives_are_ranked_by_score():
    assert [row["score"] for row in rank_false_positives(rows())] == [0.8, 0.4]


@pytest.fixture(scope="module")
def chromium():
    """A browser that was installed with the system; Playwright drives it."""
    import shutil

    from playwright import sync_api as playwright

    path = shutil.which("chromium") or shutil.which("google-chrome")
    if not path:
        pytest.skip("no chromium on this machine; apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.parametrize("width", [1280, 390], ids=["desktop", "phone"])
def test_the_page_works_in_chromium_without_errors(tmp_path, ndim, chromium, width):
    write_report(tmp_path / "report.html", full_content(ndim))
    page = chromium.new_page(viewport={"width": width, "height": 800})
    problems = []
    page.on("console", lambda message: message.type in ("error", "warning") and problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: request.url.startswith(("file:", "data:")) or problems.append(request.url))
    page.goto((tmp_path / "report.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    # Values under the pointer.
    curve = page.locator(".chart > svg").first
    curve.hover()
    assert "score ≥" in page.locator("#tip").inner_text()
    # One case at a time.
    assert page.locator(".case:visible").count() == 1
    first = page.locator(".case:visible h3").inner_text()
    page.get_by_label("next case").click()
    assert page.locator(".case:visible h3").inner_text() != first
    page.get_by_label("case", exact=True).select_option(index=0)
    assert page.locator(".case:visible h3").inner_text() == first
    sliders = page.locator(".case:visible input[type=range]")
    if ndim > 2:
        image, name = page.locator(".case:visible image"), page.locator(".case:visible .slide span")
        before = image.get_attribute("href")
        sliders.focus()
        page.keyboard.press("Home")
        assert name.inner_text() == "slice 1 of 32"
        assert page.locator(".case:visible svg rect").count() == 0
        page.keyboard.press("ArrowRight")
        assert image.get_attribute("href") != before
        page.locator(".case:visible > svg").hover()
        for _ in range(3):
            page.mouse.wheel(0, 100)
        page.wait_for_function(
            "document.querySelector('.case:not([hidden]) .slide span').textContent == 'slice 5 of 32'"
        )
        assert page.locator(".case:visible svg rect.object").count() == 1
    else:
        assert sliders.count() == 0
    page.close()
    assert not problems
