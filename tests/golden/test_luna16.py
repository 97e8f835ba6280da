"""The LUNA16 rule against hand-made tables and the published result of a detector."""

import json

import numpy as np
import pytest

from boxel.evaluation import object_rows
from boxel.evaluation.luna16 import read_marks, read_tables
from tests.settings import compare_files as compare
from tests.settings import evaluate_files as evaluate

RATES = ("0.125", "0.25", "0.5", "1", "2", "4", "8")


@pytest.mark.data
def test_a_published_detector_gets_its_published_score(data, tmp_path):
    folder = data / "lidc_luna_tables" / "luna16"
    evaluate(folder / "dpn26bs32.csv", folder, tmp_path, protocol="luna16", num_resamples=20)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    # Zhu et al. 2018 (DeepLung), table of 3D DPN.
    published = (0.692, 0.769, 0.824, 0.865, 0.893, 0.917, 0.933)
    assert [round(metrics[f"sensitivity/fp={rate}"], 3) for rate in RATES] == list(published)
    expected = json.loads((folder.parent / "froc_expected.json").read_text())
    assert metrics["CPM"] == pytest.approx(expected["mean"], abs=1e-12)
    assert [metrics[f"sensitivity/fp={rate}"] for rate in RATES] == pytest.approx(expected["sensitivity"], abs=1e-12)
    assert (metrics["num_images"], metrics["num_objects"], metrics["num_missed"]) == (888, 1186, 50)
    low, high = metrics["CPM/ci95"]
    assert low < metrics["CPM"] < high
    assert metrics["CPM/scans_with_nodules"] < metrics["CPM"]  # fewer false positives, but far fewer scans


HEAD = "seriesuid,coordX,coordY,coordZ,"


@pytest.fixture
def tables(tmp_path):
    """Scan 7: nodules of radius 5 at x = 0 and x = 100, a finding of unknown size at x = 50; scan 8: nothing."""
    folder = tmp_path / "tables"
    folder.mkdir()
    (folder / "seriesuids.csv").write_text("007\n008\n")
    (folder / "annotations.csv").write_text(f"{HEAD}diameter_mm\n007,0,0,0,10\n007,100,0,0,10\n")
    (folder / "annotations_excluded.csv").write_text(f"{HEAD}diameter_mm\n007,50,0,0,-1\n")
    return folder


def score(tables, *marks, **options):
    path = tables / "marks.csv"
    path.write_text("\n".join([f"{HEAD}probability", *marks, ""]))
    return evaluate(path, tables, protocol="luna16", num_resamples=0, **options)


def test_the_rule(tables):
    metrics = score(
        tables, "7,0,0,4.9,0.5", "7,0,0,0,0.9", "7,54.9,0,0,0.8", "7,0,5,0,0.7", "8,0,0,0,0.6"
    ).metrics  # a true positive, a better one, an irrelevant finding, on the border (outside), a negative scan
    assert (metrics["num_detections"], metrics["num_ignored_detections"], metrics["num_missed"]) == (5, 2, 1)
    assert metrics["CPM"] == 0.5
    assert metrics["sensitivity/fp=0.125/scans_with_nodules"] == 0.5


def test_one_mark_may_find_two_nodules(tables):
    text = (tables / "annotations.csv").read_text()
    (tables / "annotations.csv").write_text(f"{text}007,4,0,0,10\n")
    detections = score(tables, "7,2,0,0,0.9")
    assert detections.metrics["num_missed"] == 1
    rows = [(row["outcome"], row["object_id"]) for row in object_rows(detections)]
    assert sorted(rows) == [("fn", 3), ("tp", 2), ("tp", 4)]  # every nodule has its line


def test_the_hundred_highest_marks_of_a_scan_count(tables):
    marks = [f"7,20,0,{k},{0.9 - k / 1000:.3f}" for k in range(99)]
    last = [*marks, "7,0,0,0,0.7", "7,100,0,0,0.6"]
    metrics = score(tables, *last).metrics
    assert (metrics["num_missed"], metrics["num_detections_beyond_limit"], metrics["num_detections"]) == (1, 1, 101)
    # Equal scores on the border: none counts.
    assert score(tables, *marks, "7,0,0,0,0.7", "7,100,0,0,0.7").metrics["num_detections_beyond_limit"] == 2
    assert score(tables, *marks, "7,0,0,0,0.7").metrics["num_detections_beyond_limit"] == 0


def test_two_detectors_are_compared_by_the_rule(tables, tmp_path):
    good, bad = (tables / f"{name}.csv" for name in ("good", "bad"))
    good.write_text(f"{HEAD}probability\n7,0,0,0,0.9\n7,100,0,0,0.8\n8,0,0,0,0.1\n")
    bad.write_text(f"{HEAD}probability\n7,0,0,0,0.9\n8,0,0,0,0.95\n")
    result = compare(bad, good, tables, tmp_path / "out.json", protocol="luna16", num_resamples=20)
    figure = result["metrics"]["CPM"]
    assert (figure["a"], figure["b"]) == tuple(evaluate(path, tables, protocol="luna16", num_resamples=0).metrics["CPM"]
                                               for path in (bad, good))  # fmt: skip
    assert figure["difference"] > 0
    # Two scans: half of the exchanges are the data or its mirror.
    assert 0.2 < figure["p"] <= 1


def test_sensitivity_is_interpolated_between_operating_points(tables):
    metrics = score(tables, "7,0,0,0,0.9", "7,20,0,0,0.8", "8,0,0,0,0.7", "7,100,0,0,0.6", "8,30,0,0,0.5").metrics
    # Points: (0, 1/2), then 1/2, 1 false positives per scan, 1 with both nodules, 3/2.
    assert [metrics[f"sensitivity/fp={rate}"] for rate in ("0.125", "0.5", "1", "2")] == [0.5, 0.5, 1, 1]
    # Scan 7 alone: one false positive.
    assert metrics["sensitivity/fp=1/scans_with_nodules"] == 1


def test_the_tables_of_objects_name_ignored_marks(tables, tmp_path):
    path = tables / "marks.csv"
    path.write_text(f"{HEAD}probability\n7,0,0,0,0.9\n7,50,0,0,0.8\n")
    evaluate(path, tables, tmp_path / "out", protocol="luna16", num_resamples=0)
    lines = (tmp_path / "out" / "per_object.csv").read_text().splitlines()
    assert [line.split(",")[3] for line in lines] == ["outcome", "tp", "ignored", "fn"]


@pytest.mark.parametrize(
    ("marks", "words"),
    [
        ("9,0,0,0,0.9", "'9'"),
        ("7,0,0,0,1.5", "line 2: probability 1.5"),
        ("7,0,0,x,0.5", "line 2"),
        ("7,0,0,0,", "line 2"),
    ],
)
def test_bad_marks_are_named(tables, marks, words):
    with pytest.raises(ValueError, match=words):
        score(tables, marks)


def test_missing_columns_and_contradicting_settings_are_named(tables, tmp_path):
    path = tmp_path / "marks.csv"
    path.write_text("seriesuid,x,y,z,p\n7,0,0,0,0.5\n")
    with pytest.raises(ValueError, match="there is no column coordZ"):
        read_marks(path)
    with pytest.raises(ValueError, match="luna16 fixes"):
        score(tables, "7,0,0,0,0.9", rule="mdt")
    with pytest.raises(ValueError, match="--protocol luna16"):
        evaluate(path, tables)
    with pytest.raises(ValueError, match="no seriesuids"):
        read_tables(tmp_path, [])
    with pytest.raises(ValueError, match="is a folder; give the CSV table with the columns seriesuid, coordZ"):
        evaluate(tables, tables, protocol="luna16")
    with pytest.raises(ValueError, match="is a file; give the folder of the challenge's tables"):
        evaluate(tables / "marks.csv", path, protocol="luna16")


def test_tabs_and_other_columns_are_read(tables):
    (tables / "marks.csv").write_text("probability\tcoordZ\tcoordY\tcoordX\tseriesuid\tnote\n0.5\t1\t2\t3\t007\tx\n")
    (detections,) = read_marks(tables / "marks.csv").values()
    assert detections.boxes.tolist() == [[[1, 2, 3], [1, 2, 3]]]
    assert np.asarray(detections.scores).tolist() == [0.5]
