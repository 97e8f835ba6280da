import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boxel.export import json_schema, read_detections, write_detections
from boxel.export.boxel_json import read_prediction, read_predictions
from boxel.operating_points import Calibration, OperatingPoint, OperatingPoints
from boxel.types import Detections, Geometry

CLASSES = ("benign", "malignant")


def example(ndim, count=3, seed=0):
    generator = np.random.default_rng(seed)
    lower = generator.uniform(-5, 300, (count, 1, ndim))
    boxes = np.concatenate([lower, lower + generator.uniform(0, 90, (count, 1, ndim))], 1).astype(np.float32)
    q, _ = np.linalg.qr(generator.normal(size=(ndim, ndim)))
    spacing, origin = generator.uniform(0.3, 5, ndim).tolist(), generator.uniform(-300, 300, ndim).tolist()
    geometry = Geometry((64,) * ndim, tuple(spacing), tuple(origin), tuple(map(tuple, q.tolist())))
    scores = np.sort(generator.random(count).astype(np.float32))[::-1]
    return Detections(boxes, scores, generator.integers(0, 2, count), geometry)


@given(ndim=st.sampled_from([2, 3]), seed=st.integers(0, 2**32 - 1), count=st.integers(0, 5))
@settings(max_examples=25, deadline=None)
def test_what_is_written_is_read_back(tmp_path_factory, ndim, seed, count):
    path = tmp_path_factory.mktemp("json") / "case.json"
    detections = example(ndim, count, seed)
    write_detections(path, detections, "case 1", CLASSES, image_files=["a_0000.nii.gz"], extra={"run": "x"})
    case, back, classes = read_detections(path)
    assert (case, classes) == ("case 1", CLASSES)
    assert back.boxes.shape == (count, 2, ndim)
    np.testing.assert_allclose(back.boxes, detections.boxes, atol=1e-3)
    np.testing.assert_allclose(back.scores, detections.scores, atol=1e-6)
    np.testing.assert_array_equal(back.labels, detections.labels)
    assert back.geometry == detections.geometry


def test_operating_points_and_warnings_are_read_back_and_older_files_have_none(tmp_path, ndim):
    detections, path = example(ndim), tmp_path / "a.json"
    write_detections(path, detections, "a", CLASSES)
    assert json.loads(path.read_text())["version"] == 1
    assert (read_prediction(path).operating_points, read_prediction(path).warnings) == (None, ())
    points = OperatingPoints(
        applied={name: OperatingPoint(score=float(detections.scores[1]), sensitivity=0.5) for name in CLASSES},
        calibration={"benign": Calibration(slope=2, offset=-1)},
    )
    write_detections(path, detections, "a", CLASSES, operating_points=points, warnings=["unlike others"])
    record, back = json.loads(path.read_text()), read_prediction(path)
    assert [entry["above"] for entry in record["detections"]] == [True, True, False]
    assert (record["version"], back.operating_points, back.warnings) == (2, points, ("unlike others",))
    assert len(back.above().detections) == 2
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator(json_schema()).validate(record)
    for change in ({"warnings": "text"}, {"operating_points": {"applied": {"other": {"score": 1}}}}):
        path.write_text(json.dumps(record | change))
        with pytest.raises(ValueError, match=rf"a.json: {next(iter(change))}"):
            read_prediction(path)


def test_a_right_file_is_read_without_searching_for_similar_names(tmp_path, monkeypatch, ndim):
    # The search took nine tenths of the time of an evaluation with 100 detections per case.
    write_detections(tmp_path / "a.json", example(ndim), "a", CLASSES)
    monkeypatch.setattr("boxel.export.boxel_checks.did_you_mean", lambda *_: pytest.fail("searched"))
    assert len(read_detections(tmp_path / "a.json")[1]) == 3


def test_millimetres_follow_the_geometry(tmp_path):
    # Two array axes (row, column); rows run along world y, columns along world x; voxel centres at half.
    geometry = Geometry((10, 10), (2.0, 0.5), (100.0, 200.0), ((0.0, 1.0), (1.0, 0.0)))
    box = np.array([[[0, 0], [1, 4]]], np.float32)
    write_detections(tmp_path / "a.json", Detections(box, np.ones(1), np.zeros(1, int), geometry), "a", CLASSES)
    entry = json.loads((tmp_path / "a.json").read_text())["detections"][0]
    assert entry["size_mm"] == [2.0, 2.0]  # along the rows, along the columns
    assert entry["centre_mm"] == [
        100.75,
        200.0,
    ]  # x: 1.5 voxels of 0.5 mm past the first centre; y: the first row
    assert entry["class"] == "benign"


def test_detections_are_written_in_descending_score(tmp_path, ndim):
    detections = example(ndim)[np.array([1, 2, 0])]
    write_detections(tmp_path / "a.json", detections, "a", CLASSES)
    scores = read_detections(tmp_path / "a.json")[1].scores
    assert (np.diff(scores) <= 0).all()


def test_files_obey_the_published_schema(tmp_path, ndim):
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(json_schema())
    path = tmp_path / "a.json"
    for detections in (example(ndim), Detections.empty(ndim), example(ndim, 0)):
        write_detections(path, detections, "a", CLASSES, image_files=["a.png"], extra={"seed": 1})
        validator.validate(json.loads(path.read_text()))
    record = json.loads(path.read_text()) | {"unknown": 1}
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(record)


def changed(**changes):
    def change(record):
        record.update(changes)

    return change


def changed_entry(**changes):
    def change(record):
        record["detections"][1].update(changes)

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (changed(format="coco"), "format must be"),
        (changed(version=99), "version is 99.*update Boxel"),
        (changed(version="1"), "version must be"),
        (changed(clases=[]), "clases is an unknown key; did you mean 'classes'"),
        (lambda record: record.pop("geometry"), "geometry is missing"),
        (changed(case=""), "case must be"),
        (changed(classes=["a", "a"]), "classes must be"),
        (changed(detections={}), "detections must be a list"),
        (changed(geometry={"shape": [1, 1]}), "geometry.spacing is missing"),
        (lambda record: record["geometry"].update(spacing=[0, 1]), "geometry.spacing must be positive"),
        (lambda record: record["geometry"].update(shape=[64.5, 64]), "geometry.shape must be positive whole numbers"),
        (lambda record: record["geometry"].update(shape=[10**12, 64]), "geometry.shape must be positive whole"),
        (lambda record: record["geometry"].update(direction=[[1, 1], [1, 1]]), "geometry.direction must have rows of"),
        (
            lambda record: record["geometry"].update(direction=[1, 0, 0, 1]),
            "geometry.direction must be 2 rows",
        ),
        (lambda record: record["detections"].append(3), r"detections\[3\] must be an object"),
        (changed_entry(score=1.01), r"detections\[1\].score must be a number in 0..1"),
        (changed_entry(score=float("nan")), r"detections\[1\].score"),
        (changed_entry(score=True), r"detections\[1\].score"),
        (changed_entry(label=2), r"detections\[1\].label must index"),
        (changed_entry(**{"class": "other"}), r"detections\[1\].class must be"),
        (changed_entry(lower=[0]), r"detections\[1\].lower must be 2 finite numbers"),
        (changed_entry(upper=[float("inf"), 1]), r"detections\[1\].upper must be 2 finite"),
        (changed_entry(lower=[9, 9], upper=[8, 10]), r"detections\[1\].upper must not be below"),
    ],
)
def test_errors_name_the_file_and_the_key(tmp_path, change, words):
    path = tmp_path / "bad.json"
    write_detections(path, example(2), "a", CLASSES)
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=f"bad.json: .*{words}"):
        read_detections(path)


@pytest.mark.parametrize(
    ("boxes", "score", "label", "words"),
    [
        ([[[0, 0], [1, 1]]], 2.0, 0, "scores"),
        ([[[0, 0], [1, 1]]], np.nan, 0, "scores"),
        ([[[2, 0], [1, 1]]], 0.5, 0, "box"),
        ([[[0, 0], [np.inf, 1]]], 0.5, 0, "box"),
        ([[[0, 0], [1, 1]]], 0.5, 2, "labels"),
    ],
)
def test_nothing_is_written_that_could_not_be_read(tmp_path, boxes, score, label, words):
    detections = Detections(np.array(boxes, np.float32), np.array([score]), np.array([label]))
    with pytest.raises(ValueError, match=f"case 'a'.*{words}"):
        write_detections(tmp_path / "a.json", detections, "a", CLASSES)
    assert not list(tmp_path.iterdir())


def test_a_folder_is_read_by_case(tmp_path):
    for name in ("b", "a"):
        write_detections(tmp_path / f"{name}.json", example(2), f"case {name}", CLASSES)
    predictions = read_predictions(tmp_path)
    assert [(p.case, p.classes) for p in predictions] == [("case a", CLASSES), ("case b", CLASSES)]


def test_a_folder_with_a_case_twice_other_classes_or_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no prediction files"):
        read_predictions(tmp_path)
    write_detections(tmp_path / "a.json", example(2), "case a", CLASSES)
    write_detections(tmp_path / "b.json", Detections.empty(2), "case b", ("other",))
    with pytest.raises(ValueError, match=r"b.json: classes are .* in .*a.json"):
        read_predictions(tmp_path)
    write_detections(tmp_path / "b.json", Detections.empty(2), "case a", CLASSES)
    with pytest.raises(ValueError, match=r"b.json: case 'case a' was already read from .*a.json"):
        read_predictions(tmp_path)
