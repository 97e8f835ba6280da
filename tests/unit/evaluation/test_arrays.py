"""`boxel.evaluate` takes arrays of any kind, without files, and says what is wrong with them."""

import re

import numpy as np
import pytest
import torch

import boxel
from boxel.evaluation import EvaluateConfig
from boxel.evaluation.luna16 import Luna16Tables, evaluate_luna16
from boxel.types import Detections, Instances

QUICK = EvaluateConfig(num_resamples=0)


def box(ndim: int, low: float = 0, high: float = 9) -> list:
    return [[low] * ndim, [high] * ndim]


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_lists_numpy_and_torch_give_the_same(ndim, kind):
    detections = {"boxes": kind([box(ndim), box(ndim, 20, 30)]), "scores": kind([0.9, 0.8]), "labels": kind([0, 1])}
    truth = {"boxes": kind([box(ndim)]), "labels": kind([0])}
    metrics = boxel.evaluate({"a": detections}, {"a": truth}, config=QUICK).metrics
    assert metrics["AP@0.50"] == metrics["AP@0.50/0"] == 1
    assert metrics["absent_classes"] == ["1"]
    assert metrics["num_detections"] == 2


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_tensors_of_mixed_precision_are_taken(ndim, kind):
    detections = {
        "boxes": torch.tensor([box(ndim)], dtype=kind),
        "scores": torch.tensor([0.5], dtype=kind),
        "labels": torch.tensor([0]),
    }
    truth = {"a": {"boxes": [box(ndim)], "labels": [0]}}
    assert boxel.evaluate({"a": detections}, truth, config=QUICK).metrics["AP@0.50"] == 1
    record = {"a": Detections(detections["boxes"], detections["scores"], detections["labels"])}
    assert boxel.evaluate(record, truth, config=QUICK).metrics["AP@0.50"] == 1


def test_images_in_lists_are_those_of_the_same_position(ndim):
    truth = [{"boxes": [box(ndim)], "labels": [0]}, {"boxes": [], "labels": []}]
    detected = {"boxes": [box(ndim)], "scores": [0.9], "labels": [0]}
    nothing = {"boxes": [], "scores": [], "labels": []}
    right, swapped = (boxel.evaluate(p, truth, config=QUICK) for p in ([detected, nothing], [nothing, detected]))
    assert (right.metrics["AP@0.50"], swapped.metrics["AP@0.50"]) == (1, 0)
    assert right.table.cases == ("0", "1")
    with pytest.raises(ValueError, match=r"the same images in the same order, got 1 and 2 images"):
        boxel.evaluate([detected], truth, config=QUICK)
    with pytest.raises(ValueError, match="or lists of images for both"):
        boxel.evaluate({"0": detected}, truth, config=QUICK)


def test_settings_may_be_a_dict():
    result = boxel.evaluate({"a": GOOD}, TRUTH, config={"num_resamples": 0, "iou_thresholds": [0.3]})
    assert result.metrics["AP@0.30"] == 1
    with pytest.raises(ValueError, match="config: unknown key 'iou_threshold'; did you mean 'iou_thresholds'"):
        boxel.evaluate({"a": GOOD}, TRUTH, config={"iou_threshold": 0.5})
    with pytest.raises(TypeError, match=r"config must be an EvaluateConfig or a dict of its settings, got 0\.5"):
        boxel.evaluate({"a": GOOD}, TRUTH, config=0.5)


def test_what_is_neither_arrays_nor_a_folder_is_refused():
    with pytest.raises(TypeError, match="must be folders, or mappings or lists of cases, got ndarray"):
        boxel.evaluate(np.zeros((1, 2, 2)), TRUTH)


def test_a_file_in_place_of_the_folder_to_write_is_kept(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ValueError, match="out: is a file; choose a folder"):
        boxel.evaluate({"a": GOOD}, TRUTH, tmp_path / "out", config=QUICK)
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize("protocol", ["boxel", "coco"])
def test_arrays_are_compared_too(ndim, protocol, tmp_path):
    truth = {name: {"boxes": [box(ndim)], "labels": [0]} for name in "abc"}
    good = {name: {**one, "scores": [0.9]} for name, one in truth.items()}
    config = {"protocol": protocol, "num_resamples": 50}
    name = {"boxel": "AP@0.50/cyst", "coco": "AP50/cyst"}[protocol]
    result = boxel.compare({}, good, truth, tmp_path / "out.json", classes=["cyst"], config=config)
    assert (result["metrics"][name]["a"], result["metrics"][name]["b"]) == (0, 1)
    assert result["metrics"][name]["difference"] == 1
    boxel.compare(list(good.values()), list(good.values()), list(truth.values()), tmp_path / "out.json", config=config)
    with pytest.raises(ValueError, match="arrays for both"):
        boxel.compare({}, tmp_path, truth)
    with pytest.raises(ValueError, match="case 'z' is predicted"):
        boxel.compare({}, {"z": good["a"]}, truth)


def test_records_are_taken_as_well_and_classes_have_names(ndim):
    boxes = np.array([box(ndim)], np.float32)
    detections = {"a": Detections(boxes, np.array([0.9], np.float32), np.array([0]))}
    objects = {"a": Instances.from_boxes(boxes, [0])}
    result = boxel.evaluate(detections, objects, classes=["cyst"], config=QUICK)
    assert result.metrics["AP@0.50/cyst"] == 1
    assert str(result).splitlines()[1].split() == ["AP@0.10", "1.000"]


def test_a_case_without_predictions_and_a_negative_case_are_normal(ndim):
    empty = {"boxes": [], "labels": []}
    truth = {"a": {"boxes": [box(ndim)], "labels": [0]}, "b": empty}
    metrics = boxel.evaluate({}, truth, config=QUICK).metrics
    assert (metrics["AP@0.10"], metrics["num_images"], metrics["num_detections"]) == (0, 2, 0)
    assert boxel.evaluate({"b": {**empty, "scores": []}}, {"b": empty}, config=QUICK).metrics["AP@0.10"] is None


def test_patients_group_cases():
    truth = {name: {"boxes": [box(2)], "labels": [0]} for name in "abc"}
    metrics = boxel.evaluate({}, truth, groups=dict(zip("abc", "ppq", strict=True)), config=QUICK).metrics
    assert (metrics["num_images"], metrics["num_groups"]) == (3, 2)


GOOD = {"boxes": [box(2)], "scores": [0.9], "labels": [0]}
TRUTH = {"a": {"boxes": [box(2)], "labels": [0]}}


@pytest.mark.parametrize(
    ("predictions", "says"),
    [
        ({"z": GOOD}, "case 'z' is predicted, but the ground truth does not have it"),
        ({"a": {**GOOD, "scores": [0.9, 0.1]}}, r"case 'a': scores must have shape \(1,\)"),
        ({"a": {**GOOD, "boxes": [[0, 0, 9, 9]]}}, r"case 'a': boxes must have shape \(n, 2, ndim\)"),
        ({"a": {**GOOD, "score": [1]}}, "case 'a': must be a mapping with boxes, scores, labels"),
        ({"a": [1, 2]}, "case 'a': must be a mapping"),
        ({"a": {**GOOD, "scores": [1.5]}}, "'a'.*score"),
        ({"a": {**GOOD, "scores": ["high"]}}, "case 'a': scores must be numbers"),
        ({"a": {**GOOD, "boxes": [[[0, 0], [9]]]}}, "case 'a': boxes must be an array"),
        ({"a": {**GOOD, "boxes": [[[9, 9], [0, 0]]]}}, "case 'a': boxes must have the lower corner first"),
        ({"a": {**GOOD, "labels": [0.7]}}, "case 'a': labels must be class indices"),
        ({"a": {**GOOD, "labels": [-1]}}, "case 'a': labels must be class indices, 0 or more"),
        ({"a": {**GOOD, "labels": [3]}}, "'a'.*class index"),
        ({"a": {**GOOD, "boxes": [[[0, 0], [np.nan, 9]]]}}, "'a'.*finite"),
        ({"a": {**GOOD, "boxes": [[[0, 0, 0], [9, 9, 9]]]}}, "'a'.*axes"),
    ],
)
def test_what_is_wrong_names_the_case(predictions, says):
    with pytest.raises(ValueError, match=says):
        boxel.evaluate(predictions, TRUTH, classes=["x"], config=QUICK)


def test_tensors_of_a_network_need_no_detach():
    network = {"boxes": torch.tensor([box(2)], dtype=torch.float32), "scores": torch.tensor([0.9])}
    detections = {name: tensor.requires_grad_() for name, tensor in network.items()} | {"labels": torch.tensor([0])}
    assert boxel.evaluate({"a": detections}, TRUTH, config=QUICK).metrics["AP@0.50"] == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"ignore": "ignored.json"}, "ignore and source describe folders"),
        ({"source": "coco"}, "ignore and source describe folders"),
        ({"groups": {"z": "p"}}, "groups: case 'z' is not in the ground truth"),
        ({"classes": "cyst"}, r"write \['cyst'\]"),
    ],
)
def test_arguments_that_arrays_would_not_use_are_refused(arguments, says):
    with pytest.raises(ValueError, match=says):
        boxel.evaluate({"a": GOOD}, TRUTH, config=QUICK, **arguments)


def test_arrays_and_folders_do_not_mix(tmp_path):
    with pytest.raises(ValueError, match="arrays for both"):
        boxel.evaluate({"a": GOOD}, tmp_path)
    with pytest.raises(ValueError, match="needs files"):
        boxel.evaluate({"a": GOOD}, TRUTH, config=EvaluateConfig(criterion="mask_iou"))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"protocol": "coco", "rule": "mdt"}, "protocol coco fixes .* leave out rule"),
        ({"iou_thresholds": (0.5, 0.5)}, "different numbers"),
        ({"iou_threshold": (0.5,)}, "did you mean 'iou_thresholds'"),
        ({"operating_points": (2.0,)}, "operating_points.0: .*less than or equal to 1"),
        ({"size_limits": (0.0,)}, "size_limits.0: .*greater than 0"),
        ({"num_resamples": -1}, "num_resamples: .*greater than or equal to 0"),
        ({"iou_thresholds": (0.0,)}, "iou_thresholds.0: .*greater than 0"),
        ({"iou_thresholds": (0.5, 5.0), "criterion": "mask_iou"}, "iou_thresholds of mask_iou must be at most 1"),
        ({"iou_thresholds": ()}, "iou_thresholds: .*at least 1 item"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, says):
    for build in (EvaluateConfig.from_dict, lambda values: EvaluateConfig(**values)):
        with pytest.raises(ValueError, match=says):
            build(settings)


def test_a_radius_may_be_longer_than_a_voxel():
    assert EvaluateConfig(iou_thresholds=(5.0,), criterion="centre_distance").reported == (5.0,)


@pytest.mark.parametrize("protocol", ["boxel", "coco", "luna16"])
def test_no_metric_takes_a_name_that_the_evaluation_computes(protocol):
    """Every name that an evaluation gives is refused when it is registered."""
    if protocol == "luna16":
        tables = Luna16Tables(("a",), {"a": Instances.from_boxes(np.array([box(3)]), [0])}, {})
        result = evaluate_luna16({}, tables, config=EvaluateConfig(protocol="luna16", num_resamples=2))
    else:
        result = boxel.evaluate({"a": GOOD}, TRUTH, config=EvaluateConfig(protocol=protocol, num_resamples=2))
    names = {re.split("[@/]", key)[0] for key in result.metrics}
    assert len(names) > 5
    for name in names:
        with pytest.raises(ValueError, match=f"metric name '{name}': "):
            boxel.register_metric(name, lambda matches: matches.num_objects)


def test_a_function_that_returns_such_a_name_is_named():
    boxel.register_metric("mine", lambda matches: {"FROC": matches.num_objects})
    with pytest.raises(ValueError, match="metric 'mine': its function returned 'FROC', which Boxel computes itself"):
        boxel.evaluate({"a": GOOD}, TRUTH, config=QUICK)


def test_two_metrics_that_return_one_name_are_named():
    for name in ("first", "second"):
        boxel.register_metric(name, lambda matches: {"shared": matches.num_objects})
    with pytest.raises(ValueError, match=r"'second': its function returned 'shared', .* of the metric 'first'"):
        boxel.evaluate({"a": GOOD}, TRUTH, config=QUICK)


@pytest.mark.parametrize("result", [None, "text", [[1, 2], [3]]])
def test_a_metric_that_returns_no_numbers_is_named(result):
    boxel.register_metric("odd", lambda matches: result)
    with pytest.raises(ValueError, match="metric 'odd': "):
        boxel.evaluate({"a": GOOD}, TRUTH, config=QUICK)


def test_a_protocol_says_that_it_leaves_out_the_metrics_of_the_user():
    boxel.register_metric("mine", lambda matches: matches.num_objects)
    with pytest.warns(UserWarning, match="protocol coco computes its own metrics only, not mine"):
        result = boxel.evaluate({"a": GOOD}, TRUTH, config=EvaluateConfig(protocol="coco", num_resamples=0))
    assert not any("mine" in key for key in result.metrics)


def test_a_metric_of_the_wrong_shape_is_named():
    boxel.register_metric("flat", lambda matches: np.zeros(3))
    with pytest.raises(ValueError, match=r"metric 'flat': its function returned an array of shape \(3,\)"):
        boxel.evaluate({"a": GOOD}, TRUTH, config=QUICK)
    with pytest.raises(ValueError, match="metric 'flat' is registered already"):
        boxel.register_metric("flat", lambda matches: matches.num_objects)
    with pytest.raises(ValueError, match="letters, digits"):
        boxel.register_metric("my metric", lambda matches: matches.num_objects)
