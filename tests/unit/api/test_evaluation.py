"""`boxel evaluate` and `boxel compare` on a small data set: criteria, grids, what is ignored, protocols."""

import json
import shutil

import numpy as np
import pytest

from boxel.io import read_label_map, write_label_map
from boxel.types import Detections, Geometry
from tests.settings import compare_files as compare
from tests.settings import evaluate_files as evaluate
from unit.predicted import as_detections, write_boxel, write_maps


@pytest.mark.parametrize("criterion", ["mask_iou", "mask_dice"])
def test_sets_are_compared_by_their_masks(criterion, truth, native, tmp_path):
    """The masks of the second set lost a corner of every object."""
    whole = write_maps(tmp_path / "whole", *truth)
    shutil.copytree(whole, tmp_path / "parts")
    for path in (tmp_path / "parts").glob("*.nii.gz"):
        image = read_label_map(path)
        array = image.array.copy()
        array[(slice(4), *[slice(3)] * (array.ndim - 1))] = 0
        write_label_map(path, array, image.geometry)
    compared = compare(whole, tmp_path / "parts", native, criterion=criterion, num_resamples=10)["metrics"]
    assert compared["mean_iou@0.50"]["a"] == pytest.approx(1)
    assert 0.5 < compared["mean_iou@0.50"]["b"] < 1


def test_masks_are_asked_for_where_there_are_none(truth, native, tmp_path):
    folder = write_boxel(tmp_path / "p", *truth)
    with pytest.raises(ValueError, match=r"case '\w' have no masks, which mask_iou needs; predict with --masks"):
        evaluate(folder, native, criterion="mask_iou")


def test_no_detection_at_all_needs_no_masks(truth, native, tmp_path):
    """A model with masks that detects nothing has an average precision of 0, not an error about masks."""
    data, cases = truth
    nothing = {name: as_detections(loaded)[:0] for name, loaded in cases.items()}
    folder = write_boxel(tmp_path / "p", data, cases, **nothing)
    assert evaluate(folder, native, criterion="mask_iou", num_resamples=0).metrics["AP@0.50"] == 0


def test_predictions_on_another_grid_are_refused(truth, native, tmp_path):
    data, cases = truth
    name, loaded = next((name, loaded) for name, loaded in cases.items() if len(loaded.instances))
    geometry = loaded.image.geometry
    other = Geometry(geometry.shape, tuple(2 * s for s in geometry.spacing), geometry.origin, geometry.direction)
    detections = as_detections(loaded)
    wrong = Detections(detections.boxes, detections.scores, detections.labels, other)
    folder = write_boxel(tmp_path / "p", data, cases, **{name: wrong})
    with pytest.raises(ValueError, match=f"{name!r}.*spacing"):
        evaluate(folder, native)


def test_detections_beside_the_image_are_a_warning(truth, native, tmp_path):
    """COCO, CSV and others do not say which grid they were made on."""
    data, cases = truth
    name, loaded = next((name, loaded) for name, loaded in cases.items() if len(loaded.instances))
    detections = as_detections(loaded)
    far = Detections(detections.boxes * 20, detections.scores, detections.labels)
    folder = write_boxel(tmp_path / "p", data, cases, **{name: far})
    with pytest.warns(UserWarning, match=rf"{len(far)} detections in 1 cases, such as '{name}'.*another voxel grid"):
        evaluate(folder, native, num_resamples=0)


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


def test_ignored_regions_are_named_in_the_same_file(truth, native, tmp_path, ndim):
    data, cases = truth
    name, loaded = next((name, loaded) for name, loaded in cases.items() if len(loaded.instances))
    detections = as_detections(loaded)
    corner = np.tile([[0.0], [1.0]], ndim)  # beside the objects
    more = Detections(np.concatenate([detections.boxes, [corner]]), np.append(detections.scores, np.float32(0.95)),
                      np.append(detections.labels, 0), detections.geometry)  # fmt: skip
    folder = write_boxel(tmp_path / "p", data, cases, **{name: more})
    whole = evaluate(folder, native, num_resamples=0).metrics
    ignore = tmp_path / "ignore.json"
    ignore.write_text(json.dumps({name: [(corner * 2).tolist()]}))
    metrics = evaluate(folder, native, ignore=ignore, num_resamples=0).metrics
    assert metrics["num_objects"] == whole["num_objects"]
    assert metrics["num_ignored_detections"] == 1
    assert whole["AP@0.50"] < metrics["AP@0.50"] == pytest.approx(1)
    compared = compare(folder, folder, native, ignore=ignore, num_resamples=5)["metrics"]
    assert compared["AP@0.50"]["a"] == metrics["AP@0.50"]
    for wrong in ([[0] * ndim], [[0] * ndim, [0] * ndim], [[0] * ndim, ["x"] * ndim]):
        ignore.write_text(json.dumps({name: [wrong]}))
        with pytest.raises(ValueError, match=r"ignore\.json.*an ignored region is"):
            evaluate(folder, native, ignore=ignore)


def test_cocos_metrics_are_a_protocol(truth, native, tmp_path):
    folder = write_boxel(tmp_path / "p", *truth)
    metrics = evaluate(folder, native, protocol="coco", num_resamples=5).metrics
    assert metrics["AP"] == metrics["AP75"] == metrics["AR100"] == 1
    with pytest.raises(ValueError, match="coco fixes"):
        evaluate(folder, native, protocol="coco", rule="mdt")
    with pytest.raises(ValueError, match="protocol: Input should be"):
        evaluate(folder, native, protocol="voc")


def test_two_sets_are_compared_and_the_seed_is_kept(truth, native, tmp_path):
    data, cases = truth
    good = write_boxel(tmp_path / "good", data, cases)
    none = {name: as_detections(loaded)[:0] for name, loaded in cases.items()}
    bad = write_boxel(tmp_path / "bad", data, cases, **none)
    result = compare(bad, good, native, tmp_path / "out.json", num_resamples=20, seed=3)
    assert json.loads((tmp_path / "out.json").read_text()) == result
    assert result["settings"]["seed"] == 3
    assert (result["metrics"]["AP@0.10"]["a"], result["metrics"]["AP@0.10"]["b"]) == (0, 1)
    settings = {"iou_thresholds": [0.5], "interpolation": "area", "operating_points": [0.5], "size_limits": [100.0]}
    chosen = compare(bad, good, native, num_resamples=20, rule="optimal", **settings)
    assert chosen["metrics"]["recall@0.50/score=0.5"]["b"] == 1
    assert [chosen["settings"][key] for key in settings] == list(settings.values())
    assert compare(bad, good, native, protocol="coco", num_resamples=20)["metrics"]["AP75"]["difference"] == 1
    with pytest.raises(ValueError, match="coco fixes"):
        compare(bad, good, native, protocol="coco", criterion="centre_distance")
    (good / f"{next(iter(cases))}.json").unlink()
    with pytest.raises(ValueError, match=r"only one of|no predictions for case"):
        compare(bad, good, native, num_resamples=20)
