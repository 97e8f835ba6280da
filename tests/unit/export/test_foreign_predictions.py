"""Predictions of other tools, read and evaluated by `boxel evaluate`."""

import json
import os
import pickle
import shutil

import numpy as np
import pytest
from tests.settings import evaluate_files as evaluate

from boxel.api.conversion import convert
from boxel.export import DatasetInfo, get_format, recognise
from boxel.io import write_image
from boxel.io.pickles import read_pickle
from boxel.types import Geometry, Image
from unit.predicted import write_boxel, write_maps


def read(path, classes):
    return recognise(path).reader(path, DatasetInfo(tuple(classes)))


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


def test_nndetections_pickles_are_evaluated(truth, native, tmp_path):
    _, cases = truth
    for name, loaded in cases.items():
        (tmp_path / f"{name}_boxes.pkl").write_bytes(pickle.dumps(nndetection_record(loaded)))
    metrics = evaluate(tmp_path, native, tmp_path / "out", num_resamples=0).metrics
    assert metrics["num_objects"] > 0
    assert metrics["mean_iou@0.50"] == pytest.approx(1)  # boxes are where they belong
    assert metrics["AP@0.50"] == 1


def test_nndetections_json_is_evaluated(truth, native, tmp_path):
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
        ({"pred_scores": [10**400, 1]}, "numbers"),
        ({"itk_spacing": "x"}, "numbers of one grid"),
        ({"itk_origin": [10**400, 0]}, "numbers of one grid"),
        ({"itk_spacing": np.zeros(18)}, "spacing must be 2 finite numbers"),
        ({"itk_spacing": np.zeros(2)}, "spacing must be positive"),
        ({"itk_direction": np.eye(3)}, "numbers of one grid"),
        ({"original_size_of_raw_data": []}, "numbers of one grid"),
    ],
)
def test_what_is_wrong_in_such_a_file_is_named(changes, words, tmp_path):
    record = {
        "pred_boxes": np.array([[0, 0, 4, 4], [1, 1, 5, 5]]), "pred_scores": np.ones(2), "pred_labels": [0, 1],
        "original_size_of_raw_data": [9, 9], "itk_spacing": [1, 1], "itk_origin": [0, 0], "itk_direction": np.eye(2),
    }  # fmt: skip
    (tmp_path / "c_boxes.pkl").write_bytes(pickle.dumps(record | changes))
    with pytest.raises(ValueError, match=rf"c_boxes\.pkl.*{words}"):
        get_format("nndetection").reader(tmp_path, DatasetInfo(("x", "y")))
    for damaged in (b"", b"no pickle", pickle.dumps([1, 2])):
        (tmp_path / "c_boxes.pkl").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"c_boxes\.pkl"):
            get_format("nndetection").reader(tmp_path, DatasetInfo(("x", "y")))


@pytest.mark.parametrize("source", ["coco", "picai", "csv", "nifti"])
def test_other_formats_are_recognised_or_named(source, truth, native, tmp_path):
    data, cases = truth
    write_boxel(tmp_path / "p", data, cases)
    images = tmp_path / "images"
    for part in ("imagesTr", "imagesTs"):
        shutil.copytree(native / part, images, dirs_exist_ok=True)
    convert(tmp_path / "p", tmp_path / source, source, images=images)
    folder = tmp_path / source
    metrics = evaluate(folder, native, num_resamples=0).metrics
    assert metrics["num_objects"] > 0
    assert metrics["AP@0.50"] == 1


@pytest.mark.parametrize("criterion", ["box_iou", "mask_iou", "mask_dice", "centre_distance"])
def test_label_maps_are_evaluated_by_box_and_by_mask(criterion, truth, native, tmp_path):
    folder = write_maps(tmp_path / "maps", *truth)
    metrics = evaluate(folder, native, criterion=criterion, iou_thresholds=[0.99], num_resamples=0).metrics
    assert metrics["num_objects"] > 0
    assert metrics["AP@0.99"] == metrics["recall@0.99"] == 1
    assert metrics["settings"]["criterion"] == criterion


def test_detection_maps_are_evaluated_by_their_voxels(truth, native, tmp_path):
    """As picai_eval does; a lesion of the right box and half the voxels."""
    data, cases = truth
    for name, loaded in cases.items():
        for k, label in enumerate(data.classes):
            scores = np.zeros(loaded.image.geometry.shape, np.float32)
            for number in loaded.instances.ids[loaded.instances.labels == k]:
                scores[loaded.label_map == number] = 0.5 + number / 10
            if name == "a":
                place = np.argwhere(scores > 0).min(axis=0)
                scores[tuple(place)] = 0  # a corner is missing
            write_image(tmp_path / label / f"{name}_detection_map.nii.gz", Image(scores[None], loaded.image.geometry))
    by_mask, by_box = (evaluate(tmp_path, native, criterion=kind, iou_thresholds=[0.5], num_resamples=0)
                       .metrics for kind in ("mask_iou", "box_iou"))  # fmt: skip
    assert by_box["mean_iou@0.50"] == pytest.approx(1)
    assert 0.9 < by_mask["mean_iou@0.50"] < 1
    lone = tmp_path / "lone" / "a_detection_map.nii.gz"
    lone.parent.mkdir()
    shutil.copy(tmp_path / data.classes[0] / "a_detection_map.nii.gz", lone)
    with pytest.raises(ValueError, match="which of the classes"):
        evaluate(lone.parent, native)


@pytest.mark.parametrize("value", [-0.5, np.nan])
def test_values_of_a_detection_map_are_confidences(value, tmp_path, ndim):
    """They may be above 1, as in picai_eval."""
    array = np.zeros((1, *(6,) * ndim), np.float32)
    array[(0, *(2,) * ndim)] = value
    write_image(tmp_path / "a_detection_map.nii.gz", Image(array, Geometry.plain((6,) * ndim)))
    with pytest.raises(ValueError, match=r"a_detection_map.*confidences of 0 and above"):
        read(tmp_path, ["lesion"])


def test_an_id_that_occurs_twice_in_a_file_is_an_error(tmp_path):
    (tmp_path / "c_boxes.json").write_text('{"1": {"score": 0.9, "label": 0, "box": [0, 0, 4, 4]}, "1": {}}')
    with pytest.raises(ValueError, match=r"c_boxes\.json.*'1' occurs twice"):
        read(tmp_path, ["x"])


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
            read(folder, truth[0].classes)
