"""Patient metrics against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from boxel.types import Detections, Instances
from tests.settings import evaluate


def test_patient_metrics_are_those_of_scikit_learn(rng, ndim):
    ground_truth, predictions, groups = {}, {}, {}
    for case in range(300):
        n, m = rng.integers(0, 2, 2) if case % 2 else (0, int(rng.integers(0, 3)))
        box = np.tile(np.array([[0.0] * ndim, [10.0] * ndim]), (max(n, m, 1), 1, 1))
        ground_truth[f"c{case}"] = Instances(box[:n], np.zeros(n, int), np.arange(n), np.zeros(n, bool))
        scores = rng.integers(0, 20, m) / 20  # ties
        predictions[f"c{case}"] = Detections(box[:m], scores, np.zeros(m, int))
        groups[f"c{case}"] = f"p{case // 3}"
    metrics = evaluate(predictions, ground_truth, classes=["x"], groups=groups, num_resamples=0).metrics
    patients = sorted(set(groups.values()))
    of = {p: [case for case, owner in groups.items() if owner == p] for p in patients}
    truth = [any(len(ground_truth[case]) for case in of[p]) for p in patients]
    score = [max((s for case in of[p] for s in predictions[case].scores), default=0.0) for p in patients]
    assert 0 < sum(truth) < len(truth)
    assert metrics["patient_AP"] == pytest.approx(average_precision_score(truth, score))
    assert metrics["patient_AUROC"] == pytest.approx(roc_auc_score(truth, score))
