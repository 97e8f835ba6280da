"""`boxel evaluate` and `boxel compare` on a small data set, with predictions of Boxel and of other tools."""

import json
import os
import pickle
import shutil

import numpy as np
import pytest

from boxel.api.conversion import convert
from boxel.api.evaluation import compare, evaluate
from boxel.api.judging import read_predictions
from boxel.data.cases import read_case
from boxel.data.formats import open_dataset
from boxel.export import write_detections
from boxel.export.nndetection import read_nndetection
from boxel.io import write_label_map
from boxel.io.pickles import read_pickle
from boxel.types import Detections, Geometry


@pytest.fixture
def truth(native):
    """Every case with its image and objects."""
    data = open_dataset(native)
    return data, {case.id: read_case(case, data) for case in data.cases}


def as_detections(loaded, scores=None):
    boxes, labels = loaded.instances.boxes, loaded.instances.labels
    scores = np.linspace(0.9, 0.6, len(boxes)).astype(np.float32) if scores is None else scores
    return Detections(boxes, scores, labels, loaded.image.geometry)


def write_boxel(folder, data, cases, **changes):
    for name, loaded in cases.items():
        found = changes.get(name, as_detections(loaded))
        write_detections(folder / f"{name}.json", found, name, data.classes)
    return folder


def nndetection_record(loaded):
    """As in nnDetection's files: a0_min, a1_min, a0_max, a1_max, a2_min, a2_max, one voxel wider at each end."""
    boxes = loaded.instances.boxes
    columns = [boxes[:, 0, 0] - 1, boxes[:, 0, 1] - 1, boxes[:, 1, 0], boxes[:, 1, 1]]
    for axis in range(2, boxes.shape[-1]):
        columns += [boxes[:, 0, axis] - 1, boxes[:, 1, axis]]
    geometry = loaded.image.geometry
    return {
        "pred_boxes": np.stack(columns, 1), "pred_scores": np.full(len(boxes), 0.9, np.float32),
        "pred_labels": loaded.instances.labels.astype(np.float32), "restore": True,
        "original_size_of_raw_data": np.array(geometry.shape), "itk_spacing": np.array(geometry.spacing[::-1]),
        "itk_origin": geometry.origin, "itk_direction": np.array(geometry.direction)[:, ::-1].ravel().tolist(),
    }  # fmt: skip


def test_nndetections_pickles_are_judged(truth, native, tmp_path):
    _, cases = truth
    for name, loaded in cases.items():
        (tmp_path / f"{name}_boxes.pkl").write_bytes(pickle.dumps(nndetection_record(loaded)))
    metrics = evaluate(tmp_path, native, tmp_path / "out", num_resamples=0).metrics
    assert metrics["num_objects"] > 0
    assert metrics["mean_iou@0.50"] == pytest.approx(1)  # boxes are where they belong
    assert metrics["AP@0.50"] == 1


def test_nndetections_json_is_judged(truth, native, tmp_path):
    _, cases = truth
    for name, loaded in cases.items():
        record = nndetection_record(loaded)
        rows = zip(record["pred_boxes"].tolist(), record["pred_labels"].tolist(), strict=True)
        entries = {str(k): {"score": 0.9, "label": int(label), "box": box} for k, (box, label) in enumerate(rows, 1)}
        (tmp_path / f"{name}_boxes.json").write_text(json.dumps(entries))
    assert evaluate(tmp_path, native, num_resamples=0).metrics["mean_iou@0.50"] == pytest.approx(1)


class Payload:
    def __reduce__(self):
        return os.system, ("touch OPENED",)


@pytest.mark.parametrize(
    "content",
    [Payload(), {"pred_boxes": np.array([Payload()], object)}, np.random.default_rng(0), os.path.join, Geometry],
    ids=["code", "code inside an array", "another numpy object", "a function", "a class"],
)
def test_a_pickle_of_anything_but_arrays_is_refused_unrun(content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "c_boxes.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=r"c_boxes\.pkl.*only numpy arrays are admitted"):
        read_pickle(path)
    assert not (tmp_path / "OPENED").exists()


@pytest.mark.parametrize("protocol", range(3, pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_any_protocol_are_read(protocol, tmp_path):
    content = {"a": np.arange(6.0).reshape(2, 3), "b": np.float32(0.5), "c": [1, "x", None], "d": np.zeros(0)}
    (tmp_path / "c.pkl").write_bytes(pickle.dumps(content, protocol))
    read = read_pickle(tmp_path / "c.pkl")
    assert read["a"].tolist() == content["a"].tolist()
    assert (read["b"], read["c"], len(read["d"])) == (0.5, content["c"], 0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"restore": False}, "predict with restore"),
        ({"pred_scores": np.full(2, 1.5)}, r"0\.\.1"),
        ({"pred_scores": np.full(2, np.nan)}, r"0\.\.1"),
        ({"pred_labels": np.array([0, 7])}, "numbers of the classes"),
        ({"pred_boxes": np.zeros((2, 5))}, "shape"),
        ({"pred_boxes": "many"}, "numbers"),
    ],
)
def test_what_is_wrong_in_such_a_file_is_named(changes, words, tmp_path):
    record = {"pred_boxes": np.array([[0, 0, 4, 4], [1, 1, 5, 5]]), "pred_scores": np.ones(2), "pred_labels": [0, 1]}
    (tmp_path / "c_boxes.pkl").write_bytes(pickle.dumps(record | changes))
    with pytest.raises(ValueError, match=rf"c_boxes\.pkl.*{words}"):
        read_nndetection(tmp_path, ("x", "y"), 2)
    for damaged in (b"", b"no pickle", pickle.dumps([1, 2])):
        (tmp_path / "c_boxes.pkl").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"c_boxes\.pkl"):
            read_nndetection(tmp_path, ("x", "y"), 2)


def write_maps(folder, data, cases):
    """The objects' masks, renumbered."""
    folder.mkdir()
    for name, loaded in cases.items():
        labels = np.zeros(loaded.image.geometry.shape, np.int32)
        entries = {}
        for k, (number, label) in enumerate(zip(loaded.instances.ids, loaded.instances.labels, strict=True)):
            labels[loaded.label_map == number] = 20 - k
            entries[str(20 - k)] = {"score": 0.9, "class": data.classes[label]}
        write_label_map(folder / f"{name}.nii.gz", labels, loaded.image.geometry)
        (folder / f"{name}.json").write_text(json.dumps(entries))
    return folder


@pytest.mark.parametrize("source", ["coco", "picai", "csv", "nifti"])
def test_other_formats_are_recognised_or_named(source, truth, native, tmp_path):
    data, cases = truth
    write_boxel(tmp_path / "p", data, cases)
    images = tmp_path / "images"
    for part in ("imagesTr", "imagesTs"):
        shutil.copytree(native / part, images, dirs_exist_ok=True)
    convert(tmp_path / "p", tmp_path / source, source, images=images)
    folder = tmp_path / source
    if source == "picai":  # one folder per class
        metrics = evaluate(folder, native, source="picai", num_resamples=0).metrics
    else:
        metrics = evaluate(folder, native, num_resamples=0).metrics
    assert metrics["num_objects"] > 0
    assert metrics["AP@0.50"] == 1


@pytest.mark.parametrize("criterion", ["box_iou", "mask_iou", "mask_dice", "centre_distance"])
def test_label_maps_are_judged_by_box_and_by_mask(criterion, truth, native, tmp_path):
    folder = write_maps(tmp_path / "maps", *truth)
    metrics = evaluate(folder, native, criterion=criterion, iou_thresholds=[0.99], num_resamples=0).metrics
    assert metrics["num_objects"] > 0
    assert metrics["AP@0.99"] == metrics["recall@0.99"] == 1
    assert metrics["settings"]["criterion"] == criterion


def test_label_maps_and_their_json_must_agree(truth, tmp_path):
    folder = write_maps(tmp_path / "maps", *truth)
    path = next(path for path in sorted(folder.glob("*.json")) if json.loads(path.read_text()))
    whole = json.loads(path.read_text())
    for entries, words in (
        ({}, "not in both"),
        (whole | {"99": {"score": 0.5, "label": 0}}, "number 99"),
        ({key: entry | {"score": 2} for key, entry in whole.items()}, r"0\.\.1"),
        ({key: entry | {"class": "unicorn"} for key, entry in whole.items()}, "unicorn"),
    ):
        path.write_text(json.dumps(entries))
        with pytest.raises(ValueError, match=rf"{path.name}.*{words}"):
            read_predictions(folder, truth[0].classes)


def test_masks_are_asked_for_where_there_are_none(truth, native, tmp_path):
    folder = write_boxel(tmp_path / "p", *truth)
    with pytest.raises(ValueError, match=r"no masks.*mask_iou needs"):
        evaluate(folder, native, criterion="mask_iou")


def test_predictions_on_another_grid_are_refused(truth, native, tmp_path):
    data, cases = truth
    name, loaded = next((name, loaded) for name, loaded in cases.items() if len(loaded.instances))
    geometry = loaded.image.geometry
    other = Geometry(geometry.shape, tuple(2 * s for s in geometry.spacing), geometry.origin, geometry.direction)
    found = as_detections(loaded)
    wrong = Detections(found.boxes, found.scores, found.labels, other)
    folder = write_boxel(tmp_path / "p", data, cases, **{name: wrong})
    with pytest.raises(ValueError, match=f"{name!r}.*spacing"):
        evaluate(folder, native)


def test_ignored_objects_are_named_in_a_file(truth, native, tmp_path):
    data, cases = truth
    name, loaded = next((name, loaded) for name, loaded in cases.items() if len(loaded.instances))
    folder = write_boxel(tmp_path / "p", data, cases)
    whole = evaluate(folder, native, num_resamples=0).metrics
    ignore = tmp_path / "ignore.json"
    ignore.write_text(json.dumps({name: [int(loaded.instances.ids[0])]}))
    metrics = evaluate(folder, native, ignore=ignore, num_resamples=0).metrics
    assert metrics["num_objects"] == whole["num_objects"] - 1
    assert metrics["num_ignored_detections"] == 1
    ignore.write_text(json.dumps({name: [999]}))
    with pytest.raises(ValueError, match=r"ignore\.json.*999"):
        evaluate(folder, native, ignore=ignore)


def test_cocos_figures_are_a_protocol(truth, native, tmp_path):
    folder = write_boxel(tmp_path / "p", *truth)
    metrics = evaluate(folder, native, protocol="coco", num_resamples=5).metrics
    assert metrics["AP"] == metrics["AP75"] == metrics["AR100"] == 1
    with pytest.raises(ValueError, match="coco fixes"):
        evaluate(folder, native, protocol="coco", rule="mdt")
    with pytest.raises(ValueError, match="protocol must be"):
        evaluate(folder, native, protocol="voc")


def test_two_sets_are_compared_and_the_seed_is_kept(truth, native, tmp_path):
    data, cases = truth
    good = write_boxel(tmp_path / "good", data, cases)
    none = {name: as_detections(loaded)[:0] for name, loaded in cases.items()}
    bad = write_boxel(tmp_path / "bad", data, cases, **none)
    result = compare(bad, good, native, tmp_path / "out.json", num_resamples=20, seed=3)
    assert json.loads((tmp_path / "out.json").read_text()) == result
    assert result["settings"]["seed"] == 3
    assert (result["figures"]["AP@0.10"]["a"], result["figures"]["AP@0.10"]["b"]) == (0, 1)
    (good / f"{next(iter(cases))}.json").unlink()
    with pytest.raises(ValueError, match=r"only one of|no predictions for case"):
        compare(bad, good, native, num_resamples=20)
