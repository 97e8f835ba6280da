"""Patient level: has the patient an object of the class? The score is that of the highest detection."""

import numpy as np

from boxel.evaluation.average_precision import Ranking
from boxel.evaluation.matching import MatchTable


def patient_ranking(table: MatchTable, groups: np.ndarray, label: int) -> Ranking:
    """The groups by their highest detection (0 without one); a true positive is a group with an object of the class.

    Args:
        table: matched cases; the matching itself plays no role, only ignored detections and objects are left out.
        groups: `(cases,)` group index `0..g-1` of each case of the table.
        label: the class.
    """
    num_groups = int(groups.max()) + 1
    scores = np.zeros(num_groups)
    ground_truth = np.zeros(num_groups, dtype=bool)
    rows = (table.labels == label) & ~table.ignored
    np.maximum.at(scores, groups[table.detection_cases[rows]], table.scores[rows])
    ground_truth[groups[table.object_cases[(table.object_labels == label) & ~table.object_ignored]]] = True
    return Ranking.sort(scores, ground_truth, np.arange(num_groups), ground_truth.astype(np.float64))


def auroc(true_positives: np.ndarray, false_positives: np.ndarray) -> np.ndarray:
    """`(r,)` probability that a positive scores higher than a negative, ties half; nan unless there are both.

    Args:
        true_positives: `(r, t)` positives at descending thresholds, the last of which all reach.
        false_positives: `(r, t)` negatives.
    """
    pairs = true_positives[:, -1] * false_positives[:, -1]
    above = np.diff(false_positives, axis=1, prepend=0.0)
    before = np.pad(true_positives[:, :-1], ((0, 0), (1, 0)))
    area = np.sum(above * (before + true_positives) / 2, axis=1)
    return np.divide(area, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)
