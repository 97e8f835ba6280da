"""The ablation of the consolidation: what it compares, what it leaves out, and what it refuses."""

import csv
import json
import sys
from dataclasses import replace

import numpy as np
import pytest

import boxel
from boxel.cli import main
from boxel.consolidation import ConsolidateConfig, RawPrediction, write_raw
from boxel.consolidation.views import RecordedViews, view_axes
from boxel.experiments import ablate, before_after
from boxel.experiments.statistics import holm
from boxel.types import RawDetections

RESAMPLES = 20


def write_predictions(folder, truth, *, views="plane", checkpoints=(5,), cases="abcd", classes=None, scores=(0.4, 0.8)):
    """Raw boxes near each object in most views, of scores near `scores` in the order of the objects, and false ones."""
    data, loaded = truth
    rng = np.random.default_rng(1)
    for case in cases:
        image, objects = loaded[case].image, np.asarray(loaded[case].instances.boxes)
        mirrors = tuple(view_axes(views, data.ndim))
        num_views = len(mirrors) * sum(checkpoints)
        boxes, labels, numbers, own = [], [], [], []
        for view in range(num_views):
            for row, box in enumerate(objects):
                if rng.random() < 0.8:
                    boxes.append(box + rng.normal(0, 0.6, box.shape))
                    labels.append(loaded[case].instances.labels[row])
                    own.append(scores[row] + 0.1 * rng.random())
                    numbers.append(view)
            lower = rng.uniform(0, 7, data.ndim)
            boxes.append(np.stack([lower, lower + rng.uniform(2, 5, data.ndim)]))
            labels.append(rng.integers(2))
            own.append(rng.uniform(0.05, 0.6))
            numbers.append(view)
        count = len(boxes)
        raw = RawDetections(
            np.array(boxes, np.float32), np.array(own, np.float32), np.array(labels, np.int64), np.array(numbers),
            np.zeros(count, np.int64), np.ones(count, np.float32), np.ones(count, np.float32), num_views=num_views,
        )  # fmt: skip
        prediction = RawPrediction(
            case, raw, image.geometry.shape, image.geometry, tuple(classes or data.classes),
            ConsolidateConfig(iou_threshold=0.3, max_detections=40), (), {"detector": "abc"},
            RecordedViews(mirrors=mirrors, checkpoints=checkpoints),
        )  # fmt: skip
        write_raw(folder / "raw" / f"{case}.npz", prediction)
    return folder


@pytest.fixture
def predictions(truth, tmp_path):
    return write_predictions(tmp_path / "predictions", truth)


@pytest.fixture
def one_view(truth, tmp_path):
    """Five combinations, which are quick."""
    return write_predictions(tmp_path / "one_view", truth, views="identity", checkpoints=(1,))


def row_of(results, method, num_mirrors, checkpoints):
    (row,) = (
        row
        for row in results.rows
        if (row.combination.method, row.combination.num_mirrors, row.combination.checkpoints)
        == (method, num_mirrors, checkpoints)
    )
    return row


def test_a_combination_equals_consolidating_by_hand(truth, native, predictions, tmp_path):
    results = ablate(predictions, native, tmp_path / "out", num_resamples=RESAMPLES)
    data, loaded = truth
    arrays = {
        "reference": {case: own.consolidate() for case, own in boxel.read_raw(predictions).items()},
        "nms": {},
    }
    for case, own in boxel.read_raw(predictions).items():
        first = replace(own.raw[own.raw.views == 0], num_views=1)
        config = own.config.model_copy(update={"method": "nms"})
        arrays["nms"][case] = replace(own, raw=first).consolidate(config)
    objects = {case: one.instances for case, one in loaded.items()}
    config = {"num_resamples": RESAMPLES}
    compared = boxel.compare(arrays["reference"], arrays["nms"], objects, config=config, classes=data.classes)
    reference, nms = row_of(results, "wbc", 4, 5), row_of(results, "nms", 1, 1)
    assert results.rows[0] is reference
    assert not reference.differences
    for name, expected in compared["metrics"].items():
        if name in nms.metrics:
            assert reference.metrics[name].value == expected["a"]
            assert nms.metrics[name].value == expected["b"]
            assert nms.differences[name].value == expected["difference"]
            assert nms.differences[name].over_patients == tuple(expected["ci95"])
            assert nms.p_values[name] == expected["p"]
            assert nms.p_values[name] <= nms.corrected[name] <= 1
    ends = boxel.evaluate(arrays["nms"], objects, config=config, classes=data.classes).metrics["AP@0.10/ci95"]
    assert nms.metrics["AP@0.10"].over_patients == (None if ends is None else tuple(ends))
    assert 0 < nms.metrics["AP@0.10"].value != reference.metrics["AP@0.10"].value


def test_all_methods_are_combined_with_all_numbers_of_views(native, predictions, tmp_path):
    out = tmp_path / "out"
    results = ablate(predictions, native, out, num_resamples=RESAMPLES)
    combinations = {(row.combination.method, row.combination.num_views) for row in results.rows}
    methods = ("wbc", "wbf", "nms", "weighted_nms", "soft_nms")
    assert combinations == {(method, number) for method in methods for number in (1, 4, 5, 20)}
    assert len(results.rows) == 20
    assert not results.left_out
    assert (out / "figure.png").read_bytes().startswith(b"\x89PNG")
    record = json.loads((out / "results.json").read_text())
    with (out / "table.csv").open() as file:
        table = [line for line in csv.DictReader(file) if line["metric"] == "AP@0.50"]
    values = [row.metrics["AP@0.50"].value for row in results.rows]
    assert [row["metrics"]["AP@0.50"]["value"] for row in record["rows"]] == values
    assert [float(line["value"]) for line in table] == values
    rows = [line for line in (out / "table.md").read_text().splitlines() if line.startswith(("| wbc", "| nms"))]
    assert len(rows) == 8
    assert f"{values[0]:.3f}" in rows[0]


@pytest.mark.parametrize(
    ("views", "checkpoints", "numbers", "says"),
    [
        ("identity", (1,), [(1, 1)], ["4 mirrored views: only 1 recorded", "5 checkpoints: only 1 predicted"]),
        ("plane", (3,), [(4, 3), (4, 1), (1, 3), (1, 1)], ["5 checkpoints: only 3 predicted"]),
        ("identity", (5, 6), [(1, None), (1, 5), (1, 1)], ["4 mirrored views"]),
    ],
)
def test_combinations_that_were_not_recorded_are_left_out_and_named(
    truth, native, tmp_path, views, checkpoints, numbers, says
):
    predictions = write_predictions(tmp_path / "p", truth, views=views, checkpoints=checkpoints)
    results = ablate(predictions, native, tmp_path / "out", num_resamples=RESAMPLES)
    done = [(row.combination.num_mirrors, row.combination.checkpoints) for row in results.rows]
    assert done == [number for number in numbers for _ in range(5)]
    table = (tmp_path / "out" / "table.md").read_text()
    assert len(results.left_out) == len(says)
    assert all(text in table for text in says)


@pytest.mark.parametrize("ndim", [3], indirect=True)
def test_all_eight_mirrored_views_of_a_volume_are_the_reference(truth, native, tmp_path):
    predictions = write_predictions(tmp_path / "p", truth, views="all", checkpoints=(1,))
    results = ablate(predictions, native, tmp_path / "out", num_resamples=RESAMPLES)
    assert [row.combination.num_mirrors for row in results.rows[::5]] == [8, 4, 1]


def test_an_interrupted_ablation_is_resumed_and_finished_combinations_are_not_repeated(native, one_view, tmp_path):
    def stop(stage, done, total):
        if done == 3:
            raise KeyboardInterrupt

    whole, out = tmp_path / "whole", tmp_path / "out"
    ablate(one_view, native, whole, num_resamples=RESAMPLES)
    with pytest.raises(KeyboardInterrupt):
        ablate(one_view, native, out, num_resamples=RESAMPLES, progress=stop)
    finished = {path: path.stat().st_mtime_ns for path in out.glob("combinations/*/comparison.json")}
    assert len(finished) == 3
    ablate(one_view, native, out, num_resamples=RESAMPLES)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    for name in ("table.md", "table.csv", "results.json", "figure.png"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()


def test_a_folder_of_another_ablation_is_refused(native, one_view, tmp_path):
    ablate(one_view, native, tmp_path / "out", num_resamples=RESAMPLES)
    with pytest.raises(ValueError, match=r"holds the output of `boxel experiment ablation`.*--resamples 20 instead"):
        ablate(one_view, native, tmp_path / "out", num_resamples=RESAMPLES + 1)


def test_the_figure_shows_the_slice_through_the_object_that_is_detected_best(
    one_view, native, ndim, tmp_path, monkeypatch
):
    """The second object of case a has the higher scores; its voxels are 7 to 10 of each axis."""
    drawn = {}
    monkeypatch.setattr(
        before_after, "boxes_png", lambda image, panels, title, spacing: drawn.update(panels=panels, title=title) or b""
    )
    ablate(one_view, native, tmp_path / "out", num_resamples=RESAMPLES, case="a")
    before, raw, after = drawn["panels"]
    assert drawn["title"].startswith("a, slice 10 of 12\n" if ndim == 3 else "a\n")
    assert before.title == ("1 object" if ndim == 3 else "2 objects")
    assert before.reference[-1].tolist() == [[7, 7], [11, 11]]
    assert raw.title == ("1 box of 1 view" if ndim == 3 else "2 boxes of 1 view")
    assert len(raw.boxes) == len(raw.opacities) >= len(after.boxes) == len(after.opacities) > 0


def test_the_figure_shows_the_case_with_most_boxes(one_view, native, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(before_after, "boxes_png", lambda image, panels, title, spacing: shown.append(title) or b"")
    most = max(boxel.read_raw(one_view).items(), key=lambda item: len(item[1].raw))[0]
    ablate(one_view, native, tmp_path / "out", num_resamples=RESAMPLES)
    assert shown[0].startswith(most)


@pytest.mark.parametrize(
    ("changes", "arguments", "says"),
    [
        ({}, {"case": "aa"}, r"no annotated case 'aa' was predicted; did you mean 'a'\? Known: a, b, c, d"),
        ({}, {"overrides": ["consolidate.method=nms"]}, r"consolidate\.method cannot be set"),
        ({}, {"overrides": ["consolidate.iou=1"]}, r"unknown key 'iou'"),
        ({}, {"num_resamples": 0}, r"resamples must be at least 1"),
        ({"classes": ("x", "y")}, {}, r"a\.npz: predictions of the classes x, y.*give the data set"),
        ({"cases": "c"}, {}, r"no objects in the predicted images"),
    ],
)
def test_bad_input_is_named(truth, native, tmp_path, changes, arguments, says):
    predictions = write_predictions(tmp_path / "p", truth, **changes)
    with pytest.raises(ValueError, match=says):
        ablate(predictions, native, tmp_path / "out", **{"num_resamples": RESAMPLES, **arguments})


def test_predictions_of_other_cases_or_views_are_refused(truth, native, predictions, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no raw predictions"):
        ablate(tmp_path / "empty", native, tmp_path / "out")
    (other,) = boxel.read_raw(predictions / "raw" / "d.npz").values()
    write_raw(
        predictions / "raw" / "d.npz", replace(other, views=other.views.model_copy(update={"checkpoints": (4, 1)}))
    )
    with pytest.raises(ValueError, match=r"d\.npz: other views than in the raw prediction of case 'a'"):
        ablate(predictions, native, tmp_path / "out")
    write_raw(predictions / "raw" / "a.npz", replace(other, case="a", views=None))
    with pytest.raises(ValueError, match=r"case 'a': the raw prediction does not say which view"):
        ablate(predictions, native, tmp_path / "out")
    write_raw(predictions / "raw" / "a.npz", replace(other, case="stranger"))
    with pytest.raises(ValueError, match=r"case 'stranger' is not in .*; give the data set that was predicted"):
        ablate(predictions, native, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_settings_change_every_combination(native, one_view, tmp_path, monkeypatch, capsys):
    words = [
        "experiment",
        "ablation",
        str(one_view),
        str(native),
        "--out",
        str(tmp_path / "out"),
        "--resamples",
        "9",
    ]
    monkeypatch.setattr(sys, "argv", ["boxel", *words, "--set", "consolidate.max_detections=1"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert "| weighted_nms | 1 | 1 | 1 |" in capsys.readouterr().out
    for file in (tmp_path / "out" / "combinations").glob("*/predictions/a.json"):
        assert len(json.loads(file.read_text())["detections"]) == 1


def test_p_values_are_corrected_step_by_step():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1, 1]
    assert holm([]) == []
