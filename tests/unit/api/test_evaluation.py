"""`boxel evaluate` and `boxel compare` on a small data set: criteria, grids, what is ignored, protocols."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as Picture

from boxel.datasets.formats import open_dataset
from boxel.evaluation import case_rows
from boxel.export import write_detections
from boxel.io import read_label_map, write_label_map
from boxel.output_folder import claimed
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
    with pytest.warns(UserWarning, match=rf"{len(far)} detections? in 1 case, such as '{name}'.*another voxel grid"):
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
    with pytest.raises(ValueError, match=r"only one of|has no predictions"):
        compare(bad, good, native, num_resamples=20)


@pytest.fixture
def roboflow(tmp_path):
    """Pictures of the same name in the parts of a YOLO data set, with one object in each."""
    for part in ("train", "test"):
        (tmp_path / "y" / part / "images").mkdir(parents=True)
        (tmp_path / "y" / part / "labels").mkdir()
        for name in "ab":
            Picture.new("L", (40, 40)).save(tmp_path / "y" / part / "images" / f"{name}.png")
            (tmp_path / "y" / part / "labels" / f"{name}.txt").write_text("0 0.5 0.5 0.25 0.25\n")
    (tmp_path / "y" / "data.yaml").write_text("train: train/images\ntest: test/images\nnames: [cell]\n")
    return tmp_path / "y"


def write_named(folder, name, image=None):
    box = np.array([[[15, 15], [25, 25]]], np.float32)
    one = Detections(box, np.array([0.9], np.float32), np.array([0]), Geometry.plain((40, 40)))
    write_detections(folder / f"{name}.json", one, name, ["cell"], image_files=[image] if image else [])


def test_predictions_of_a_folder_belong_to_the_cases_with_these_image_files(roboflow, tmp_path):
    """`predict RUN y/test/images` calls them a and b, the data set test_images_a and test_images_b."""
    for name in "ab":
        write_named(tmp_path / "p", name, roboflow / "test" / "images" / f"{name}.png")
    evaluation = evaluate(tmp_path / "p", roboflow, num_resamples=0)
    assert evaluation.metrics["AP@0.50"] == 1
    assert {row["case"] for row in case_rows(evaluation)} == {"test_images_a", "test_images_b"}


def test_an_interrupted_prediction_of_a_folder_is_said_to_lack_cases(roboflow, tmp_path):
    with claimed(tmp_path / "p", "predict", {}, cases=["a", "b"]):
        write_named(tmp_path / "p", "a", roboflow / "train" / "images" / "a.png")
    with pytest.warns(UserWarning, match=r"unfinished: 1 of 2 images is missing \(b\)"):
        evaluate(tmp_path / "p", roboflow, num_resamples=0)


def test_names_that_no_file_explains_are_listed_with_those_of_the_data_set(roboflow, tmp_path):
    write_named(tmp_path / "p", "a")
    expected = r"1 of 1 predicted case is not in .*\(a\), whose .*test_images_a.*boxel predict RUN .*--part test"
    with pytest.raises(ValueError, match=expected):
        evaluate(tmp_path / "p", roboflow)


def test_predictions_only_of_images_without_annotation_are_one_clear_error(roboflow, tmp_path):
    data = replace(open_dataset(roboflow), unlabelled=("test_images_a", "test_images_b"))
    for name in "ab":
        write_named(tmp_path / "p", name, roboflow / "test" / "images" / f"{name}.png")
    with pytest.raises(ValueError, match=r"no predicted image has an annotation \(test_images_a, test_images_b\)"):
        evaluate(tmp_path / "p", data, num_resamples=0)


def test_two_predictions_of_one_image_are_refused(roboflow, tmp_path):
    for name in ("a", "test_images_a"):
        write_named(tmp_path / "p", name, roboflow / "test" / "images" / "a.png")
    with pytest.raises(ValueError, match="two predictions are of case 'test_images_a'"):
        evaluate(tmp_path / "p", roboflow)


@pytest.mark.parametrize("module", ["boxel.api.evaluation", "boxel.api.conversion"])
def test_what_needs_no_network_starts_without_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
