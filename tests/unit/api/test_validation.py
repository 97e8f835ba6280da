"""The metric that ranks checkpoints: any that the evaluation computes, and no other."""

import json
from pathlib import Path

import numpy as np
import pytest

import boxel
from boxel import plugins
from boxel.api.run_plugins import require_plugins
from boxel.api.validation import check_metric, compute
from boxel.plugins import Registry
from boxel.types import Detections, Instances
from tests.settings import evaluate

CLASSES = ("benign", "malignant")
METRIC = Path(__file__).parents[3] / "examples" / "my_metric.py"
QUICK = (
    "train.steps=2", "train.validate_every=1", "train.batch_size=1", "train.num_workers=0", "train.accelerator=cpu",
    "model.backbone.start_filters=4", "model.backbone.depth=10", "model.dense.min_score=0.0",
    "consolidate.min_score=0.0",
)  # fmt: skip


@pytest.fixture
def ground_truth(ndim) -> dict[str, Instances]:
    """Two cases with an object of each class, 10 wide, and one without."""
    boxes = np.array([[[0] * ndim, [10] * ndim], [[20] * ndim, [30] * ndim]], np.float32)
    objects = Instances(boxes, np.array([0, 1]), np.array([1, 2]), np.zeros(2, bool))
    return {"a": objects, "b": objects, "c": Instances.empty(ndim)}


@pytest.fixture
def detections(ground_truth, ndim) -> dict[str, Detections]:
    """The objects shifted by 2 along one axis (IoU 8/12), those of class 1 by 5 (IoU 5/15)."""
    shift = np.zeros((2, 1, ndim), np.float32)
    shift[:, 0, 0] = 2, 5
    return {
        case: Detections(objects.boxes + shift[: len(objects)], np.full(len(objects), 0.5, np.float32), objects.labels)
        for case, objects in ground_truth.items()
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AP@0.10", 1.0),
        ("AP@0.30", 1.0),
        ("AP@0.35", 0.5),  # the boxes of class 1 are too far off
        ("AP@0.66/benign", 1.0),
        ("AP@0.67/benign", 0.0),
        ("F1@0.35", 0.5),  # the evaluation has F1 at its first and last threshold only
        ("F1@0.10/score=0.6", 0.0),  # above the scores
        ("F1@0.10/score=0.4", 1.0),
        ("mAP@0.30:0.35", 0.75),
        ("mean_iou@0.30", 0.5),  # the mean of 2/3 and 1/3
        ("patient_AUROC", 1.0),
    ],
)
def test_checkpoints_may_be_ranked_by_any_metric_at_any_threshold(ground_truth, detections, name, value, caplog):
    check_metric(name, ground_truth, CLASSES)
    assert not caplog.records
    assert compute(detections, ground_truth, CLASSES, name)[name] == pytest.approx(value, abs=1e-6)


def test_a_metric_that_is_computed_again_is_that_of_the_evaluation(ground_truth, detections):
    expected = evaluate(detections, ground_truth, classes=CLASSES, num_resamples=0).metrics
    metrics = compute(detections, ground_truth, CLASSES, "AP@0.33")
    assert {key: metrics[key] for key in ("AP@0.10", "mAP@0.10:0.50")} == {
        key: expected[key] for key in ("AP@0.10", "mAP@0.10:0.50")
    }


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("AP@0.3", "did you mean 'AP@0.30'"),
        ("AP", "is not a metric"),
        ("AP@1.50", "is not a metric"),
        ("mAP@0.50:0.10", "is not a metric"),
        ("AP@0.10/benin", "is not a metric"),
        ("ECE@0.10", "does not grow"),
        ("num_detections", "does not grow"),
        ("settings", "does not grow"),
        ("AP@0.10/ci95", "is not a metric"),
    ],
)
def test_a_metric_that_cannot_rank_is_refused_with_the_nearest_ones(ground_truth, name, message):
    with pytest.raises(ValueError, match=rf"train.select_by='{name}' .*{message}.*The nearest of \d+: .*AP"):
        check_metric(name, ground_truth, CLASSES)


def test_a_metric_of_users_ranks_if_it_says_that_higher_is_better(ground_truth, detections):
    boxel.register_metric("share", lambda m: m.sum_objects(m.table.detected) / m.num_objects, higher_is_better=True)
    boxel.register_metric("errors", lambda m: m.sum_detections(m.table.false_positives))
    check_metric("share@0.35", ground_truth, CLASSES)
    assert compute(detections, ground_truth, CLASSES, "share@0.35")["share@0.35"] == 0.5
    with pytest.raises(ValueError, match="does not grow"):
        check_metric("errors@0.35", ground_truth, CLASSES)


def test_a_metric_that_the_cases_do_not_define_is_reported(ndim, caplog):
    check_metric("AP@0.10", {"a": Instances.empty(ndim)}, CLASSES)
    assert "not defined on the validation cases" in caplog.text


@pytest.mark.parametrize("ndim", [2], indirect=True, ids=["2d"])
def test_training_ranks_by_the_metric_chosen_and_refuses_others_before_it_starts(native, tmp_path):
    boxel.prepare(native, tmp_path / "work", recipe="retina_unet_small", overrides=QUICK, num_folds=3, workers=0)
    common = {"recipe": "retina_unet_small"}
    with pytest.raises(ValueError, match=r"did you mean 'AR@0\.30'"):
        boxel.train(tmp_path / "work", tmp_path / "no", overrides=[*QUICK, "train.select_by=AR@.30"], **common)
    assert not (tmp_path / "no").exists()
    run = boxel.train(tmp_path / "work", tmp_path / "run", overrides=[*QUICK, "train.select_by=AR@0.03"], **common)
    log = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    ranking = json.loads((run / "checkpoints" / "ranking.json").read_text())
    assert ranking[0]["score"] == max(step["val/AR@0.03"] for step in log)


@pytest.mark.parametrize("ndim", [2], indirect=True, ids=["2d"])
def test_a_metric_of_ones_own_is_needed_for_training_and_not_for_prediction(native, tmp_path, monkeypatch):
    boxel.prepare(native, tmp_path / "work", recipe="retina_unet_small", overrides=QUICK, num_folds=3, workers=0)
    common = {"recipe": "retina_unet_small", "overrides": [*QUICK, "train.select_by=F2@0.50"]}
    boxel.load_plugin(METRIC)
    run = boxel.train(tmp_path / "work", tmp_path / "run", **common)
    fingerprint = boxel.load(run).fingerprint
    monkeypatch.setattr(plugins, "_plugins", {})
    registry = next(registry for registry in Registry.known if registry.kind == "metric")
    del registry["F2"]
    assert boxel.load(run).fingerprint == fingerprint
    with pytest.raises(ValueError, match=r"F2@0\.50.*is not a metric of the evaluation"):
        boxel.train(tmp_path / "work", tmp_path / "run", **common)
    require_plugins(run, trust=True)  # `boxel train --trust`
    assert boxel.train(tmp_path / "work", tmp_path / "run", **common) == run


@pytest.mark.parametrize("ndim", [2], indirect=True, ids=["2d"])
def test_the_last_checkpoints_are_kept_where_no_metric_ranks(native, tmp_path):
    boxel.prepare(native, tmp_path / "work", recipe="retina_unet_small", overrides=QUICK, num_folds=3, workers=0)
    overrides = [*QUICK, "train.steps=3", "train.validate_every=1", "train.keep=2", "train.select_by=last"]
    run = boxel.train(tmp_path / "work", tmp_path / "run", recipe="retina_unet_small", overrides=overrides)
    ranking = json.loads((run / "checkpoints" / "ranking.json").read_text())
    assert [entry["step"] for entry in ranking] == [3, 2]
    assert (run / "weights.safetensors").read_bytes() == (run / "checkpoints" / ranking[0]["file"]).read_bytes()
    assert "val/AP@0.10" in (run / "metrics.jsonl").read_text()  # it is validated all the same
